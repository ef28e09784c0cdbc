"""The steps of MOTIA's sampler as rows of numbers: DDIM, guidance, the known region, and noise regret.

After each step but the last the known region is replaced by the source's latents with the noise that the clip began
with, at the level of the next timestep. Noise regret goes back from there: after every third step in the first part of
the way, three steps' worth of fresh noise is added, and the three are taken again, four times:

    walk(12, 1)  -> 0 1 2, 0 1 2, 3 4 5, 3 4 5, 6 7 8 9 10 11

After 3 of the first 7 steps it goes back once, after 6 too, and after 9 no more. The noise that is added is from then
on that of the known region. What a row does:

    clean   = noisy_to_clean * latent + noise_to_clean * predicted           predicted: guided by the weight `guidance`
    latent  = keep * latent + clean_weight * clean
    latent  = source_weight * source + noise_weight * noise[noise]           where observed, if the row `holds`
    latent  = stay * latent + regret * noise[regret_noise]

Source: https://github.com/G-U-N/Be-Your-Outpainter (53748d1).
"""

from typing import Any, NamedTuple

import numpy as np

from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.diffusion.tables import ddim

JUMP = 3  # steps that are taken again
PART = 0.6  # of the steps, after which none is


class Row(NamedTuple):
    """A row, float32 and int32 scalars; see the module's docstring. `holds` is 0 or 1."""

    timestep: Any
    noisy_to_clean: Any
    noise_to_clean: Any
    keep: Any
    clean_weight: Any
    guidance: Any
    holds: Any
    source_weight: Any
    noise_weight: Any
    noise: Any
    stay: Any
    regret: Any
    regret_noise: Any


def walk(steps: int, repeats: int) -> list[tuple[int, bool]]:
    """The steps of DDIM in the order in which they are taken, and whether it goes back after each.

    Args:
      steps: of the sampler.
      repeats: how often `JUMP` steps are taken again.
    """
    done, again, path = 0, 0, []
    while done < steps:
        done += 1
        may = done % JUMP == 0 and done < int(PART * steps)
        back = may and again < repeats
        path.append((done - 1, back))
        if may:
            again = again + 1 if back else 0
        done -= JUMP * back
    return path


def rows(schedule: NoiseSchedule, steps: int, guidance: float, guided_steps: int, repeats: int) -> list[Row]:
    """The whole way.

    Args:
      schedule: of the noise.
      steps: of DDIM.
      guidance: weight of the prompt in the first `guided_steps` steps; it is 1 in the others.
      repeats: see `walk`.

    Raises:
      UserError: the schedule has not that many timesteps.
    """
    _, table = ddim(schedule, steps)
    timesteps = schedule.timesteps(steps)
    alpha, sigma = schedule.alpha[timesteps], schedule.sigma[timesteps]
    made, noise = [], 0
    for step, back in walk(steps, repeats):
        after = min(step + 1, steps - 1)
        stay = alpha[after - JUMP] / alpha[after] if back else 1.0
        made.append(
            Row(
                timestep=np.float32(timesteps[step]),
                noisy_to_clean=np.float32(table.noisy_to_clean[step]),
                noise_to_clean=np.float32(table.prediction_to_clean[step]),
                keep=np.float32(table.keep[step]),
                clean_weight=np.float32(table.clean_weight[step]),
                guidance=np.float32(guidance if step < guided_steps else 1.0),
                holds=np.float32(step + 1 < steps),
                source_weight=np.float32(alpha[after]),
                noise_weight=np.float32(sigma[after]),
                noise=np.int32(noise),
                stay=np.float32(stay),
                regret=np.float32(np.sqrt(1 - stay**2)),
                regret_noise=np.int32(noise + 1),
            )
        )
        noise += back
    return made
