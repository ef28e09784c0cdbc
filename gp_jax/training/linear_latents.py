"""Linear latents, computed instead of trained: principal components of the cells of a few hundred frames.

Of all linear maps to C latents, the projection onto the first C principal components is the one from which the pixels
can be had back best (Eckart and Young 1936). Their variances differ by a factor of hundreds: unscaled, a diffusion
model would see the fine ones drowned in noise until its last steps, and equalised, it would spend itself on them. So
each is divided by the fourth root of its variance, which halves the differences (in decibels).

The map back is the best linear one from a latent that is not quite right and its eight neighbours (least squares, the
noise added to the moments): what each cell makes of itself alone does not fit the cells beside it.
"""

from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from flax import nnx

from gp_jax.models.autoencoder import AutoencoderKL, fold_patches

# A component's variance at least: far below a step of 8 bits, squared. Plain frames have components without any.
LEAST = 1e-8


def fit_linear_latents(vae: AutoencoderKL, batches: Iterable[np.ndarray], jitter: float) -> None:
    """Sets the linear maps of `vae` and mutes the rest of its decoder.

    Latents times `vae.config.scaling_factor` have mean 0 and mean square 1 over the frames.

    Args:
      vae: with `linear_latents`.
      batches: [N, H, W, 3] float in [-1, 1] each, training frames; a few hundred suffice.
      jitter: deviation of the noise that latents have when they are decoded.
    """
    config = vae.config
    maps = [fold_patches(pixels, config.downsampling).astype(np.float64) for pixels in batches]
    cells = np.concatenate([x.reshape(-1, x.shape[-1]) for x in maps])
    mean = cells.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov(cells - mean, rowvar=False))
    leading = slice(-1, -1 - config.latent_channels, -1)
    variances, directions = np.maximum(variances[leading], LEAST), directions[:, leading]
    scales = variances**-0.25 / np.sqrt(np.mean(np.sqrt(variances))) / config.scaling_factor
    encoder = directions * scales
    _set(vae.encoder, encoder, -mean @ encoder)

    surroundings = np.concatenate([_surroundings((x - mean) @ encoder) for x in maps])
    moments = surroundings.T @ surroundings + len(cells) * jitter**2 * np.eye(surroundings.shape[1])
    inverse = np.linalg.pinv(moments, hermitian=True) @ (surroundings.T @ (cells - mean))
    _set(vae.inverse, inverse.reshape(vae.inverse.kernel.shape), mean)
    vae.decoder.conv_out.kernel[...] = jnp.zeros_like(vae.decoder.conv_out.kernel[...])


def _surroundings(latents: np.ndarray) -> np.ndarray:
    """[N, h, w, C] -> [N * h * w, 9 * C]: each latent and its neighbours, zeros beyond the frame, row by row."""
    _, height, width, channels = latents.shape
    padded = np.pad(latents, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.concatenate(shifted, axis=-1).reshape(-1, 9 * channels)


def _set(layer: nnx.Module, kernel: np.ndarray, bias: np.ndarray) -> None:
    assert isinstance(layer, nnx.Linear | nnx.Conv) and layer.bias is not None
    layer.kernel[...], layer.bias[...] = jnp.asarray(kernel, jnp.float32), jnp.asarray(bias, jnp.float32)
