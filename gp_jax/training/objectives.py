"""What training minimises, and at random: an objective is two functions and a few numbers.

    draws = objective.draw(key, batch)                          all that is random, for the whole batch: each [B, ...]
    losses = objective.losses(networks, batch, draws)           [B]

They are apart so that a batch can be cut into microbatches: the parts get the draws of the whole, and accumulation
gives what the whole batch would have given. A batch is the dictionary that `gp_jax.data` makes; what it holds decides
whether latents and features are computed here (`pixels`, `views`) or were precomputed (`latents`, `features`).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gp_jax.methods.globalpaint.objective import Diffusion
from gp_jax.methods.placement import to_float
from gp_jax.models.autoencoder import AutoencoderConfig
from gp_jax.training.window_diffusion import WindowDiffusion

Array = jax.Array
Batch = Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """The autoencoder's objective: L1 on pixels and on differences of neighbours, which are edges, and a faint pull of
    the latents towards the unit normal.

    Attributes:
      vae: the autoencoder's config.
      edges, kl: weights of the second and the third term.
      jitter: deviation of noise that is added to the latents beside the posterior's own: the decoder learns to put up
        with latents that are not quite right.
    """

    vae: AutoencoderConfig
    edges: float
    kl: float
    jitter: float

    def draw(self, key: Array, batch: Batch) -> dict[str, Array]:
        """Noise for the sample of the posterior."""
        cell = self.vae.downsampling
        count, length, height, width, _ = batch["pixels"].shape
        shape = (count, length, height // cell, width // cell, self.vae.latent_channels)
        return {"noise": jax.random.normal(key, shape)}

    def losses(self, networks: Mapping[str, Any], batch: Batch, draws: Batch) -> Array:
        """[B] float32."""
        vae, frames = networks["vae"], batch["pixels"].reshape(-1, *batch["pixels"].shape[2:])
        pixels, noise = to_float(frames), draws["noise"].reshape(len(frames), *draws["noise"].shape[2:])
        mean, log_variance = vae.encode(pixels)
        error = vae.decode(mean + (jnp.exp(0.5 * log_variance) + self.jitter) * noise) - pixels
        edges = sum(_mean(jnp.abs(jnp.diff(error, axis=axis))) for axis in (1, 2))
        kl = 0.5 * _mean(mean**2 + jnp.exp(log_variance) - 1.0 - log_variance)
        per_frame = _mean(jnp.abs(error)) + self.edges * edges + self.kl * kl
        return per_frame.reshape(len(batch["pixels"]), -1).mean(axis=1)


OBJECTIVES = {"diffusion": Diffusion, "reconstruction": Reconstruction, "window diffusion": WindowDiffusion}


def _mean(x: Array) -> Array:
    """[N, ...] -> [N]."""
    return x.mean(axis=tuple(range(1, x.ndim)))
