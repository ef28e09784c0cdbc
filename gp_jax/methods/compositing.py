"""Puts the made region around the source, without a seam and without touching a pixel of the source.

The model works at its own size, on a frame whose observed part it has made once more, nearly right. What it lacks
there is known,

    residual = seen - made        (on the observed rectangle, at the model's size)

and a seam is nothing but the residual's sudden end at the border. So the residual is carried on outwards from the
nearest border pixel and fades: slowly what varies slowly along the border, such as a shift in colour, and quickly what
varies quickly, since it would draw streaks otherwise. This is a multi-band blend (Burt and Adelson 1983, "A
multiresolution spline"): the band between Gaussians of deviation s / 2 and s fades within 2 s pixels, the coarsest one
within a quarter of the source's shorter side. Then the frame is brought up to the canvas' size and the source is laid
over it.

No source pixel is copied outwards: where the model is right, the residual is 0 and its frame stays as it is.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gp_jax.jobs.kept import Program
from gp_jax.methods.placement import Placement, at_pixels, nearest, nearest_seen, to_float, to_native
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.parallel import constrain

Array = jax.Array


@functools.partial(Program, static_argnames=("size",))
def finish(
    vae: AutoencoderKL, latents: Array, pixels: Array, place: Placement, *, size: tuple[int, int]
) -> tuple[Array, Array]:
    """Decodes and composites.

    Args:
      latents: [N, h, w, C], scaled.
      pixels: uint8, the source [N, Hs, Ws, 3] or layers [N, H, W, 4] (placement.py).
      place: of the source.
      size: height and width of the canvas.

    Returns:
      [N, H, W, 3] uint8, and whether all that was decoded is finite: bytes don't show it.
    """
    latents, pixels = (constrain(x, "batch", None, None, None) for x in (latents, pixels))
    decoded = vae.decode(latents / vae.config.scaling_factor)
    return composite(decoded, pixels, place, size), jnp.isfinite(decoded).all()


def composite(made: Array, pixels: Array, place: Placement, size: tuple[int, int]) -> Array:
    """Frames of the canvas' size.

    Args:
      made: [N, h, w, 3] float, the decoded frames at the model's size.
      pixels, place, size: those of `finish`.

    Returns:
      [N, H, W, 3] uint8; what is observed is as it came, bit for bit.
    """
    native, layered = to_native(pixels, place), pixels.shape[-1] == 4
    if layered:
        blended = blend(made, native[..., :3], 1 - native[..., 3], min(made.shape[1:3]))
    else:
        # The source's shorter side at the model's size, without the rounding that depends on its place.
        shorter = min(side * model / full for side, model, full in zip(pixels.shape[1:3], made.shape[1:3], size))
        blended = blend(made, native, place.pixel_mask, shorter)
    large = jax.image.resize(blended, (made.shape[0], *size, 3), "cubic")
    if layered:
        trust = pixels[..., 3:].astype(jnp.float32) / 255
        large = trust * to_float(pixels[..., :3]) + (1 - trust) * large
    frames = jnp.round((jnp.clip(large, -1.0, 1.0) + 1.0) * 127.5).astype(jnp.uint8)
    if layered:
        return jnp.where(pixels[..., 3:] == 255, pixels[..., :3], frames)
    return jax.lax.dynamic_update_slice(frames, pixels, (0, *place.corner, 0))


def blend(made: Array, seen: Array, pixel_mask: Array, shorter: float) -> Array:
    """`seen` where it is observed and a feathered transition to `made` outside it.

    Args:
      made, seen: [N, H, W, 3] float; `seen` is read where it is observed.
      pixel_mask: 1 where a pixel is unknown; [H, W] for a rectangle of all frames, [N, H, W] for anything else.
      shorter: the shorter side of the observed rectangle, or of the frame.

    Returns:
      [N, H, W, 3] float.
    """
    observed = pixel_mask == 0
    distance, outwards, smoothed = (_of_rectangle if observed.ndim == 2 else _of_any)(observed)
    width = max(2.0, shorter / 4)
    octaves = [2.0**k for k in range(max(1, int(math.log2(width))))]

    # Each pixel outside gets the value of the nearest border pixel.
    residual = outwards(seen - made)
    result = made
    for deviation in octaves:
        smooth = smoothed(residual, deviation)
        result = result + (residual - smooth) * _fade(distance, 2 * deviation)
        residual = smooth
    result = result + residual * _fade(distance, width)
    return jnp.where(observed[..., None], seen, result)


# Of what is observed: how far each pixel is from it; what carries [N, H, W, C] on outwards; and what smooths something
# that was, by a Gaussian over rows and columns that is cut off and normalised anew at the borders.
Outside = tuple[Array, Callable[[Array], Array], Callable[[Array, float], Array]]


def _of_rectangle(observed: Array) -> Outside:
    rows, columns = observed.any(axis=1), observed.any(axis=0)
    down, across = nearest(rows), nearest(columns)
    distance = jnp.hypot(*jnp.broadcast_arrays(_away(down)[:, None], _away(across)[None]))[..., None]

    def smoothed(residual: Array, deviation: float) -> Array:
        kernels = _gaussian(down, rows, deviation), _gaussian(across, columns, deviation)
        return jnp.einsum("yh,nhwc,xw->nyxc", kernels[0], residual, kernels[1])

    return distance, lambda residual: residual[:, down][:, :, across], smoothed


def _of_any(observed: Array) -> Outside:
    rows, columns = nearest_seen(observed)
    down, across = (jnp.arange(size) for size in observed.shape[1:])
    distance = jnp.hypot((rows - down[:, None]).astype(jnp.float32), (columns - across).astype(jnp.float32))

    def smoothed(residual: Array, deviation: float) -> Array:
        kernels = (_gaussian(at, jnp.ones(len(at)), deviation) for at in (down, across))
        weighted = jnp.concatenate([observed[..., None] * residual, observed[..., None]], axis=-1)
        sums = jnp.einsum("yh,nhwc,xw->nyxc", next(kernels), weighted, next(kernels))
        return at_pixels(sums[..., :-1] / jnp.maximum(sums[..., -1:], 1e-6), rows, columns)

    def outwards(residual: Array) -> Array:
        return at_pixels(jnp.where(observed[..., None], residual, 0.0), rows, columns)

    return distance[..., None], outwards, smoothed


def _gaussian(at: Array, counts: Array, deviation: float) -> Array:
    """[N, N]: row i weighs the places that count by their distance from place `at[i]`."""
    offsets = at[:, None] - jnp.arange(len(counts))
    weights = jnp.exp(-0.5 * (offsets / deviation) ** 2) * counts
    return weights / weights.sum(axis=1, keepdims=True)


def _away(nearest: Array) -> Array:
    """[N] float: how far each place is from the one that is nearest to it."""
    return jnp.abs(jnp.arange(len(nearest)) - nearest).astype(jnp.float32)


def _fade(distance: Array, width: float) -> Array:
    """1 at the border, 0 from `width` pixels on, a half cosine between."""
    return 0.5 + 0.5 * jnp.cos(jnp.pi * jnp.minimum(distance / width, 1.0))
