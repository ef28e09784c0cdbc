"""Linear latents, computed instead of trained: principal components of the cells of a few hundred frames.

Of all linear maps to C latents, the projection onto the first C principal components is the one from which the pixels
can be had back best (Eckart and Young 1936). Their variances differ by a factor of hundreds: unscaled, a diffusion
model would see the fine ones drowned in noise until its last steps, and equalised, it would spend itself on them. So
each is divided by the fourth root of its variance, which halves the differences (in decibels).
"""

from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from flax import nnx

from gp_jax.models.autoencoder import AutoencoderKL, fold_patches


def fit_linear_latents(vae: AutoencoderKL, batches: Iterable[np.ndarray]) -> None:
    """Sets the linear maps of `vae` and mutes the rest of its decoder.

    Latents times `vae.config.scaling_factor` have mean 0 and mean square 1 over the frames.

    Args:
      vae: with `linear_latents`.
      batches: [N, H, W, 3] float in [-1, 1] each, training frames; a few hundred suffice.
    """
    config = vae.config
    size = config.in_channels * config.downsampling**2
    cells = np.concatenate([fold_patches(pixels, config.downsampling).reshape(-1, size) for pixels in batches])
    mean = cells.mean(axis=0, dtype=np.float64)
    variances, directions = np.linalg.eigh(np.cov(cells - mean, rowvar=False))
    leading = slice(-1, -1 - config.latent_channels, -1)
    variances, directions = variances[leading], directions[:, leading]
    scales = variances**-0.25 / np.sqrt(np.mean(np.sqrt(variances))) / config.scaling_factor
    for linear, kernel, bias in (
        (vae.encoder, directions * scales, -mean @ directions * scales),
        (vae.inverse, directions.T / scales[:, None], mean),
    ):
        assert isinstance(linear, nnx.Linear) and linear.bias is not None
        linear.kernel[...], linear.bias[...] = jnp.asarray(kernel, jnp.float32), jnp.asarray(bias, jnp.float32)
    vae.decoder.conv_out.kernel[...] = jnp.zeros_like(vae.decoder.conv_out.kernel[...])
