"""Samplers: from noise to a clean latent in a few steps, as one compiled loop.

DDIM, DPM-Solver++ 2M and Euler look different in their papers and are one formula. Each asks the network for the clean
latent and moves in a straight line of the current latent, that estimate and at most the estimate before it; samplers of
consistency models (LCM, TCD, DMD2) add fresh noise, others have no last term:

    clean  = noisy_to_clean * latent + prediction_to_clean * denoise(latent, timestep)
    latent = keep * latent + clean_weight * clean + previous_weight * previous_clean + fresh_weight * fresh(step)

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
from gp_jax.diffusion.tables import SAMPLERS, TAKE_ETA, Column, Steps, rates
from gp_jax.errors import UserError
from gp_jax.json_config import short

Fresh = Callable[[jax.Array], jax.Array]  # number of the step, int32 scalar -> standard Gaussian noise [B, ...]


def sample(
    denoise: Callable[[jax.Array, jax.Array], jax.Array],
    noise: jax.Array,
    schedule: NoiseSchedule,
    *,
    sampler: str = "ddim",
    steps: int,
    eta: float | None = None,
    fresh: Fresh | None = None,
) -> jax.Array:
    """Runs a whole sampling trajectory whose table is part of the program; see `follow` and `trajectory`.

    Args:
      denoise, noise, fresh: see `follow`.
      schedule, sampler, steps, eta: see `trajectory`.

    Returns:
      [B, ...] float32, the clean latents.

    Raises:
      UserError: as `trajectory`.
    """
    return follow(denoise, noise, trajectory(schedule, sampler, steps, eta), fresh=fresh)


OnStep = Callable[[int, np.ndarray], None]  # (number of the step, latents [B, ...] after it)


class Trajectory(NamedTuple):
    """Numbers, which may be arguments of a compiled program: it depends on how many steps there are, not on which."""

    start: Column  # [], the factor of the initial noise, float32
    steps: Steps  # float32


def trajectory(schedule: NoiseSchedule, sampler: str, steps: int, eta: float | None = None) -> Trajectory:
    """The way from noise to a clean latent.

    Args:
      schedule: the noise schedule that the network was trained with.
      sampler: a name in `SAMPLERS`.
      steps: the number of calls of the network.
      eta: from 0 to 1, how much of the noise is fresh, for samplers in `TAKE_ETA`; None for their default.

    Raises:
      UserError: the sampler is unknown or takes no eta, eta is out of its range, or the schedule has too few timesteps
        for the steps.
    """
    if sampler not in SAMPLERS:
        raise UserError(f"There is no sampler {short(sampler)}; choose one of {', '.join(SAMPLERS)}.")
    if eta is not None and sampler not in TAKE_ETA:
        raise UserError(f"The sampler {sampler} takes no eta; leave it out, or choose {', '.join(TAKE_ETA)}.")
    start, table = SAMPLERS[sampler](schedule, steps, **({} if eta is None else {"eta": eta}))
    return jax.tree.map(np.float32, Trajectory(start, table))


def rest(
    schedule: NoiseSchedule, sampler: str, steps: int, strength: float, eta: float | None = None
) -> tuple[Trajectory, np.ndarray]:
    """The last part of a way, for latents that are nearly right: noised anew and denoised from there (SDEdit, Meng et
    al., arXiv:2108.01073).

    Args:
      schedule, sampler, steps, eta: of the whole way; see `trajectory`. It has more steps where `part` says so.
      strength: how much of the way is left, above 0 and at most 1.

    Returns:
      The steps, and float32 [2], the rates of the clean latents and of noise that they begin with.
    """
    left, whole = part(steps, strength)
    path = trajectory(schedule, sampler, whole, eta)
    table = Steps(*(None if column is None else column[-left:] for column in path.steps))
    # There is no estimate before the first step.
    table.clean_weight[0] += table.previous_weight[0]
    table.previous_weight[0] = 0
    level = np.concatenate(rates(schedule, table.timestep[:1].astype(np.float64)))
    return Trajectory(path.start, table), level.astype(np.float32)


def part(steps: int, strength: float) -> tuple[int, int]:
    """How many steps are the last part of a way, and of how many: where it would have none, the way has more. Of one
    step and a strength of 0.25 it is the last of four."""
    left = max(1, int(steps * strength))
    return left, max(steps, round(left / strength))


def follow(
    denoise: Callable[[jax.Array, jax.Array], jax.Array],
    noise: jax.Array,
    path: Trajectory,
    correct: Callable[[jax.Array], jax.Array] = lambda clean: clean,
    on_step: OnStep | None = None,
    fresh: Fresh | None = None,
    begin: jax.Array | None = None,
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
      on_step: called with the number of each step, from 0 on, and the latents after it, where the first device is.
      fresh: the noise that a step adds; called only if the path has weights for it.
      begin: [B, ...] float32, the noisy latents to go on from, for a path of `rest`; by default noise alone.

    Returns:
      [B, ...] float32, the clean latents.
    """
    assert fresh is not None or path.steps.fresh_weight is None, "this sampler adds noise"

    def advance(carry: tuple[jax.Array, jax.Array], at: tuple[jax.Array, Steps]) -> tuple[Any, None]:
        (latents, previous), (number, row) = carry, at
        clean = correct(row.noisy_to_clean * latents + row.prediction_to_clean * denoise(latents, row.timestep))
        latents = row.keep * latents + row.clean_weight * clean + row.previous_weight * previous
        if fresh is not None and row.fresh_weight is not None:
            latents += row.fresh_weight * fresh(number)
        if on_step is not None:
            # JAX orders callbacks on a single device only; on a mesh its first device makes them, turn after turn.
            jax.debug.callback(on_step, number, latents, ordered=jax.sharding.get_abstract_mesh().empty)
        return (latents, clean), None

    latents = path.start * noise.astype(jnp.float32) if begin is None else begin
    (latents, _), _ = jax.lax.scan(
        advance, (latents, jnp.zeros_like(latents)), (jnp.arange(len(path.steps.timestep)), path.steps)
    )
    return latents
