"""Distillation to few steps: a network learns to jump to where its teacher's many small steps would have led it.

The teacher is the network of the checkpoint that training starts from, as that checkpoint samples: with its weights of
guidance, along a grid of `teacher_steps` timesteps. From one point of the grid it leads to the next by a step of DDIM,
and the pupil is to give the same clean latent at both:

    999 ......... t --DDIM with the teacher--> t' ......... 0
                  |                            |
              pupil(t)       should be      pupil(t'), without gradient; at the end of the grid the teacher's estimate

From the end upwards, estimate after estimate, all become that of the end. The outcome is for the sampler `lcm` (also
`tcd` and `dmd2`) with weights of guidance 1: it has learned the teacher's.

Source: latent consistency distillation (Luo et al. 2023, arXiv 2310.04378, algorithm 1) with the weights of guidance
fixed, without a moving average for the target (Song and Dhariwal 2023, arXiv 2310.14189, section 3.2), and with their
pseudo-Huber loss, its constant that of the authors' code of the former.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.diffusion.guidance import guide
from gp_jax.diffusion.tables import consistency_weights
from gp_jax.errors import UserError
from gp_jax.methods.globalpaint.objective import Batch, Diffusion
from gp_jax.training.networks import TEACHER

Array = jax.Array
_HUBER = 1e-3


@dataclasses.dataclass(frozen=True)
class Distillation(Diffusion):
    """See the module's docstring; with the terms of `Diffusion.looks` its frames are compared with the true ones.

    Attributes:
      teacher_steps: of the teacher's whole path; a divisor of the schedule's timesteps.
      guidance: the teacher's weights of global tokens and of the prompt.

    Raises:
      UserError: the steps do not divide the timesteps.
    """

    teacher_steps: int
    guidance: tuple[float, float]

    def __post_init__(self):
        if self.schedule.num_train_timesteps % self.teacher_steps:
            raise UserError(
                f"config.objective.teacher_steps is {self.teacher_steps}: it must divide the schedule's "
                f"{self.schedule.num_train_timesteps} timesteps"
            )

    @property
    def stride(self) -> int:
        """Timesteps between neighbours of the grid, which ends at the last one."""
        return self.schedule.num_train_timesteps // self.teacher_steps

    def draw(self, key: Array, batch: Batch) -> dict[str, Array]:
        """As for `Diffusion`, `t` on the grid."""
        draws = super().draw(key, batch)
        return draws | {"t": (draws["t"] // self.stride + 1) * self.stride - 1}

    def losses(self, networks: Mapping[str, Any], batch: Batch, draws: Batch) -> Array:
        """[B] float32, the mean distance of the two estimates."""
        clean, mask, masked, text, tokens = self.conditions(networks, batch, draws)
        frames, t = batch["frames"], draws["t"]
        noisy = self.schedule.add_noise(clean, draws["noise"], t)

        def run(network, latents, t, text, tokens, frames, mask, masked):
            return network(jnp.concatenate([latents, mask, masked], axis=-1), t, text, tokens, frames)

        def pupil(latents: Array, t: Array) -> Array:
            prediction = run(networks[self.denoiser], latents, t, text, tokens, frames, mask, masked)
            estimate = self.schedule.to_clean(prediction, latents, t)
            skip, out = (jnp.asarray(w, jnp.float32)[t][:, None, None, None, None] for w in self._weights)
            return skip * latents + out * estimate

        token_scale, text_scale = self.guidance
        prediction = guide(
            lambda *args, **batched: run(networks[TEACHER], *args, **batched),
            noisy,
            t,
            text if "text" in batch else None,
            self.null_text,
            tokens,
            text_scale=text_scale,
            token_scale=token_scale,
            frames=frames,
            mask=mask,
            masked=masked,
        )
        led = jax.lax.stop_gradient(self.schedule.to_clean(prediction, noisy, t))
        following = jnp.maximum(t - self.stride, 0)
        there = self.schedule.add_noise(led, self.schedule.to_noise(led, noisy, t), following)
        is_last = (t < self.stride)[:, None, None, None, None]
        goal = jax.lax.stop_gradient(jnp.where(is_last, led, pupil(there, following)))

        made = pupil(noisy, t)
        loss = (jnp.sqrt(jnp.square(made - goal) + _HUBER**2) - _HUBER).mean(axis=(1, 2, 3, 4))
        if self.compares_frames:
            loss += self.looks(networks, batch, made)
        return loss

    @property
    def _weights(self) -> tuple[np.ndarray, np.ndarray]:
        return consistency_weights(np.arange(self.schedule.num_train_timesteps))
