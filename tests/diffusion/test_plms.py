"""PLMS takes the steps of the code that M3DDM runs, to its published toy trajectory and to diffusers."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from diffusers import PNDMScheduler

from gp_jax.diffusion.plms import plms_timesteps, sample_plms
from gp_jax.diffusion.schedules import NoiseSchedule

SCHEDULE = NoiseSchedule.from_config(
    {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
        "set_alpha_to_one": False,
        "_class_name": "PNDMScheduler",
        "skip_prk_steps": True,
    }
)


def trajectory(steps=50):
    seen = []

    def denoise(x, t):
        jax.debug.callback(lambda x: seen.append(float(x)), x, ordered=True)
        return 0.5 * jnp.sin(x + 0.01 * t)

    last = jax.jit(lambda x: sample_plms(denoise, x, SCHEDULE, steps=steps))(jnp.float32(1))
    jax.effects_barrier()
    return [*seen[1:], float(last)]


def test_toy_trajectory():
    found = trajectory()
    np.testing.assert_allclose(found[:3], [1.174305011, 1.181530419, 1.370587856], rtol=1e-6)
    np.testing.assert_allclose(found[-1], 15.478428671, rtol=5e-6)
    assert len(found) == 50


def test_timesteps():
    timesteps = plms_timesteps(SCHEDULE, 50)
    np.testing.assert_array_equal(timesteps[:4], [961, 961, 941, 921])
    np.testing.assert_array_equal(timesteps[-2:], [21, 1])


def test_every_step_equals_diffusers_entered_at_the_second_place():
    theirs = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    theirs.set_timesteps(25)
    x, expected = torch.tensor(1.0), []
    for t in theirs.timesteps[1:]:
        x = theirs.step(0.5 * torch.sin(x + 0.01 * t), int(t), x).prev_sample
        expected.append(float(x))
    np.testing.assert_allclose(trajectory(25), expected, rtol=1e-5)
