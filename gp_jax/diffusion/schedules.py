"""Noise schedules: how much signal and noise a latent holds at each timestep, and what a network predicts of them.

A timestep t in 0 .. N-1 mixes a clean latent with Gaussian noise, the squares of the two rates summing to one:

    noisy = alpha[t] * clean + sigma[t] * noise

A network predicts some other mixture of the same two, `target = a * clean + b * noise`; which one is its prediction
type. Two equations, two unknowns: from `noisy` and a prediction, the clean latent follows by Cramer's rule, so that a
prediction type is nothing but its row (a, b) in `PREDICTIONS`.

    schedule = NoiseSchedule.from_config(read_json("scheduler/scheduler_config.json"))
    noisy = schedule.add_noise(clean, noise, t)                  # clean [B, T, h, w, C], t [B]
    prediction = network(noisy, t)                               # wants to be schedule.target(clean, noise, t)
    clean_estimate = schedule.to_clean(prediction, noisy, t)
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.errors import UserError
from gp_jax.json_config import Foreign, check_class, read_fields, short, unlike, within

# The weights (a, b) of (clean, noise) in what a network predicts, given the rates (alpha, sigma).
PREDICTIONS = {
    "epsilon": lambda alpha, sigma: (np.zeros_like(alpha), np.ones_like(sigma)),
    "sample": lambda alpha, sigma: (np.ones_like(alpha), np.zeros_like(sigma)),
    "v_prediction": lambda alpha, sigma: (-sigma, alpha),  # Salimans and Ho, arXiv:2202.00512
}

BETA_SCHEDULES = {
    "linear": np.linspace,
    "scaled_linear": lambda start, end, count: np.linspace(start**0.5, end**0.5, count) ** 2,
}

# Timesteps to visit, highest first, given (N, steps, offset): Lin et al., arXiv:2305.08891, table 2.
SPACINGS = {
    "leading": lambda count, steps, offset: np.arange(steps)[::-1] * (count // steps) + float(offset),
    "trailing": lambda count, steps, offset: np.round(np.arange(count, 0, -count / steps)[:steps]) - 1,
    "linspace": lambda count, steps, offset: np.linspace(0, count - 1, steps)[::-1],
}

# Where diffusers' schedulers of this kind start from, where a config does not say it; beside them stand the values of
# fields that a class does not have. How they step is no matter of ours: see samplers.py.
_DDIM = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear", "timestep_spacing": "leading"}
_SOLVER = {**_DDIM, "timestep_spacing": "linspace"}
_KARRAS = {**_SOLVER, "beta_start": 0.00085, "beta_end": 0.012}
_CONSISTENCY = {**_DDIM, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULERS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {**_DDIM, "clip_sample": True},
    "DDPMScheduler": {**_DDIM, "clip_sample": True},
    "PNDMScheduler": {**_DDIM, "set_alpha_to_one": False},
    "LMSDiscreteScheduler": _SOLVER,
    "EulerDiscreteScheduler": _SOLVER,
    "EulerAncestralDiscreteScheduler": _SOLVER,
    "DPMSolverMultistepScheduler": _SOLVER,
    "DPMSolverSinglestepScheduler": _SOLVER,
    "UniPCMultistepScheduler": _SOLVER,
    "DEISMultistepScheduler": _SOLVER,
    "HeunDiscreteScheduler": _KARRAS,
    "KDPM2DiscreteScheduler": _KARRAS,
    "KDPM2AncestralDiscreteScheduler": _KARRAS,
    "LCMScheduler": _CONSISTENCY,
    "TCDScheduler": _CONSISTENCY,
}
SCHEDULER = Foreign(
    classes=tuple(SCHEDULERS),
    # What would change the result and we do not have.
    fixed={
        "algorithm_type": ("dpmsolver++", "deis"),
        "clip_sample": (False,),
        "disable_corrector": ([],),
        "final_sigmas_type": ("zero",),
        "interpolation_type": ("linear",),
        "lambda_min_clipped": (-math.inf,),
        "original_inference_steps": (50,),
        "predict_x0": (True,),
        "shift_terminal": (None,),
        "sigma_max": (None,),
        "sigma_min": (None,),
        "solver_order": (2,),
        "solver_p": (None,),
        "solver_type": ("midpoint", "bh2", "logrho"),
        "thresholding": (False,),
        "timestep_scaling": (10.0,),
        "timestep_type": ("discrete",),
        "trained_betas": (None,),
        "use_beta_sigmas": (False, None),
        "use_dynamic_shifting": (False,),
        "use_exponential_sigmas": (False, None),
        "use_flow_sigmas": (False, None),
        "use_karras_sigmas": (False, None),
        "use_lu_lambdas": (False, None),
        # Of steps that add noise as DDPM's do, which none of ours does; a network that learned it has other outputs.
        "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
    },
    ignored=(
        "clip_sample_range",  # these three belong to what is refused above
        "dynamic_thresholding_ratio",
        "sample_max_value",
        "flow_shift",  # so do these two
        "time_shift_type",
        "euler_at_final",  # the last step is one of Euler's whenever it ends at the clean latent
        "lower_order_final",
        "skip_prk_steps",  # of PNDM's own way to step
    ),
)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class NoiseSchedule:
    """A variance-preserving noise schedule and the prediction type of the network trained with it.

    All fields but the last carry the names, meanings and defaults of diffusers' `DDIMScheduler`. A schedule is static
    to jax: it may be an argument of a jitted function, and its tables become constants of the program.

    Methods on arrays take timesteps `t`, integers `[B]` (or any leading part of the latents' shape), and latents
    `[B, ...]`. They return float32 or the latents' type, whichever is wider.

    Attributes:
      num_train_timesteps: N, the number of noise levels.
      beta_start, beta_end: ends of the noise variances added per timestep.
      beta_schedule: a name in `BETA_SCHEDULES`.
      prediction_type: a name in `PREDICTIONS`.
      rescale_betas_zero_snr: let the last timestep hold noise alone (Lin et al., arXiv:2305.08891, algorithm 1).
      timestep_spacing: a name in `SPACINGS`.
      steps_offset: added to the timesteps of the "leading" spacing.
      set_alpha_to_one: DDIM ends at the clean latent; if False, at the noise level of timestep 0.
      shared_noise: correlation between the noises of a clip's frames, see noise.py; ours, unknown to diffusers.

    Raises:
      UserError: a name is unknown, a number out of range, or noise is to be predicted where there is noise alone.
    """

    num_train_timesteps: int = within(1000, 2, 100_000)
    beta_start: float = within(0.0001, 0, 1)
    beta_end: float = within(0.02, 0, 1)
    beta_schedule: str = "linear"
    prediction_type: str = "epsilon"
    rescale_betas_zero_snr: bool = False
    timestep_spacing: str = "leading"
    steps_offset: int = within(0, 0, 100_000)
    set_alpha_to_one: bool = True
    shared_noise: float = within(0.0, 0, 1)

    def __post_init__(self):
        tables = {"beta_schedule": BETA_SCHEDULES, "prediction_type": PREDICTIONS, "timestep_spacing": SPACINGS}
        for field, table in tables.items():
            if (value := getattr(self, field)) not in table:
                raise UserError(
                    f"The noise schedule's {field} is {short(value)}; it must be one of {', '.join(table)}."
                )
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise UserError(
                f"The noise schedule's betas run from {self.beta_start} to {self.beta_end}; they must rise in (0, 1)."
            )
        if not 0 <= self.shared_noise <= 1:
            raise UserError(f"The noise schedule's shared_noise is {self.shared_noise}; it must be from 0 to 1.")
        if self.num_train_timesteps < 2:
            raise UserError(
                f"The noise schedule's num_train_timesteps is {self.num_train_timesteps}; it must be 2 or more."
            )
        if self.rescale_betas_zero_snr and self.prediction_type == "epsilon":
            raise UserError(
                "The noise schedule sets rescale_betas_zero_snr with prediction_type epsilon, which says nothing about "
                "the image at the last timestep; use v_prediction or sample."
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "NoiseSchedule":
        """Reads a diffusers `scheduler_config.json`; what it leaves out is what its class takes.

        Raises:
          UserError: it is of a class without such a schedule, or a value is one that this schedule cannot honour.
        """
        check_class(config, SCHEDULERS, "scheduler config")
        defaults = SCHEDULERS.get(config.get("_class_name", ""), {})
        return read_fields(cls, config, dataclasses.replace(SCHEDULER, defaults=defaults), "scheduler config")

    def unlike(self, other: "NoiseSchedule") -> str:
        """What differs of all but how to sample, as `json_config.unlike` says it: networks can't be of both."""
        return unlike(self, other, but=("timestep_spacing", "steps_offset", "set_alpha_to_one"))

    def to_config(self) -> dict[str, Any]:
        """The `scheduler_config.json` from which diffusers builds the same schedule."""
        return {"_class_name": "DDIMScheduler", "clip_sample": False, **dataclasses.asdict(self)}

    @functools.cached_property
    def alpha(self) -> np.ndarray:
        """[N] float64, the rate of the clean latent at each timestep."""
        betas = BETA_SCHEDULES[self.beta_schedule](self.beta_start, self.beta_end, self.num_train_timesteps)
        alpha = np.sqrt(np.cumprod(1 - betas))
        if self.rescale_betas_zero_snr:
            alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
        return alpha

    @functools.cached_property
    def sigma(self) -> np.ndarray:
        """[N] float64, the rate of the noise at each timestep."""
        return np.sqrt(1 - self.alpha**2)

    def positions(self, steps: int) -> np.ndarray:
        """The timesteps of a sampler with that many steps: [steps] float64, falling; "linspace" gives fractional ones.

        Raises:
          UserError: the schedule does not have that many timesteps.
        """
        self.check_steps(steps)
        positions = SPACINGS[self.timestep_spacing](self.num_train_timesteps, steps, self.steps_offset)
        if positions[0] > self.num_train_timesteps - 1:
            raise UserError(
                f"{steps} sampling steps with steps_offset {self.steps_offset} begin beyond the last timestep, "
                f"{self.num_train_timesteps - 1}; choose fewer steps."
            )
        return positions

    def check_steps(self, steps: int) -> None:
        """Raises UserError where the number of sampling steps is no whole number, or the timesteps are fewer."""
        is_whole = isinstance(steps, (int, np.integer)) and not isinstance(steps, bool)
        if not is_whole or not 1 <= steps <= self.num_train_timesteps:
            raise UserError(
                f"A noise schedule of {self.num_train_timesteps} timesteps cannot be cut into {steps} sampling steps; "
                f"choose a whole number from 1 to {self.num_train_timesteps}."
            )

    def timesteps(self, steps: int) -> np.ndarray:
        """`positions` rounded to integers, as diffusers' `DDIMScheduler.set_timesteps`: [steps] int64, falling."""
        return np.round(self.positions(steps)).astype(np.int64)

    def add_noise(self, clean: jax.Array, noise: jax.Array, t: jax.Array) -> jax.Array:
        """The noisy latent of timestep t."""
        return _mix((self.alpha, self.sigma), clean, noise, t)

    def target(self, clean: jax.Array, noise: jax.Array, t: jax.Array) -> jax.Array:
        """What the network should predict at timestep t."""
        return _mix(PREDICTIONS[self.prediction_type](self.alpha, self.sigma), clean, noise, t)

    def to_clean(self, prediction: jax.Array, noisy: jax.Array, t: jax.Array) -> jax.Array:
        """The clean latent that a prediction implies."""
        return _mix(self.clean_weights(self.alpha, self.sigma), noisy, prediction, t)

    def to_noise(self, clean: jax.Array, noisy: jax.Array, t: jax.Array) -> jax.Array:
        """The noise that a clean latent implies."""
        return _mix((1 / self.sigma, -self.alpha / self.sigma), noisy, clean, t)

    def clean_weights(self, alpha: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The weights of (noisy, prediction) that give the clean latent, at the rates alpha and sigma."""
        a, b = PREDICTIONS[self.prediction_type](alpha, sigma)
        determinant = alpha * b - sigma * a
        return b / determinant, -sigma / determinant

    def snr(self, t: jax.Array) -> jax.Array:
        """The signal-to-noise ratio (alpha / sigma)^2 at timestep t, float32."""
        return jnp.asarray((self.alpha / self.sigma) ** 2, jnp.float32)[t]


def _mix(weights: tuple[np.ndarray, np.ndarray], first: jax.Array, second: jax.Array, t: jax.Array) -> jax.Array:
    """Weighs two latents [B, ...] by two tables [N] at timesteps t [B]."""
    at = [jnp.asarray(table, jnp.float32)[t] for table in weights]
    one, two = (weight.reshape(weight.shape + (1,) * (first.ndim - weight.ndim)) for weight in at)
    return one * first + two * second
