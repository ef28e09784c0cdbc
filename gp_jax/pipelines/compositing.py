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

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.geometry import Canvas
from gp_jax.pipelines.conditioning import to_native

Array = jax.Array


def composite(made: Array, source: Array, canvas: Canvas, native: Canvas) -> Array:
    """Frames of the canvas' size.

    Args:
      made: [N, h, w, 3] float, the decoded frames at the size of `native`.
      source: [N, Hs, Ws, 3] uint8.

    Returns:
      [N, H, W, 3] uint8; the observed rectangle is `source`, bit for bit.
    """
    blended = blend(made, to_native(source, canvas, native), native)
    large = jax.image.resize(blended, (made.shape[0], canvas.height, canvas.width, 3), "cubic")
    frames = jnp.round((jnp.clip(large, -1.0, 1.0) + 1.0) * 127.5).astype(jnp.uint8)
    rows, columns = canvas.observed
    return frames.at[:, rows, columns].set(source)


def blend(made: Array, seen: Array, canvas: Canvas) -> Array:
    """`seen` on the observed rectangle and a feathered transition to `made` outside it.

    Args:
      made, seen: [N, H, W, 3] float, both of the size of `canvas`; `seen` is read where it is observed.

    Returns:
      [N, H, W, 3] float.
    """
    rows, columns = canvas.observed
    residual = (seen - made)[:, rows, columns]
    width = max(2.0, min(canvas.source_height, canvas.source_width) / 4)
    octaves = [2.0**k for k in range(max(1, int(np.log2(width))))]
    distance = _distance(canvas)

    result = made
    for deviation in octaves:
        smooth = _blur(residual, deviation)
        result = result + _extend(residual - smooth, canvas) * _fade(distance, 2 * deviation)
        residual = smooth
    result = result + _extend(residual, canvas) * _fade(distance, width)
    return result.at[:, rows, columns].set(seen[:, rows, columns])


def _extend(inner: Array, canvas: Canvas) -> Array:
    """Each pixel outside gets the value of the nearest border pixel."""
    return jnp.pad(inner, ((0, 0), *canvas.pads, (0, 0)), mode="edge")


def _blur(x: Array, deviation: float) -> Array:
    """A Gaussian over rows and columns of [N, H, W, 3], cut off and normalised anew at the borders."""
    rows, columns = (_gaussian(size, deviation) for size in x.shape[1:3])
    return jnp.einsum("yh,nhwc,xw->nyxc", rows, x, columns)


def _gaussian(size: int, deviation: float) -> np.ndarray:
    offsets = np.arange(size)[:, None] - np.arange(size)[None]
    weights = np.exp(-0.5 * (offsets / deviation) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _distance(canvas: Canvas) -> np.ndarray:
    """[H, W, 1]: pixels to the observed rectangle; 0 within it."""

    def outside(size: int, start: int, length: int) -> np.ndarray:
        at = np.arange(size)
        return np.maximum(np.maximum(start - at, at - (start + length - 1)), 0)

    down = outside(canvas.height, canvas.top, canvas.source_height)
    across = outside(canvas.width, canvas.left, canvas.source_width)
    return np.hypot(down[:, None], across[None])[..., None].astype(np.float32)


def _fade(distance: np.ndarray, width: float) -> np.ndarray:
    """1 at the border, 0 from `width` pixels on, a half cosine between."""
    return 0.5 + 0.5 * np.cos(np.pi * np.minimum(distance / width, 1.0))
