"""The schedule equals diffusers', and adding noise and taking it away are inverse."""

import dataclasses

import diffusers
import jax
import numpy as np
import pytest
from diffusers import DDIMScheduler

from gp_jax.diffusion.schedules import PREDICTIONS, SCHEDULERS, SPACINGS, NoiseSchedule
from gp_jax.errors import UserError

# As in the scheduler/ folders of Stable Diffusion 1.5 and 2, options of other samplers included.
STABLE_DIFFUSION = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.8.0",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
T = np.array([0, 1, 417, 998, 999])


def schedule(**changes) -> NoiseSchedule:
    return NoiseSchedule.from_config({**STABLE_DIFFUSION, **changes})


def latents(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((5, 2, 3, 1, 4), np.float32)


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("betas", ["linear", "scaled_linear"])
def test_rates_are_those_of_diffusers(betas, rescale):
    ours = schedule(beta_schedule=betas, prediction_type="v_prediction", rescale_betas_zero_snr=rescale)
    twin = DDIMScheduler.from_config(ours.to_config())
    np.testing.assert_allclose(ours.alpha**2, twin.alphas_cumprod, atol=1e-6)
    assert (ours.alpha[-1] == 0) == rescale


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_timesteps_are_those_of_diffusers_for_every_number_of_steps(spacing, offset):
    ours = schedule(timestep_spacing=spacing, steps_offset=offset)
    twin = DDIMScheduler.from_config(ours.to_config())
    for steps in range(1, 1000):
        twin.set_timesteps(steps)
        # With "trailing", rounding sometimes gives diffusers one timestep too many, -1, at the end.
        np.testing.assert_array_equal(ours.timesteps(steps), twin.timesteps[:steps], err_msg=f"{steps} steps")


def test_a_config_survives_the_round_trip():
    ours = schedule(prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True)
    assert NoiseSchedule.from_config(ours.to_config()) == ours


@pytest.mark.parametrize(
    ("prediction_type", "rescale"),
    [*((name, False) for name in PREDICTIONS), ("v_prediction", True), ("sample", True)],
)
def test_a_perfect_prediction_gives_back_the_clean_latent(prediction_type, rescale):
    ours = schedule(prediction_type=prediction_type, rescale_betas_zero_snr=rescale)
    clean, noise = latents(0), latents(1)
    noisy, target = ours.add_noise(clean, noise, T), ours.target(clean, noise, T)
    np.testing.assert_allclose(ours.to_clean(target, noisy, T), clean, atol=2e-5)


def test_noise_and_velocity_are_those_of_diffusers():
    import torch

    ours = schedule(prediction_type="v_prediction")
    twin = DDIMScheduler.from_config(ours.to_config())
    clean, noise, t = torch.tensor(latents(0)), torch.tensor(latents(1)), torch.tensor(T)
    np.testing.assert_allclose(
        ours.add_noise(clean.numpy(), noise.numpy(), T), twin.add_noise(clean, noise, t), atol=1e-5
    )
    np.testing.assert_allclose(
        ours.target(clean.numpy(), noise.numpy(), T), twin.get_velocity(clean, noise, t), atol=1e-5
    )


def test_snr_falls_to_zero_exactly_when_asked():
    every = np.arange(1000)
    for rescale in (False, True):
        snr = schedule(prediction_type="v_prediction", rescale_betas_zero_snr=rescale).snr(every)
        assert (np.diff(snr) < 0).all()
        assert (snr[-1] == 0) == rescale


def test_a_schedule_is_static_to_jit():
    noisy = jax.jit(lambda ours, clean: ours.add_noise(clean, clean, T))(schedule(), latents(0))
    np.testing.assert_allclose(noisy, schedule().add_noise(latents(0), latents(0), T), atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"beta_schedule": "squaredcos_cap_v2"},
        {"prediction_type": "flow"},
        {"timestep_spacing": "karras"},
        {"clip_sample": True},
        {"thresholding": True},
        {"trained_betas": [0.1, 0.2]},
        {"use_karras_sigmas": True},
        {"use_lu_lambdas": True},
        {"algorithm_type": "sde-dpmsolver++"},
        {"final_sigmas_type": "sigma_min"},
        {"variance_type": "learned_range"},
        {"steps_offset": "1"},
        {"num_train_timesteps": 10**9},
        {"beta_end": 1.5},
        {"num_train_timesteps": 1},
        {"rescale_betas_zero_snr": True},  # predicting noise
    ],
    ids=str,
)
def test_what_cannot_be_honoured_is_refused(changes):
    with pytest.raises(UserError, match=next(iter(changes)).split("_")[0]):
        schedule(**changes)


@pytest.mark.parametrize(
    "name", ["CMStochasticIterativeScheduler", "FlowMatchEulerDiscreteScheduler", "EDMEulerScheduler", "TCD", 3, []]
)
def test_schedulers_of_another_kind_are_refused_by_name(name):
    with pytest.raises(UserError, match="_class_name"):
        schedule(_class_name=name)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_what_a_file_leaves_out_is_what_its_class_takes(name):
    """As its diffusers class says it from the same file, timesteps and noise levels included."""
    config = {"_class_name": name, "prediction_type": "v_prediction", "clip_sample": False}
    ours, twin = NoiseSchedule.from_config(config), getattr(diffusers, name).from_config(config)
    np.testing.assert_allclose(ours.alpha**2, twin.alphas_cumprod, atol=1e-6)
    if name in ("DDIMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "LMSDiscreteScheduler"):
        twin.set_timesteps(7)
        positions = ours.timesteps(7) if name == "DDIMScheduler" else ours.positions(7)
        np.testing.assert_allclose(positions, twin.timesteps, atol=1e-3)


@pytest.mark.parametrize("steps", [0, 1000, 1001])  # 1000 steps with an offset of 1 would begin at timestep 1000
def test_too_many_or_too_few_steps_are_refused(steps):
    with pytest.raises(UserError, match=f"{steps} sampling steps"):
        schedule().timesteps(steps)
    assert dataclasses.replace(schedule(), steps_offset=0).timesteps(1000)[0] == 999
