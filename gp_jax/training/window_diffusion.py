"""M3DDM's objective: predict the noise of a window's latents, given its observed pixels and the whole clip.

    pixels, the unknown ones black   ->  conditioning latents;  of complete frames their own, and the mask 0
    whole frames spread over the clip, grey where they would tell what is to be made   ->  global tokens
    mean squared error over all latents, known ones too

Latents are drawn from the autoencoder's posterior, as they are when a clip is outpainted.

Source: what is known of the training of M3DDM (arXiv 2309.02119) and M3DDM+ (https://github.com/tamaki-lab/M3DDM-Plus,
20b4495), which drop no condition. Guidance mixes three predictions, though, and a network that is to make them without
one that has learned it needs both `drop_global` and `drop_all`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gp_jax.diffusion.losses import sample_timesteps, training_loss
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.methods.latents import complete, encode
from gp_jax.methods.placement import to_float

Array = jax.Array
Batch = Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class WindowDiffusion:
    """See the module's docstring.

    Attributes:
      schedule: of the noise, which is what is predicted.
      denoiser: the name of M3DDM among the networks.
      latent_channels: of the latents.
      drop_global: the probability with which an example has no global tokens: those of latents that are zero.
      drop_all: with which it has no conditioning latents either, but for complete frames: those of a black frame, and
        the mask 1. The two exclude each other, as the branches of guidance do.
    """

    schedule: NoiseSchedule
    denoiser: str
    latent_channels: int
    drop_global: float
    drop_all: float

    def draw(self, key: Array, batch: Batch) -> dict[str, Array]:
        """Timesteps `t`, a number per example that decides what is dropped, and the noise: of the diffusion, and of the
        posteriors of clean, masked and whole frames."""
        noise, clean, masked, clip, time, drop = jax.random.split(key, 6)
        count, length = batch["frames"].shape
        cells = (*batch["latent_mask"].shape[1:], self.latent_channels)
        window, whole = (count, length, *cells), (count, batch["clip"].shape[1], *cells)
        return {
            "noise": jax.random.normal(noise, window),
            "clean": jax.random.normal(clean, window),
            "masked": jax.random.normal(masked, window),
            "clip": jax.random.normal(clip, whole),
            "t": sample_timesteps(time, count, self.schedule),
            "drop": jax.random.uniform(drop, (count,)),
        }

    def losses(self, networks: Mapping[str, Any], batch: Batch, draws: Batch) -> Array:
        """[B] float32, the mean squared error of each window."""
        vae, network, t = networks["vae"], networks[self.denoiser], draws["t"]
        no_all = (draws["drop"] < self.drop_all)[:, None, None, None, None]
        no_global = (draws["drop"] < self.drop_all + self.drop_global)[:, None, None, None, None]
        unknown = batch["pixel_mask"][:, None, :, :, None] == 1
        pixels = to_float(batch["pixels"])
        clean = encode(vae, pixels, draws["clean"])

        masked = encode(vae, jnp.where(unknown, -1.0, pixels), draws["masked"])
        if self.drop_all:
            black = encode(vae, jnp.full_like(pixels[:, :1], -1.0), draws["masked"][:, :1])
            masked = jnp.where(no_all, black, masked)
        latent_mask = jnp.where(no_all[:, 0, :, :, 0], 1.0, batch["latent_mask"])
        mask, condition = complete(masked, latent_mask[:, None], batch["known"], clean)

        hidden = unknown & batch["clip_hidden"][:, :, None, None, None]
        clip = encode(vae, jnp.where(hidden, 0.0, to_float(batch["clip"])), draws["clip"])
        tokens = network.encode_global(jnp.where(no_global, 0.0, clip))

        noisy = self.schedule.add_noise(clean, draws["noise"], t)
        prediction = network(jnp.concatenate([noisy, condition, mask], axis=-1), t, batch["rate"], tokens)
        return training_loss(self.schedule, prediction, clean, draws["noise"], t)
