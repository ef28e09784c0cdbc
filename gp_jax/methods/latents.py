"""Between pixels and latents, and what is known of latents: what sampling and training do alike, whatever the network.

clean = encode(vae, pixels)                          the mean of the autoencoder's posterior
clean = encode(vae, pixels, noise)                   a sample of it
mask, masked = complete(masked, latent_mask, known, clean)
"""

import jax
import jax.numpy as jnp

from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.parallel import constrain

Array = jax.Array


def encode(vae: AutoencoderKL, pixels: Array, noise: Array | None = None) -> Array:
    """Scaled latents of segments: the mean of the autoencoder's posterior, or with noise a sample.

    Args:
      pixels: [B, T, H, W, 3]. The frames of a segment go through the autoencoder one after another, to save memory.
      noise: [B, T, h, w, C], Gaussian.

    Returns:
      [B, T, h, w, C] float32.
    """

    def encode_frame(row: tuple[Array, Array | None]) -> Array:
        pixels, noise = row
        mean, log_variance = vae.encode(constrain(pixels, "batch", None, None, None))
        latents = mean.astype(jnp.float32)
        if noise is not None:
            latents += jnp.exp(0.5 * log_variance.astype(jnp.float32)) * noise
        return latents * vae.config.scaling_factor

    rows = pixels.swapaxes(0, 1), None if noise is None else noise.swapaxes(0, 1)
    return jax.lax.map(encode_frame, rows).swapaxes(0, 1)


def mask_of_latents(pixel_mask: Array, downsampling: int) -> Array:
    """[..., H, W], 1 where a pixel is unknown -> [..., h, w], 0 where all pixels of a latent are known, else 1."""
    *frames, height, width = pixel_mask.shape
    cells = height // downsampling, downsampling, width // downsampling, downsampling
    return pixel_mask.reshape(*frames, *cells).max(axis=(-3, -1))


def complete(masked: Array, latent_mask: Array, known: Array, completed: Array) -> tuple[Array, Array]:
    """What is known of the frames of segments: of complete ones all, of others what was observed.

    Args:
      masked: [B, T, h, w, C], latents of the observed pixels.
      latent_mask: [B, T, h, w], or what can be broadcast to it: 1 where a latent is unknown.
      known: [B, T] bool, whether a frame is complete.
      completed: [B, T, h, w, C] scaled latents, read where `known`.

    Returns:
      mask [B, T, h, w, 1] and masked-video latents [B, T, h, w, C].
    """
    known = known[:, :, None, None, None]
    return jnp.where(known, 0.0, latent_mask[..., None]), jnp.where(known, completed, masked)
