"""Where the source lies in the canvas and in the frame of a network, and how it is brought there.

    place = Placement.of(canvas, native, downsampling)                      numbers and masks
    pixels = shrink(source, place)                                          the source, as the network's size shows it

Pixels are float in [-1, 1], uint8 where they come from a video.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.geometry import Canvas, latent_mask, pixel_mask
from gp_jax.jobs.kept import Program

Array = jax.Array


class Placement(NamedTuple):
    """Where the source lies in the canvas and in the model's frame [H, W]: numbers, not shapes.

    A compiled program that takes them is the same for each place of a source of this size in a canvas of this size.
    Outside of it they are numpy's.
    """

    corner: Any  # [2] int32, the source's first row and column in the canvas
    scale: Any  # [2] float32, the model's frame by the canvas, down and across
    pixel_mask: Any  # [H, W]
    latent_mask: Any  # [h, w]

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
      source: [N, Hs, Ws, 3] uint8.
      place: of the source.

    Returns:
      [N, H, W, 3] float32; 0 wherever a pixel is not wholly observed.
    """
    shape = (source.shape[0], *place.pixel_mask.shape, 3)
    offset = place.scale * place.corner
    frames = jax.image.scale_and_translate(
        to_float(source), shape, (1, 2), place.scale, offset, "linear", antialias=True
    )
    return jnp.where(place.pixel_mask[..., None] == 0, frames, 0.0)


def nearest(seen: Array) -> Array:
    """[..., N] bool with one run of True -> [..., N], indices moved into it."""
    size = seen.shape[-1]
    first = seen.argmax(axis=-1, keepdims=True)
    last = size - 1 - seen[..., ::-1].argmax(axis=-1, keepdims=True)
    return jnp.clip(jnp.arange(size), first, last)


shrink = Program(to_native)
