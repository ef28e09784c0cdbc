"""Where the source lies in the canvas and in the frame of a network, and how it is brought there.

    place = Placement.of(canvas, native, downsampling)                      numbers and masks
    pixels = shrink(source, place)                                          the source, as the network's size shows it
    layers = shrink(layers, place)                                          the same of layers, [N, H, W, 4]

Where what is seen of a frame is no rectangle, or another one in each frame, frames come as layers of the canvas: uint8
[H, W, 4], colours and how far they are trusted. 255 is a pixel of the source, which comes back as it is; 0 is unknown;
between them is what other frames show there, or what fades. Networks are told that it is seen from a `Placement`'s
`enough` on.

Pixels are float in [-1, 1], uint8 where they come from a video.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.geometry import Canvas, latent_mask, pixel_mask
from gp_jax.jobs.kept import Program

Array = jax.Array

ENOUGH = 128


class Placement(NamedTuple):
    """Where the source lies in the canvas and in the model's frame [H, W]: numbers, not shapes.

    A compiled program that takes them is the same for each place of a source of this size in a canvas of this size.
    Outside of it they are numpy's.
    """

    corner: Any  # [2] int32, the source's first row and column in the canvas
    scale: Any  # [2] float32, the model's frame by the canvas, down and across
    pixel_mask: Any  # [H, W]
    latent_mask: Any  # [h, w]
    enough: Any = np.uint8(ENOUGH)  # trust of a layer's pixel from which on it counts as seen

    @classmethod
    def of(cls, canvas: Canvas, native: Canvas, downsampling: int) -> "Placement":
        """In numpy; `native` is `canvas.native(...)`, and its sides are multiples of `downsampling`."""
        return cls(
            np.array([canvas.top, canvas.left], np.int32),
            np.array([native.height / canvas.height, native.width / canvas.width], np.float32),
            pixel_mask(native),
            latent_mask(native, downsampling),
        )


def to_float(frames: Array) -> Array:
    """uint8 to float32 in [-1, 1]."""
    return frames.astype(jnp.float32) / 127.5 - 1.0


def to_native(source: Array, place: Placement) -> Array:
    """The source's frames at their place in the model's frame, antialiased.

    Args:
      source: [N, Hs, Ws, 3] uint8; or layers of the canvas, [N, H', W', 4].
      place: of the source.

    Returns:
      [N, H, W, 3] float32; 0 wherever a pixel is not wholly observed. Of layers [N, H, W, 4]: the last channel is 1
      where all that a pixel stands for is seen, and 0 elsewhere.
    """
    if source.shape[-1] == 4:
        return _layers_to_native(source, place)
    shape = (source.shape[0], *place.pixel_mask.shape, 3)
    offset = place.scale * place.corner
    frames = jax.image.scale_and_translate(
        to_float(source), shape, (1, 2), place.scale, offset, "linear", antialias=True
    )
    return jnp.where(place.pixel_mask[..., None] == 0, frames, 0.0)


def _layers_to_native(layers: Array, place: Placement) -> Array:
    """See `to_native`."""
    shape = (len(layers), *place.pixel_mask.shape)
    seen = layers[..., 3:] >= place.enough
    weighted = jnp.concatenate([seen * to_float(layers[..., :3]), seen], axis=-1)
    resize = functools.partial(jax.image.resize, method="linear", antialias=True)
    *colours, weight = jnp.moveaxis(resize(weighted, (*shape, 4)), -1, 0)
    down, across = (_overlap(*sizes) for sizes in zip(shape[1:], layers.shape[1:3]))
    known = jnp.einsum("yh,nhw,xw->nyx", down, 1.0 - seen[..., 0], across) < 0.5
    colours = jnp.stack(colours, axis=-1) / jnp.maximum(weight, 1e-6)[..., None]
    return jnp.where(known[..., None], jnp.concatenate([colours, jnp.ones_like(colours[..., :1])], -1), 0.0)


def _overlap(size: int, of: int) -> np.ndarray:
    """[size, of]: 1 where a pixel of `size` stands for any part of a pixel of `of`."""
    begin, end = np.arange(size) * of // size, -(-(np.arange(size) + 1) * of // size)
    at = np.arange(of)
    return ((at >= begin[:, None]) & (at < end[:, None])).astype(np.float32)


def nearest(seen: Array) -> Array:
    """[..., N] bool with one run of True -> [..., N], indices moved into it."""
    size = seen.shape[-1]
    first = seen.argmax(axis=-1, keepdims=True)
    last = size - 1 - seen[..., ::-1].argmax(axis=-1, keepdims=True)
    return jnp.clip(jnp.arange(size), first, last)


def continued(pixels: Array, pixel_mask: Array) -> Array:
    """[..., H, W, C]: each unknown pixel as the nearest one that is observed, of a rectangle: where [H, W] is 0."""
    observed = pixel_mask == 0
    down, across = nearest(observed.any(axis=1)), nearest(observed.any(axis=0))
    return pixels[..., down, :, :][..., across, :]


def nearest_seen(seen: Array) -> tuple[Array, Array]:
    """Of each pixel the nearest one that is seen; of those that are as near one above, then one to the left.

    As distance transforms go (Felzenszwalb and Huttenlocher 2012): the nearest of each row, then of a column of those.

    Args:
      seen: [..., H, W] bool.

    Returns:
      Row and column, [..., H, W] int32; those of the pixel itself where nothing is seen.
    """
    height, width = seen.shape[-2:]
    row, column = jnp.arange(height), jnp.arange(width)
    far = height + width
    before = jax.lax.cummax(jnp.where(seen, column, -far), axis=seen.ndim - 1)
    after = jax.lax.cummin(jnp.where(seen, column, width + far), axis=seen.ndim - 1, reverse=True)
    across = jnp.where(column - before <= after - column, before, after)
    cost = (row[:, None, None] - row[:, None]) ** 2 + ((across - column) ** 2)[..., None, :, :]
    rows = cost.argmin(axis=-2)
    columns = jnp.take_along_axis(across, rows, axis=-2)
    anything = seen.any(axis=(-2, -1), keepdims=True)
    return jnp.where(anything, rows, row[:, None]), jnp.where(anything, columns, column)


def at_pixels(frames: Array, rows: Array, columns: Array) -> Array:
    """What frames [..., H, W, C] show at pixels [..., H, W] of theirs, such as those of `nearest_seen`."""
    *outer, _, width, channels = frames.shape
    at = (rows * width + columns).reshape(*rows.shape[:-2], -1, 1)
    return jnp.take_along_axis(frames.reshape(*outer, -1, channels), at, axis=-2).reshape(frames.shape)


shrink = Program(to_native)
