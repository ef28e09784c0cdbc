"""Samplers of distilled networks: the published trajectories to six digits, their diffusers twins, and what is refused.

The golden numbers were computed by the authors' public code.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler, TCDScheduler

from gp_jax.diffusion.samplers import follow, sample, trajectory
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.diffusion.tables import SAMPLERS, ddim
from gp_jax.errors import UserError
from tests.diffusion.test_samplers import NOISE, STABLE_DIFFUSION, fake_network

SCHEDULE = NoiseSchedule(**STABLE_DIFFUSION, set_alpha_to_one=False)
V = dataclasses.replace(SCHEDULE, prediction_type="v_prediction")
SCHEDULES = {
    "epsilon": SCHEDULE,
    "v": V,
    "sample": dataclasses.replace(SCHEDULE, prediction_type="sample"),
    "zero_snr": dataclasses.replace(V, rescale_betas_zero_snr=True),
}
FRESH = ("lcm", "tcd", "dmd2")
# (sampler, eta, latents after each step) of x = 1, e = sin(x + t / 100) / 2 and fresh noise of 1/4 everywhere.
GOLDEN = [
    ("lcm", None, [21.956029641]),
    ("lcm", None, [11.782062287, 23.064367002]),
    ("lcm", None, [5.260369284, 12.02879997, 19.30938742, 23.75372837]),
    ("tcd", 0.0, [4.530219158, 10.748074308, 16.568661754, 20.29684908]),
    ("tcd", 0.3, [5.032456696, 11.725244148, 18.535093255, 22.560366565]),
    ("tcd", 1.0, [5.257031394, 12.026793935, 19.294404652, 23.721373746]),
    ("ddim_trailing", None, [4.738956706, 10.709520058, 16.699897645, 20.200544293]),
    *(("tcd", eta, [21.932118783]) for eta in (0.0, 0.3, 1.0)),
    ("ddim_trailing", None, [21.932118783]),
]


@pytest.mark.parametrize(("sampler", "eta", "golden"), GOLDEN)
def test_golden_trajectories(sampler, eta, golden):
    _, table = SAMPLERS[sampler](SCHEDULE, len(golden), **({} if eta is None else {"eta": eta}))
    latent, reached = 1.0, []
    for row in range(len(golden)):
        timestep, noisy, prediction, keep, weight, previous, *fresh = (
            0.0 if column is None else column[row] for column in table
        )
        clean = noisy * latent + prediction * np.sin(latent + 0.01 * timestep) / 2
        latent = keep * latent + weight * clean + fresh[0] / 4
        reached.append(latent)
        assert previous == 0
    np.testing.assert_allclose(reached, golden, rtol=1e-6)
    ours = sample(
        lambda x, t: jnp.sin(x + 0.01 * t) / 2,
        jnp.ones(()),
        SCHEDULE,
        sampler=sampler,
        steps=len(golden),
        eta=eta,
        fresh=lambda step: 0.25,
    )
    np.testing.assert_allclose(ours, golden[-1], rtol=1e-5)


@pytest.mark.parametrize(
    ("sampler", "timesteps"),
    [
        ("lcm", [[999], [999, 499], [999, 759, 499, 259], [999, 879, 759, 639, 499, 379, 259, 139]]),
        ("tcd", [[999], [999, 499], [999, 759, 499, 259], [999, 879, 759, 639, 499, 379, 259, 139]]),
        ("dmd2", [[999], [999, 499], [999, 749, 499, 249]]),
        ("ddim_trailing", [[999], [999, 499], [999, 749, 499, 249]]),
    ],
)
def test_timesteps_are_the_published_ones_whatever_the_spacing(sampler, timesteps):
    for spacing in ("leading", "linspace"):
        schedule = dataclasses.replace(SCHEDULE, timestep_spacing=spacing, steps_offset=1)
        for expected in timesteps:
            assert trajectory(schedule, sampler, len(expected)).steps.timestep.tolist() == expected


def twin_trajectory(sampler, schedule, steps, eta, noises, monkeypatch):
    """What diffusers makes of NOISE, with the noises that it draws replaced."""
    config = {key: value for key, value in schedule.to_config().items() if key not in ("_class_name", "shared_noise")}
    cls, more = {
        "lcm": (LCMScheduler, {}),
        "tcd": (TCDScheduler, {}),
        "dmd2": (LCMScheduler, {"timestep_scaling": 1e12}),  # so that no noisy latent is skipped to
        "ddim_trailing": (DDIMScheduler, {"timestep_spacing": "trailing"}),
    }[sampler]
    twin = cls.from_config(config | more)
    fixed = sampler == "dmd2" and {"timesteps": [999, 749, 499, 249][:: 4 // steps]}
    twin.set_timesteps(**(fixed or {"num_inference_steps": steps}))
    drawn = iter(noises)
    for module in ("scheduling_lcm", "scheduling_tcd"):
        path = f"diffusers.schedulers.{module}.randn_tensor"
        monkeypatch.setattr(path, lambda *_, **__: torch.tensor(next(drawn)))
    latents = torch.tensor(NOISE)
    for timestep in twin.timesteps:
        prediction = fake_network(torch, schedule.prediction_type, latents, timestep)
        more = {} if eta is None else {"eta": eta}
        latents = twin.step(prediction, timestep, latents, **more).prev_sample
    return latents.numpy()


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(
    ("sampler", "eta"),
    [("lcm", None), ("tcd", 0.0), ("tcd", 0.3), ("tcd", 1.0), ("dmd2", None), ("ddim_trailing", None)],
)
def test_the_result_equals_the_twin(sampler, eta, name, steps, monkeypatch):
    if sampler == "dmd2" and steps == 8:
        return  # was not published
    schedule = SCHEDULES[name]
    noises = np.random.default_rng(3).standard_normal((steps, *NOISE.shape), np.float32)
    ours = sample(
        functools.partial(fake_network, jnp, schedule.prediction_type),
        NOISE,
        schedule,
        sampler=sampler,
        steps=steps,
        eta=eta,
        fresh=lambda step: jnp.asarray(noises)[step],
    )
    theirs = twin_trajectory(sampler, schedule, steps, eta, noises, monkeypatch)
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * max(1, np.abs(theirs).max()))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("sampler", FRESH)
def test_each_step_of_a_network_that_knows_all_ends_at_the_next_noise_level(sampler, name):
    schedule = SCHEDULES[name]
    for steps in (1, 2, 3, 7, 49, 50):
        start, table = SAMPLERS[sampler](schedule, steps)
        assert start == 1 and all(len(column) == steps and np.isfinite(column).all() for column in table)
        at = table.timestep
        alpha = np.append(schedule.alpha[at[1:]], schedule.alpha[0] if sampler == "tcd" else 1)
        signal = table.keep * schedule.alpha[at] + table.clean_weight
        noise = np.hypot(table.keep * schedule.sigma[at], table.fresh_weight)
        np.testing.assert_allclose(signal, alpha, atol=1e-5)
        np.testing.assert_allclose(noise, np.sqrt(1 - alpha**2), atol=1e-5)
        assert table.fresh_weight[-1] == 0


def test_golden_weights_of_lcm():
    """Of the noisy and of the clean latent at timestep 1, which a schedule of 100 has on its grid, and at 259."""
    hundred = SAMPLERS["lcm"](dataclasses.replace(SCHEDULE, num_train_timesteps=100), 50)[1]
    np.testing.assert_allclose(
        [hundred.timestep[-1], hundred.keep[-1], hundred.clean_weight[-1]], [1, 0.00249377, 0.99875234], rtol=1e-5
    )
    np.testing.assert_allclose(SAMPLERS["lcm"](SCHEDULE, 4)[1].keep[-1], 3.7268e-8, rtol=1e-4)


def test_tcd_without_fresh_noise_is_ddim_on_its_own_timesteps():
    tables = [SAMPLERS["tcd"](SCHEDULE, 1, eta=eta)[1] for eta in (0.0, 0.5, 1.0)]
    trailing = ddim(dataclasses.replace(SCHEDULE, timestep_spacing="trailing"), 1)[1]
    for table in tables:
        np.testing.assert_allclose(table[:6], trailing[:6])
    assert not SAMPLERS["tcd"](SCHEDULE, 8, eta=0.0)[1].fresh_weight.any()


@pytest.mark.parametrize("sampler", FRESH)
def test_a_program_knows_shapes_alone_and_keeps_the_sharding(sampler):
    traces = []

    @jax.jit
    def generate(noise, path):
        def network(latents, timestep):
            traces.append(timestep.shape)
            return fake_network(jnp, "v_prediction", latents, timestep)

        return follow(network, noise, path, fresh=lambda step: jnp.ones_like(noise) * step)

    noise = np.tile(NOISE, (4, 1, 1, 1, 1))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    sharded = generate(jax.device_put(noise, sharding), trajectory(V, sampler, 4))
    assert sharded.sharding.is_equivalent_to(sharding, noise.ndim)
    np.testing.assert_allclose(sharded, generate(noise, trajectory(V, sampler, 4)), atol=1e-6)
    traced = len(traces)
    for other in FRESH:
        generate(noise, trajectory(V, other, 4))
    assert len(traces) == traced


@pytest.mark.parametrize(
    ("sampler", "options", "message"),
    [
        ("lcm", {"steps": 51}, "take 50 steps at most, not 51"),
        ("tcd", {"steps": 0}, "0 sampling steps"),
        ("tcd", {"steps": 2.5}, "whole number"),
        ("lcm", {"steps": True}, "whole number"),
        ("dmd2", {"steps": 1001}, "from 1 to 1000"),
        *(("tcd", {"eta": eta}, "eta is .*from 0") for eta in (-0.1, 1.1, float("nan"), "1", True)),
        ("ddim", {"eta": 0.3}, "ddim takes no eta.*tcd"),
        ("lcm", {"eta": 0.3}, "lcm takes no eta"),
    ],
)
def test_what_cannot_be_is_refused(sampler, options, message):
    with pytest.raises(UserError, match=message):
        trajectory(SCHEDULE, sampler, **{"steps": 4} | options)


def test_a_schedule_without_the_timesteps_is_refused():
    with pytest.raises(UserError, match=r"choose of 50 timesteps.* has 40"):
        trajectory(dataclasses.replace(SCHEDULE, num_train_timesteps=40), "lcm", 4)
