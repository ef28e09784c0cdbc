"""PLMS, the pseudo linear multistep sampler (Liu et al. 2022, arXiv 2202.09778), as M3DDM runs it.

A step of DDIM, with an average of the last predictions in the place of the noise:

    latent = keep * latent + weight * (w0 * e + w1 * e1 + w2 * e2 + w3 * e3)         e1 the prediction before e, ...

The first step has no history, so it is taken twice: the prediction at its end is averaged with that at its beginning,
and moves the latent that it began with. Samplers of `samplers.py` know one estimate before the last; this one keeps
four predictions, and is entered at a noise level below the highest, from latents that were noised to it:

    start = schedule.add_noise(initial, noise, plms_timesteps(schedule, 50)[0])
    clean = sample_plms(denoise, start, schedule, steps=50)

Source of the details: diffusers' `PNDMScheduler` with `skip_prk_steps`, whose list of 51 timesteps M3DDM enters at its
second place (https://github.com/alimama-creative/M3DDM-Video-Outpainting).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.diffusion.tables import Column

# Adams-Bashforth weights of the newest prediction, the one before it, ..., by the number of predictions there are.
_MULTISTEP = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
_HISTORY = len(_MULTISTEP)


class _Steps(NamedTuple):
    """The rows of the table: each array [steps], `weights` [steps, 4]."""

    timestep: Column
    keep: Column
    noise: Column
    weights: Column
    again: Column  # True where the latent before the last step is moved, and the prediction is not kept


def plms_timesteps(schedule: NoiseSchedule, steps: int) -> np.ndarray:
    """int [steps], falling: 961, 961, 941, ..., 21, 1 for 50 steps of 1000."""
    stride = schedule.num_train_timesteps // steps
    spaced = np.arange(steps - 1) * stride + schedule.steps_offset
    return np.concatenate([spaced, spaced[-1:]])[::-1]


def sample_plms(
    denoise: Callable[[jax.Array, jax.Array], jax.Array], start: jax.Array, schedule: NoiseSchedule, *, steps: int
) -> jax.Array:
    """Runs the whole trajectory; call it inside a jitted function.

    Args:
      denoise: (latents [B, ...] float32, timestep float32 scalar) -> predicted noise [B, ...], guidance included.
      start: [B, ...], latents at the noise level of the first of `plms_timesteps`.
      schedule: that of the network, which predicts noise.
      steps: the number of calls of `denoise`, at least 3.

    Returns:
      [B, ...] float32, latents at the level of timestep 0.
    """

    def advance(carry: tuple[jax.Array, jax.Array, tuple[jax.Array, ...]], row: _Steps):
        latents, before, history = carry
        predicted = denoise(latents, row.timestep)
        noise = sum(weight * x for weight, x in zip(row.weights, (predicted, *history), strict=True))
        begin = jnp.where(row.again, before, latents)
        kept = tuple(jnp.where(row.again, old, new) for old, new in zip(history, (predicted, *history[:-1])))
        return (row.keep * begin + row.noise * noise, latents, kept), None

    start = start.astype(jnp.float32)
    history = (jnp.zeros_like(start),) * (_HISTORY - 1)
    table = jax.tree.map(jnp.asarray, _table(schedule, steps))
    (latents, _, _), _ = jax.lax.scan(advance, (start, start, history), table)
    return latents


def _table(schedule: NoiseSchedule, steps: int) -> _Steps:
    timesteps = plms_timesteps(schedule, steps)
    stride = schedule.num_train_timesteps // steps
    begin, end = timesteps.copy(), timesteps - stride
    begin[1], end[1] = begin[1] + stride, end[1] + stride  # the second step is the one into its timestep
    alpha, sigma = schedule.alpha[begin], schedule.sigma[begin]
    alpha_next, sigma_next = schedule.alpha[np.maximum(end, 0)], schedule.sigma[np.maximum(end, 0)]
    weights = np.zeros((steps, _HISTORY))
    for row in range(steps):
        known = (0.5, 0.5) if row == 1 else _MULTISTEP[min(max(row - 1, 0), _HISTORY - 1)]
        weights[row, : len(known)] = known
    return _Steps(
        timestep=timesteps.astype(np.float32),
        keep=(alpha_next / alpha).astype(np.float32),
        noise=(sigma_next - alpha_next * sigma / alpha).astype(np.float32),
        weights=weights.astype(np.float32),
        again=np.arange(steps) == 1,
    )
