"""Each sampler equals its diffusers twin at every step, and finds the clean latent that the network knows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

from gp_jax.diffusion.samplers import follow, rest, sample, trajectory
from gp_jax.diffusion.schedules import PREDICTIONS, SPACINGS, NoiseSchedule
from gp_jax.diffusion.tables import SAMPLERS
from gp_jax.errors import UserError

# Those that always reach the clean latent and add no noise; the others are in test_few_steps.py.
PLAIN = "ddim", "dpmpp_2m", "euler"
TWINS = {"ddim": DDIMScheduler, "dpmpp_2m": DPMSolverMultistepScheduler, "euler": EulerDiscreteScheduler}
STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULES = {
    "sd15": {**STABLE_DIFFUSION, "steps_offset": 1, "set_alpha_to_one": False},
    "sd2": {**STABLE_DIFFUSION, "steps_offset": 1, "set_alpha_to_one": False, "prediction_type": "v_prediction"},
    "sample": {**STABLE_DIFFUSION, "prediction_type": "sample"},
    "trailing": {**STABLE_DIFFUSION, "timestep_spacing": "trailing"},
    "linspace": {**STABLE_DIFFUSION, "timestep_spacing": "linspace", "prediction_type": "v_prediction"},
    "zero_snr": {
        **STABLE_DIFFUSION,
        "timestep_spacing": "trailing",
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
    },
    # Several of its levels have less signal than the smallest number that diffusers puts in the place of none.
    "zero_snr_linear": {
        "timestep_spacing": "trailing",
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
    },
}
NOISE = np.random.default_rng(0).standard_normal((2, 3, 5, 3, 4), np.float32)


def fake_network(library, prediction_type: str, latents, timestep):
    """Nonlinear in the latents and the time, yet near enough to a prediction that a trajectory keeps its scale."""
    time = timestep / 1000
    wave = library.sin(2 * latents + 5 * time)
    guess = {
        "epsilon": lambda: time * latents + 0.2 * (1 - time) * wave,
        "v_prediction": lambda: 0.5 * (1 - time) * latents - time * wave,
        "sample": lambda: wave,
    }
    return guess[prediction_type]()


def twin_trajectory(sampler: str, schedule: NoiseSchedule, steps: int) -> list[np.ndarray]:
    """What the network sees at every step of the diffusers twin, and the result."""
    twin = TWINS[sampler].from_config({**schedule.to_config(), "_class_name": TWINS[sampler].__name__})
    twin.set_timesteps(steps)
    latents = torch.tensor(NOISE, dtype=torch.float32) * twin.init_noise_sigma
    seen = []
    for timestep in twin.timesteps:
        given = twin.scale_model_input(latents, timestep)
        seen.append(given.numpy())
        prediction = fake_network(torch, schedule.prediction_type, given, timestep)
        latents = twin.step(prediction, timestep, latents).prev_sample
    return [*seen, latents.numpy()]


def our_trajectory(sampler: str, schedule: NoiseSchedule, steps: int) -> list[np.ndarray]:
    seen = []

    def denoise(latents, timestep):
        seen.append(np.asarray(latents))
        return fake_network(jnp, schedule.prediction_type, latents, timestep)

    with jax.disable_jit():
        result = sample(denoise, NOISE, schedule, sampler=sampler, steps=steps)
    return [*seen, np.asarray(result)]


@pytest.mark.parametrize("steps", [1, 2, 7, 25])
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("sampler", PLAIN)
def test_every_step_equals_the_twin(sampler, name, steps):
    schedule = NoiseSchedule.from_config(SCHEDULES[name])
    ours, theirs = our_trajectory(sampler, schedule, steps), twin_trajectory(sampler, schedule, steps)
    # That twin starts from latents of scale 4096, of which float32 keeps three decimals; the next test looks closer.
    atol = 5e-4 if sampler == "euler" and schedule.rescale_betas_zero_snr else 1e-5
    assert len(ours) == len(theirs) == steps + 1
    for step, (here, there) in enumerate(zip(ours, theirs)):
        np.testing.assert_allclose(here, there, atol=atol, rtol=1e-5, err_msg=f"step {step}")


@pytest.mark.parametrize("steps", [1, 2, 7, 25])
def test_euler_with_zero_snr_equals_the_twin_in_double_precision(steps, monkeypatch):
    schedule = NoiseSchedule.from_config(SCHEDULES["zero_snr"])
    ours = our_trajectory("euler", schedule, steps)
    monkeypatch.setattr(torch, "float32", torch.float64)  # the type to which the twin casts its latents
    for step, (here, there) in enumerate(zip(ours, twin_trajectory("euler", schedule, steps))):
        assert there.dtype == np.float64
        np.testing.assert_allclose(here, there, atol=1e-5, err_msg=f"step {step}")


@pytest.mark.parametrize("steps", [250, 500, 999, 1000])
def test_many_steps_with_zero_snr_equal_the_twin(steps):
    schedule = NoiseSchedule.from_config(SCHEDULES["zero_snr_linear"])
    ours, theirs = table_trajectory("dpmpp_2m", schedule, steps), twin_trajectory("dpmpp_2m", schedule, steps)
    np.testing.assert_allclose(ours, theirs[-1], atol=1e-3)


def table_trajectory(sampler: str, schedule: NoiseSchedule, steps: int) -> np.ndarray:
    """The result alone, as one program."""

    def denoise(latents, timestep):
        return fake_network(jnp, schedule.prediction_type, latents, timestep)

    return np.asarray(jax.jit(lambda x: sample(denoise, x, schedule, sampler=sampler, steps=steps))(NOISE))


@pytest.mark.parametrize("name", ["sd15", "sd2", "sample", "zero_snr"])
@pytest.mark.parametrize("sampler", PLAIN)
def test_a_network_that_knows_the_clean_latent_leads_to_it(sampler, name):
    schedule = NoiseSchedule.from_config({**SCHEDULES[name], "set_alpha_to_one": True})
    clean = np.random.default_rng(1).standard_normal(NOISE.shape, np.float32)
    alpha, sigma = jnp.asarray(schedule.alpha, jnp.float32), jnp.asarray(schedule.sigma, jnp.float32)

    def oracle(latents, timestep):
        t = timestep.astype(jnp.int32)
        return schedule.target(clean, (latents - alpha[t] * clean) / sigma[t], t)

    np.testing.assert_allclose(sample(oracle, NOISE, schedule, sampler=sampler, steps=9), clean, atol=1e-5)


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("prediction_type", PREDICTIONS)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("sampler", PLAIN)
def test_tables_of_any_length_are_finite_and_lead_to_the_clean_latent(sampler, spacing, prediction_type, zero_snr):
    if zero_snr and prediction_type == "epsilon":
        return  # refused by the schedule
    schedule = NoiseSchedule(prediction_type=prediction_type, rescale_betas_zero_snr=zero_snr, timestep_spacing=spacing)
    clean = np.random.default_rng(1).standard_normal(50)
    for steps in (1, 2, 3, 10, 500, 999, 1000):
        if (sampler, steps) == ("dpmpp_2m", 1000) and spacing != "trailing":
            with pytest.raises(UserError, match="takes 999 steps at most"):
                SAMPLERS[sampler](schedule, steps)
            continue
        start, table = SAMPLERS[sampler](schedule, steps)
        *columns, fresh = table
        assert fresh is None and all(len(column) == steps and np.isfinite(column).all() for column in columns)
        latents, previous = start * np.random.default_rng(2).standard_normal(50), 0 * clean
        for row in zip(*columns):
            _, noisy_to_clean, prediction_to_clean, keep, clean_weight, previous_weight = row
            # What the prediction has to be for the clean latent to follow of it.
            prediction = (clean - noisy_to_clean * latents) / prediction_to_clean
            estimate = noisy_to_clean * latents + prediction_to_clean * prediction
            latents = keep * latents + clean_weight * estimate + previous_weight * previous
            previous = estimate
            assert abs(latents).max() < 10, "a latent keeps its scale"
        np.testing.assert_allclose(latents, clean, atol=1e-6)


def test_euler_is_ddim_that_goes_all_the_way():
    schedule = NoiseSchedule.from_config({**SCHEDULES["sd2"], "set_alpha_to_one": True})
    network = functools.partial(fake_network, jnp, "v_prediction")
    ddim, euler = (sample(network, NOISE, schedule, sampler=name, steps=10) for name in ("ddim", "euler"))
    np.testing.assert_allclose(ddim, euler, atol=1e-5)


@pytest.mark.parametrize("sampler", PLAIN)
def test_one_program_traces_the_network_once_and_keeps_the_sharding(sampler):
    schedule = NoiseSchedule.from_config(SCHEDULES["sd2"])
    traces = []

    @jax.jit
    def generate(noise):
        def network(latents, timestep):
            traces.append(timestep.shape)
            return fake_network(jnp, "v_prediction", latents, timestep)

        return sample(network, noise, schedule, sampler=sampler, steps=6)

    noise = np.tile(NOISE, (4, 1, 1, 1, 1))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    sharded = generate(jax.device_put(noise, sharding))
    assert traces == [()]
    assert sharded.sharding.is_equivalent_to(sharding, noise.ndim)
    np.testing.assert_allclose(sharded, generate(noise), atol=1e-6)


def test_latents_stay_float32_beside_a_half_precision_network():
    schedule = NoiseSchedule()
    half = sample(lambda latents, _: latents.astype(jnp.bfloat16), jnp.ones((1, 2), jnp.bfloat16), schedule, steps=3)
    assert half.dtype == jnp.float32


@pytest.mark.parametrize(
    ("sampler", "steps", "message"), [("pndm", 5, "ddim, dpmpp_2m, euler"), ("euler", 0, "0 sampl")]
)
def test_unknown_samplers_and_impossible_steps_are_refused(sampler, steps, message):
    with pytest.raises(UserError, match=message):
        sample(lambda latents, _: latents, NOISE, NoiseSchedule(), sampler=sampler, steps=steps)


@pytest.mark.parametrize("strength", [0.1, 0.25, 0.6, 1.0])
@pytest.mark.parametrize("steps", [1, 3, 25])
@pytest.mark.parametrize("name", ["sd2", "sample", "zero_snr"])
@pytest.mark.parametrize("sampler", PLAIN)
def test_the_rest_of_a_way_begins_near_its_end_and_leads_to_it(sampler, name, steps, strength):
    schedule = NoiseSchedule(**SCHEDULES[name] | {"set_alpha_to_one": True})
    path, level = rest(schedule, sampler, steps, strength)
    assert len(path.steps.timestep) == max(1, int(steps * strength))
    assert path.steps.timestep[0] <= strength * 1000 + 1 and np.isclose((level**2).sum(), 1, atol=1e-5)
    assert level[0] > 0.9 if strength == 0.1 else True
    whole = trajectory(schedule, sampler, steps)
    if strength == 1:
        for got, expected in zip(path.steps[:5], whole.steps[:5]):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    clean = jnp.asarray(NOISE[:1])
    begin = level[0] * clean + level[1] * NOISE[1:]

    def denoise(latents, timestep):
        """What a network that knows the clean latent predicts, of the row that has this timestep."""
        row = jnp.argmin(jnp.abs(path.steps.timestep - timestep))
        at = [jnp.asarray(column)[row] for column in (path.steps.noisy_to_clean, path.steps.prediction_to_clean)]
        return (clean - at[0] * latents) / at[1]

    made = jax.jit(lambda: follow(denoise, begin, path, begin=begin))()
    np.testing.assert_allclose(made, clean, atol=2e-3)
