"""Samplers: from noise to a clean latent in a few steps, as one compiled loop.

DDIM, DPM-Solver++ 2M and Euler look different in their papers and are one formula. Each asks the network for the clean
latent and moves in a straight line of the current latent, that estimate and at most the estimate before it:

    clean  = noisy_to_clean * latent + prediction_to_clean * denoise(latent, timestep)
    latent = keep * latent + clean_weight * clean + previous_weight * previous_clean

What distinguishes samplers is the weights, so a sampler is a function that tabulates them in float64 (tables.py) before
anything is compiled, and `sample` is a `jax.lax.scan` over the rows of that table.

    @jax.jit
    def generate(noise, condition):
        return sample(lambda latent, t: network(latent, t, condition), noise, schedule, sampler="ddim", steps=25)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.diffusion.tables import SAMPLERS, Column, Steps
from gp_jax.errors import UserError
from gp_jax.json_config import short


def sample(
    denoise: Callable[[jax.Array, jax.Array], jax.Array],
    noise: jax.Array,
    schedule: NoiseSchedule,
    *,
    sampler: str = "ddim",
    steps: int,
) -> jax.Array:
    """Runs a whole sampling trajectory whose table is part of the program; see `follow` and `trajectory`.

    Args:
      denoise, noise: see `follow`.
      schedule, sampler, steps: see `trajectory`.

    Returns:
      [B, ...] float32, the clean latents.

    Raises:
      UserError: the sampler is unknown, or the schedule has too few timesteps for the steps.
    """
    return follow(denoise, noise, trajectory(schedule, sampler, steps))


OnStep = Callable[[int, np.ndarray], None]  # (number of the step, latents [B, ...] after it)


class Trajectory(NamedTuple):
    """Numbers, which may be arguments of a compiled program: it depends on how many steps there are, not on which."""

    start: Column  # [], the factor of the initial noise, float32
    steps: Steps  # float32


def trajectory(schedule: NoiseSchedule, sampler: str, steps: int) -> Trajectory:
    """The way from noise to a clean latent.

    Args:
      schedule: the noise schedule that the network was trained with.
      sampler: a name in `SAMPLERS`.
      steps: the number of calls of the network.

    Raises:
      UserError: the sampler is unknown, or the schedule has too few timesteps for the steps.
    """
    if sampler not in SAMPLERS:
        raise UserError(f"There is no sampler {short(sampler)}; choose one of {', '.join(SAMPLERS)}.")
    start, table = SAMPLERS[sampler](schedule, steps)
    return Trajectory(np.float32(start), Steps(*(np.asarray(column, np.float32) for column in table)))


def follow(
    denoise: Callable[[jax.Array, jax.Array], jax.Array],
    noise: jax.Array,
    path: Trajectory,
    correct: Callable[[jax.Array], jax.Array] = lambda clean: clean,
    on_step: OnStep | None = None,
) -> jax.Array:
    """Goes all the way.

    Call it inside a jitted function: outside, every call traces the loop anew. Latents stay float32 throughout,
    whatever type the network computes in, and keep the sharding of `noise`.

    Args:
      denoise: (latents [B, ...] float32, timestep float32 scalar) -> the network's prediction [B, ...], of the
        schedule's prediction type, guidance included.
      noise: [B, ...], standard Gaussian.
      path: from `trajectory`.
      correct: what is to be made of each step's clean estimate [B, ...].
      on_step: called on the host with the number of each step, from 0 on, and the latents after it.

    Returns:
      [B, ...] float32, the clean latents.
    """

    def advance(carry: tuple[jax.Array, jax.Array], at: tuple[jax.Array, Steps]) -> tuple[Any, None]:
        (latents, previous), (number, row) = carry, at
        clean = correct(row.noisy_to_clean * latents + row.prediction_to_clean * denoise(latents, row.timestep))
        latents = row.keep * latents + row.clean_weight * clean + row.previous_weight * previous
        if on_step is not None:
            jax.debug.callback(on_step, number, latents, ordered=True)
        return (latents, clean), None

    latents = path.start * noise.astype(jnp.float32)
    (latents, _), _ = jax.lax.scan(
        advance, (latents, jnp.zeros_like(latents)), (jnp.arange(len(path.steps.timestep)), path.steps)
    )
    return latents
