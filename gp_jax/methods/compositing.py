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
import numpy as np

from gp_jax.jobs.kept import Program
from gp_jax.methods.placement import Placement, at_pixels, nearest, nearest_seen, to_float, to_native
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.parallel import constrain

Array = jax.Array

FINEST = 2  # pixels of deviation up to which smoothing is done at full size; beyond, at ever halved sizes


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
    return laid_over(jax.image.resize(blended, (made.shape[0], *size, 3), "cubic"), pixels, place)


def laid_over(made: Array, pixels: Array, place: Placement) -> Array:
    """Frames of the canvas, [N, H, W, 3] in [-1, 1], as uint8, and over them what is observed; see `composite`."""
    layered = pixels.shape[-1] == 4
    if layered:
        trust = pixels[..., 3:].astype(jnp.float32) / 255
        made = trust * to_float(pixels[..., :3]) + (1 - trust) * made
    frames = jnp.round((jnp.clip(made, -1.0, 1.0) + 1.0) * 127.5).astype(jnp.uint8)
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
    distance, outwards = (_of_rectangle if observed.ndim == 2 else _of_any)(observed)
    width = max(2.0, shorter / 4)
    # Each pixel outside gets the value of the nearest border pixel, of ever smoother residuals.
    size = made.shape[1], made.shape[2]
    weights = jnp.broadcast_to(observed[..., None], (*made.shape[:3], 1)).astype(jnp.float32)
    residual = jnp.where(observed[..., None], seen - made, 0.0)
    result, before, scale = made, 0.0, 1
    for deviation in (2**k for k in range(max(1, int(math.log2(width))))):
        fade = _fade(distance, 2.0 * deviation)
        result = result + outwards(_enlarged(residual, scale, size)) * (fade - before)
        if deviation > FINEST * scale:
            residual, weights, scale = *_halved(residual, weights), 2 * scale
        before, residual = fade, _smoothed(residual, weights, deviation / scale)
    result = result + outwards(_enlarged(residual, scale, size)) * (_fade(distance, width) - before)
    return jnp.where(observed[..., None], seen, result)


# Of what is observed: how far each pixel is from it, and what carries [N, H, W, C] on outwards.
Outside = tuple[Array, Callable[[Array], Array]]


def _of_rectangle(observed: Array) -> Outside:
    down, across = nearest(observed.any(axis=1)), nearest(observed.any(axis=0))
    distance = jnp.hypot(*jnp.broadcast_arrays(_away(down)[:, None], _away(across)[None]))
    return distance[..., None], lambda residual: residual[:, down][:, :, across]


def _of_any(observed: Array) -> Outside:
    rows, columns = nearest_seen(observed)
    down, across = (jnp.arange(size) for size in observed.shape[1:])
    distance = jnp.hypot((rows - down[:, None]).astype(jnp.float32), (columns - across).astype(jnp.float32))
    return distance[..., None], lambda residual: at_pixels(residual, rows, columns)


def _smoothed(residual: Array, weights: Array, deviation: float) -> Array:
    """[N, H, W, C], the mean under a Gaussian of what weighs anything, [N, H, W, 1]; 0 where all of that is far."""
    reach = math.ceil(3 * deviation)
    taps = [math.exp(-0.5 * (offset / deviation) ** 2) for offset in range(-reach, reach + 1)]

    def along(x: Array, axis: int) -> Array:
        padded = jnp.pad(x, [(reach, reach) if at == axis else (0, 0) for at in range(4)])
        length = x.shape[axis]
        shifted = (jax.lax.slice_in_dim(padded, offset, offset + length, axis=axis) for offset in range(len(taps)))
        return functools.reduce(jnp.add, (tap * part for tap, part in zip(taps, shifted)))

    # Rows of numbers that lie side by side take a fifth of the time of rows of colours.
    summed = jnp.moveaxis(jnp.concatenate([weights * residual, weights], axis=-1), -1, 1)
    summed = jnp.moveaxis(along(along(summed, 2), 3), 1, -1)
    return summed[..., :-1] / jnp.maximum(summed[..., -1:], 1e-6)


def _halved(residual: Array, weights: Array) -> tuple[Array, Array]:
    """Means of cells of 2 x 2 pixels, and what these weigh."""
    summed = jnp.concatenate([weights * residual, weights], axis=-1)
    summed = jnp.pad(summed, ((0, 0), *((0, side % 2) for side in summed.shape[1:3]), (0, 0)))
    count, height, width, channels = summed.shape
    summed = summed.reshape(count, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))
    return summed[..., :-1] / jnp.maximum(summed[..., -1:], 1e-6), summed[..., -1:]


def _enlarged(cells: Array, scale: int, size: tuple[int, int]) -> Array:
    """[N, h, w, C] of cells of `scale` x `scale` pixels -> [N, H, W, C], linear between their middles."""
    if scale == 1:
        return cells
    for axis, length in enumerate(size, start=1):
        at = np.clip((np.arange(length) + 0.5) / scale - 0.5, 0, cells.shape[axis] - 1)
        first = np.minimum(at.astype(int), max(cells.shape[axis] - 2, 0))
        share = jnp.asarray(at - first, jnp.float32).reshape([-1 if here == axis else 1 for here in range(4)])
        after = np.minimum(first + 1, cells.shape[axis] - 1)
        cells = (1 - share) * jnp.take(cells, first, axis=axis) + share * jnp.take(cells, after, axis=axis)
    return cells


def _away(nearest: Array) -> Array:
    """[N] float: how far each place is from the one that is nearest to it."""
    return jnp.abs(jnp.arange(len(nearest)) - nearest).astype(jnp.float32)


def _fade(distance: Array, width: float) -> Array:
    """1 at the border, 0 from `width` pixels on, a half cosine between."""
    return 0.5 + 0.5 * jnp.cos(jnp.pi * jnp.minimum(distance / width, 1.0))
