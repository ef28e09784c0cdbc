"""What GlobalPaint's networks are told of a clip: where pixels become conditions, for sampling and for training.

All of it derives from the observed pixels alone. Each function takes whole frames, of which the unknown part may hold
anything, even the answer, and gives the same whatever stands there:

    mask, masked = inpainting_condition(vae, pixels, ...)                   two of the three inputs of the UNet
    views = observed_views(pixels, place.pixel_mask, size)                  what the vision tower sees
    tokens = clip_tokens(vision, extractor, views, positions, times, valid)

Pixels are float in [-1, 1], uint8 where they come from a video.
"""

import functools

import jax
import jax.numpy as jnp

from gp_jax.methods.latents import complete, encode
from gp_jax.methods.placement import at_pixels, nearest_seen
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.models.clip import VisionTower, preprocess
from gp_jax.models.global_tokens import GlobalTokens

Array = jax.Array


def inpainting_condition(
    vae: AutoencoderKL,
    pixels: Array,
    pixel_mask: Array,
    latent_mask: Array,
    known: Array,
    completed: Array,
    fill: str = "grey",
) -> tuple[Array, Array]:
    """What the UNet gets beside the noisy latents.

    Of a completed frame, such as the boundary of an interpolation segment, its clean latents and the mask 0 everywhere;
    of the others the latents of their observed pixels, with something neutral where there are none.

    Args:
      vae: the autoencoder.
      pixels: [B, T, H, W, 3].
      pixel_mask: [B, T, H, W], 1 where a pixel is unknown; B and T may be 1, where all have the same.
      latent_mask: [B, T, h, w], the same for latents.
      known: [B, T] bool, whether a frame is complete.
      completed: [B, T, h, w, C] scaled latents, read where `known`.
      fill: a name in `FILLS`, that of the UNet's config.

    Returns:
      mask [B, T, h, w, 1] and masked-video latents [B, T, h, w, C], float32.
    """
    return complete(encode(vae, FILLS[fill](pixels, pixel_mask)), latent_mask, known, completed)


def _grey(pixels: Array, pixel_mask: Array) -> Array:
    return jnp.where(pixel_mask[..., None] == 0, pixels, 0.0)


def _edge(pixels: Array, pixel_mask: Array) -> Array:
    """Each unknown pixel gets the value of the observed one that is nearest to it; grey where nothing is observed."""
    seen = pixel_mask == 0
    return at_pixels(jnp.where(seen[..., None], pixels, 0.0), *nearest_seen(seen))


# What stands in the unknown region of the masked video, by name: (pixels [B, T, H, W, 3], pixel_mask [B, T, H, W], of
# which B and T may be 1) -> pixels. Stable Diffusion has grey there. The nearest observed pixels spare a small network
# to carry colours across.
FILLS = {"grey": _grey, "edge": _edge}


def observed_views(pixels: Array, pixel_mask: Array, size: int) -> Array:
    """The observed rectangle alone, since a vision transformer mixes all that it sees.

    Args:
      pixels: [N, H, W, 3].
      pixel_mask: [H, W], or [N, H, W] where the rectangle is another one in each frame; 1 where a pixel is unknown.
      size: of the vision tower's input.

    Returns:
      [N, size, size, 3], normalised for the tower.
    """
    if pixel_mask.ndim == 3:
        alone = jax.vmap(functools.partial(observed_views, size=size))
        return alone(pixels[:, None], pixel_mask)[:, 0]
    seen = pixel_mask == 0
    down, across = (_resampling(seen.any(axis=axis), size) for axis in (1, 0))
    pixels = jnp.where(seen[..., None], pixels, 0.0)
    views = jnp.einsum("yh,nhwc,xw->nyxc", down, pixels, across, precision=jax.lax.Precision.HIGHEST)
    return preprocess(views, size)


def _resampling(seen: Array, size: int) -> Array:
    """[size, N], what brings the one run of True in `seen` [N] to `size`: `jax.image.resize`, bicubic and antialiased,
    of a part whose place is a number."""
    stride = seen.sum() / size
    at = seen.argmax() + (jnp.arange(size) + 0.5) * stride - 0.5
    x = jnp.abs(at[:, None] - jnp.arange(len(seen))) / jnp.maximum(stride, 1.0)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2  # Keys' cubic, a = -0.5
    weights = jnp.where(x < 1, near, jnp.where(x < 2, far, 0.0)) * seen
    return weights / weights.sum(axis=1, keepdims=True)


def clip_tokens(
    vision: VisionTower, extractor: GlobalTokens, views: Array, positions: Array, times: Array, valid: Array
) -> Array:
    """Global tokens.

    Args:
      vision, extractor: the networks.
      views: [B, F, S, S, 3] from `observed_views`, of F frames spread over the whole clip.
      positions: [P, 2], [F, P, 2] or [B, F, P, 2], `patch_positions` of the canvas.
      times: [B, F], index / (number of frames - 1), in [0, 1].
      valid: [B, F] bool, False for what only fills the batch.

    Returns:
      [B, K, D].
    """
    batch, frames = times.shape
    features = vision(views.reshape(-1, *views.shape[2:]))
    features = features.reshape(batch, frames, *features.shape[1:])
    positions = jnp.broadcast_to(positions, (*features.shape[:3], 2))
    return extractor(features, positions, times, valid)
