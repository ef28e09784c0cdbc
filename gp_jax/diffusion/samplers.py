"""Samplers: from noise to a clean latent in a few steps, as one compiled loop.

DDIM, DPM-Solver++ 2M and Euler look different in their papers and are one formula. Each asks the network for the clean
latent and moves in a straight line of the current latent, that estimate and at most the estimate before it:

    clean  = noisy_to_clean * latent + prediction_to_clean * denoise(latent, timestep)
    latent = keep * latent + clean_weight * clean + previous_weight * previous_clean

What distinguishes samplers is the weights, so a sampler is a function that tabulates them (in float64, before anything
is compiled), and `sample` is a `jax.lax.scan` over the rows of that table.

    @jax.jit
    def generate(noise, condition):
        return sample(lambda latent, t: network(latent, t, condition), noise, schedule, sampler="ddim", steps=25)

A new sampler of this kind is one function and one entry in `SAMPLERS`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.diffusion.schedules import NoiseSchedule, clean_weights
from gp_jax.errors import UserError
from gp_jax.json_config import short

Column = Any  # numpy's where a table is made, jax's within the program


class Steps(NamedTuple):
    """The rows of a sampler's table, each array [steps]; the names are those of the formula above."""

    timestep: Column
    noisy_to_clean: Column
    prediction_to_clean: Column
    keep: Column
    clean_weight: Column
    previous_weight: Column


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


def ddim(schedule: NoiseSchedule, steps: int) -> tuple[float, Steps]:
    """DDIM without added noise (Song et al., arXiv:2010.02502, eq. 12; diffusers' `DDIMScheduler`, eta 0)."""
    timesteps = schedule.timesteps(steps)
    # As in diffusers, a step leads a fixed stride down, which need not be the next timestep to the digit.
    following = timesteps - schedule.num_train_timesteps // steps
    last = (1.0, 0.0) if schedule.set_alpha_to_one else (schedule.alpha[0], schedule.sigma[0])
    alpha_next = np.where(following < 0, last[0], schedule.alpha[following])
    sigma_next = np.where(following < 0, last[1], schedule.sigma[following])
    here = schedule.alpha[timesteps], schedule.sigma[timesteps]
    return 1.0, _tabulate(schedule, timesteps, here, (alpha_next, sigma_next))


def euler(schedule: NoiseSchedule, steps: int) -> tuple[float, Steps]:
    """Euler steps in sigma / alpha (Karras et al., arXiv:2206.00364; diffusers' `EulerDiscreteScheduler`, no churn).

    In latents of unit variance this is DDIM, but for fractional timesteps, where the noise level is interpolated, and
    for the end, which is always the clean latent.
    """
    timesteps = schedule.positions(steps)
    alpha, sigma = _rates(schedule, timesteps)
    # diffusers begins with noise of the first level's sigma, and with "leading" spacing of the level's full variance.
    start = 1.0 if schedule.timestep_spacing == "leading" else float(sigma[0])
    return start, _tabulate(schedule, timesteps, (alpha, sigma), (_then(alpha, 1.0), _then(sigma, 0.0)))


def dpmpp_2m(schedule: NoiseSchedule, steps: int) -> tuple[float, Steps]:
    """DPM-Solver++ of order 2, midpoint (Lu et al., arXiv:2211.01095, algorithm 2), first order at both ends.

    diffusers' `DPMSolverMultistepScheduler` with its defaults. It counts the end of the trajectory as one of the
    timesteps to be spaced, except with "trailing" spacing.
    """
    timesteps = schedule.timesteps(steps)
    if schedule.timestep_spacing != "trailing":
        if steps == schedule.num_train_timesteps:
            raise UserError(
                f"The sampler dpmpp_2m takes {steps - 1} steps at most with timestep_spacing "
                f"{schedule.timestep_spacing}; choose fewer."
            )
        timesteps = schedule.timesteps(steps + 1)[:-1]
    alpha, sigma = _rates(schedule, timesteps)
    width = np.diff(np.log(alpha / sigma))  # h of the paper
    extrapolation = np.zeros(steps)
    extrapolation[1:-1] = width[1:] / (2 * width[:-1])
    here, there = (alpha, sigma), (_then(alpha, 1.0), _then(sigma, 0.0))
    return 1.0, _tabulate(schedule, timesteps, here, there, extrapolation)


# Each: (schedule, steps) -> (the factor of the initial noise, the table).
SAMPLERS = {"ddim": ddim, "dpmpp_2m": dpmpp_2m, "euler": euler}

_Rates = tuple[np.ndarray, np.ndarray]  # alpha and sigma, each [steps]


def _tabulate(
    schedule: NoiseSchedule,
    timesteps: np.ndarray,
    here: _Rates,
    there: _Rates,
    extrapolation: np.ndarray | float = 0.0,
) -> Steps:
    """The steps that lead from the rates `here` to those `there`, keeping the noise that the clean estimate implies.

    The clean estimate is `(1 + extrapolation) * clean - extrapolation * previous_clean`.
    """
    keep = there[1] / here[1]
    gain = there[0] - here[0] * keep
    return Steps(
        timesteps,
        *clean_weights(schedule.prediction_type, *here),
        keep,
        gain * (1 + extrapolation),
        -gain * extrapolation,
    )


def _rates(schedule: NoiseSchedule, positions: np.ndarray) -> _Rates:
    """alpha and sigma at fractional timesteps, their ratio interpolated linearly."""
    alpha = schedule.alpha.copy()
    if schedule.rescale_betas_zero_snr:
        # No signal has no finite ratio; as in diffusers its square becomes half precision's smallest number. The levels
        # before it stay apart, even those that are smaller: equal ones would be a step of no width.
        alpha[-1] = 2.0**-12
    ratio = np.interp(positions, np.arange(len(alpha)), np.sqrt(1 - alpha**2) / alpha)
    alpha = 1 / np.sqrt(1 + ratio**2)
    return alpha, ratio * alpha


def _then(rates: np.ndarray, last: float) -> np.ndarray:
    """The rate after each step: the next row's, and `last` after the last."""
    return np.append(rates[1:], last)
