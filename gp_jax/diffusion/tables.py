"""The tables of samplers: what DDIM, DPM-Solver++ 2M and Euler do to a latent in each of their steps.

A sampler is a function from a noise schedule and a number of steps to the weights of samplers.py's formula, a row for
each step, in float64. `euler(schedule, 3)` is (1.0, Steps(timestep=[666, 333, 0], noisy_to_clean=[3.08, 1.37, 1],
...)), the factor of the noise that it begins with and the table.

A new sampler of this kind is one function and one entry in `SAMPLERS`. Nothing here imports jax: the command line has
its names from here.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gp_jax.errors import UserError

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
    alpha, sigma = _rates(schedule, timesteps)
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


def _rates(schedule: "NoiseSchedule", positions: np.ndarray) -> _Rates:
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
