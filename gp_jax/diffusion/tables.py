"""The tables of samplers: what DDIM, DPM-Solver++ 2M and Euler do to a latent in each of their steps, and others.

A sampler is a function from a noise schedule and a number of steps to the weights of samplers.py's formula, a row for
each step, in float64. `euler(schedule, 3)` is (1.0, Steps(timestep=[666, 333, 0], noisy_to_clean=[3.08, 1.37, 1],
...)), the factor of the noise that it begins with and the table.

Networks that were distilled to need 1 to 8 steps come with a sampler that they were distilled for: LCM, TCD, DMD2, or
DDIM from the last timesteps on (Hyper-SD). The first three add fresh noise after each step but the last. Such a sampler
works with any network, but it is only good with its own.

A new sampler of this kind is one function and one entry in `SAMPLERS`. Nothing here imports jax: the command line has
its names from here.
"""

import dataclasses
import numbers
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gp_jax.errors import UserError
from gp_jax.json_config import short

if TYPE_CHECKING:
    from gp_jax.diffusion.schedules import NoiseSchedule

Column = Any  # numpy's where a table is made, jax's within the program


class Steps(NamedTuple):
    """The rows of a sampler's table, each array [steps]; the names are those of the formula above."""

    timestep: Column
    noisy_to_clean: Column
    prediction_to_clean: Column
    keep: Column
    clean_weight: Column
    previous_weight: Column
    fresh_weight: Column | None = None  # None of a sampler that adds no noise: it has a program of its own


def ddim(schedule: "NoiseSchedule", steps: int) -> tuple[float, Steps]:
    """DDIM without added noise (Song et al., arXiv:2010.02502, eq. 12; diffusers' `DDIMScheduler`, eta 0)."""
    timesteps = schedule.timesteps(steps)
    # As in diffusers, a step leads a fixed stride down, which need not be the next timestep to the digit.
    following = timesteps - schedule.num_train_timesteps // steps
    last = (1.0, 0.0) if schedule.set_alpha_to_one else (schedule.alpha[0], schedule.sigma[0])
    alpha_next = np.where(following < 0, last[0], schedule.alpha[following])
    sigma_next = np.where(following < 0, last[1], schedule.sigma[following])
    here = schedule.alpha[timesteps], schedule.sigma[timesteps]
    return 1.0, _tabulate(schedule, timesteps, here, (alpha_next, sigma_next))


def euler(schedule: "NoiseSchedule", steps: int) -> tuple[float, Steps]:
    """Euler steps in sigma / alpha (Karras et al., arXiv:2206.00364; diffusers' `EulerDiscreteScheduler`, no churn).

    In latents of unit variance this is DDIM, but for fractional timesteps, where the noise level is interpolated, and
    for the end, which is always the clean latent.
    """
    timesteps = schedule.positions(steps)
    alpha, sigma = rates(schedule, timesteps)
    # diffusers begins with noise of the first level's sigma, and with "leading" spacing of the level's full variance.
    start = 1.0 if schedule.timestep_spacing == "leading" else float(sigma[0])
    return start, _tabulate(schedule, timesteps, (alpha, sigma), (_then(alpha, 1.0), _then(sigma, 0.0)))


def dpmpp_2m(schedule: "NoiseSchedule", steps: int) -> tuple[float, Steps]:
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
    alpha, sigma = rates(schedule, timesteps)
    width = np.diff(np.log(alpha / sigma))  # h of the paper
    extrapolation = np.zeros(steps)
    extrapolation[1:-1] = width[1:] / (2 * width[:-1])
    here, there = (alpha, sigma), (_then(alpha, 1.0), _then(sigma, 0.0))
    return 1.0, _tabulate(schedule, timesteps, here, there, extrapolation)


def ddim_trailing(schedule: "NoiseSchedule", steps: int) -> tuple[float, Steps]:
    """DDIM that begins at the last timestep, whatever spacing the schedule has: 999, 749, 499, 249.

    What Hyper-SD's files want (Ren et al., arXiv:2404.13686). It ends where the schedule says.
    """
    return ddim(dataclasses.replace(schedule, timestep_spacing="trailing"), steps)


def lcm(schedule: "NoiseSchedule", steps: int) -> tuple[float, Steps]:
    """Multistep sampling of a latent consistency model (Luo et al., arXiv:2310.04378, algorithm 3).

    The network's clean latent and the noisy one are weighed so that timestep 0 would be the identity; between steps
    the result is noised again. diffusers' `LCMScheduler` with its defaults.
    """
    timesteps = _consistency_timesteps(schedule, steps)
    return 1.0, _renoised(schedule, timesteps, *consistency_weights(timesteps))


def dmd2(schedule: "NoiseSchedule", steps: int) -> tuple[float, Steps]:
    """The network's clean latent, noised again between steps (Yin et al., arXiv:2405.14867, section 4.4).

    Timesteps have the trailing spacing: of 4 steps they are the published 999, 749, 499, 249.
    """
    timesteps = dataclasses.replace(schedule, timestep_spacing="trailing").timesteps(steps)
    return 1.0, _renoised(schedule, timesteps, np.zeros(steps), np.ones(steps))


def tcd(schedule: "NoiseSchedule", steps: int, eta: float = 0.3) -> tuple[float, Steps]:
    """Strategic stochastic sampling of a trajectory consistency model (Zheng et al., arXiv:2402.19159, algorithm 4).

    A step leads by DDIM below the next timestep, to (1 - eta) of it, and fresh noise leads back up: eta 0 is DDIM, 1
    nearly LCM. It ends at the noise level of timestep 0. diffusers' `TCDScheduler` with its defaults.

    Args:
      eta: from 0 to 1.

    Raises:
      UserError: eta is not, or the schedule has too few timesteps.
    """
    if isinstance(eta, bool) or not isinstance(eta, numbers.Real) or not 0 <= eta <= 1:
        raise UserError(f"eta is {short(eta)}; it must be from 0, no fresh noise, to 1.")
    timesteps = _consistency_timesteps(schedule, steps)
    following = np.append(timesteps[1:], 0)
    below = np.floor((1 - eta) * following).astype(np.int64)
    here, there = ((schedule.alpha[at], schedule.sigma[at]) for at in (timesteps, below))
    up = schedule.alpha[following] / there[0]  # 1 at the end, where both are timestep 0
    table = _tabulate(schedule, timesteps, here, there)
    return 1.0, table._replace(
        keep=up * table.keep, clean_weight=up * table.clean_weight, fresh_weight=np.sqrt(1 - up**2)
    )


# Each: (schedule, steps) -> (the factor of the initial noise, the table).
SAMPLERS = {
    "ddim": ddim,
    "dpmpp_2m": dpmpp_2m,
    "euler": euler,
    "ddim_trailing": ddim_trailing,
    "lcm": lcm,
    "tcd": tcd,
    "dmd2": dmd2,
}
TAKE_ETA = ("tcd",)  # by keyword
# The largest weight of guidance with which networks of these samplers give pictures; they have learned guidance.
MOST_GUIDANCE = {"lcm": 2.0, "dmd2": 1.0}
_DISTILLED = 50  # the timesteps between which consistency models were taught to jump

_Rates = tuple[np.ndarray, np.ndarray]  # alpha and sigma, each [steps]


def consistency_weights(timesteps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the noisy and of the clean latent in a consistency model's result, each [steps] float64: 1 and 0 at timestep 0
    (c_skip and c_out of arXiv:2310.04378, section 4.1, with the timesteps scaled by 10 as in the authors' code)."""
    scaled = 10.0 * timesteps
    return 0.25 / (scaled**2 + 0.25), scaled / np.sqrt(scaled**2 + 0.25)


def _tabulate(
    schedule: "NoiseSchedule",
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
        *schedule.clean_weights(*here),
        keep,
        gain * (1 + extrapolation),
        -gain * extrapolation,
    )


def _renoised(schedule: "NoiseSchedule", timesteps: np.ndarray, skip: np.ndarray, out: np.ndarray) -> Steps:
    """Steps to `skip * latent + out * clean`, which is noised to the next timestep; not after the last."""
    alpha, sigma = schedule.alpha[timesteps], schedule.sigma[timesteps]
    alpha_next, sigma_next = _then(alpha, 1.0), _then(sigma, 0.0)
    return Steps(
        timesteps,
        *schedule.clean_weights(alpha, sigma),
        keep=alpha_next * skip,
        clean_weight=alpha_next * out,
        previous_weight=np.zeros(len(timesteps)),
        fresh_weight=sigma_next,
    )


def _consistency_timesteps(schedule: "NoiseSchedule", steps: int) -> np.ndarray:
    """int [steps], falling: 999, 759, 499, 259 for 4 steps, an even choice of 999, 979, ..., 19.

    Raises:
      UserError: the schedule or that choice is too short.
    """
    stride = schedule.num_train_timesteps // _DISTILLED
    if not stride:
        raise UserError(
            f"Samplers of consistency models choose of {_DISTILLED} timesteps, and this noise schedule has "
            f"{schedule.num_train_timesteps}: take another sampler."
        )
    schedule.check_steps(steps)
    if steps > _DISTILLED:
        raise UserError(f"Samplers of consistency models, lcm and tcd, take {_DISTILLED} steps at most, not {steps}.")
    grid = np.arange(_DISTILLED, 0, -1) * stride - 1
    return grid[np.floor(np.linspace(0, _DISTILLED, steps, endpoint=False)).astype(np.int64)]


def rates(schedule: "NoiseSchedule", positions: np.ndarray) -> _Rates:
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
