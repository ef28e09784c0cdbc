"""Following a flow, and whether it can be believed.

Below a flow [..., H, W, 2] says how many pixels right and down each pixel goes (estimate.py). What stands where it
points to is fetched bilinearly. A flow there and one back should cancel:

    difference(forward, backward) = forward(p) + backward(p + forward(p))

is 0 where both are right, and large where the other frame hides what this one shows, or where one of them is wrong.

`warp` and `occluded` are for devices, `sampled`, `positions` and `difference` the same for the host, where flow is
estimated.
"""

from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from gp_jax.errors import UserError

Array = jax.Array
LONGEST = 32_766  # pixels a side of what OpenCV's `remap` takes and gives


def warp(frames: Array, flow: Array) -> Array:
    """`frames` fetched, bilinearly, from where `flow` points; 0 beyond the frame.

    Args:
      frames: [..., H, W, C] float.
      flow: [..., H, W, 2] float32 in pixels, right and down.
    """

    def channel(image: Array, motion: Array) -> Array:
        rows, columns = jnp.indices(image.shape, dtype=jnp.float32)
        return map_coordinates(image, (rows + motion[..., 1], columns + motion[..., 0]), order=1, mode="constant")

    picture = jax.vmap(channel, in_axes=(-1, None), out_axes=-1)
    flat = jax.vmap(picture)(frames.reshape(-1, *frames.shape[-3:]), flow.reshape(-1, *flow.shape[-3:]))
    return flat.reshape(frames.shape)


def occluded(forward: Array, backward: Array) -> Array:
    """[..., H, W] bool: pixels whose flow there and back does not return, or at whose place the flow jumps.

    The test is that of Sundaram et al. (2010, "Dense point trajectories by GPU-accelerated large displacement optical
    flow").

    Args:
      forward, backward: [..., H, W, 2] float32, as `estimate.flows` gives them.
    """

    def square(flow: Array) -> Array:
        return jnp.square(flow).sum(axis=-1)

    returned = warp(backward, forward)
    lost = square(forward + returned) > 0.01 * (square(forward) + square(returned)) + 0.5
    down = jnp.diff(forward, axis=-3, append=forward[..., -1:, :, :])
    right = jnp.diff(forward, axis=-2, append=forward[..., -1:, :])
    return lost | (square(down) + square(right) > 0.01 * square(forward) + 0.002)


def difference(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """[H, W, 2]: how far, right and down, a pixel of flow [H, W, 2] ends from where it began when it returns.

    Beyond the frame the nearest flow inside holds.
    """
    landed = positions(*forward.shape[:2]) + forward
    return forward + sampled(backward, landed, borderMode=cv2.BORDER_REPLICATE)


def check_size(height: int, width: int) -> None:
    """Raises UserError where frames are larger than `difference` and `sampled` take."""
    if max(height, width) > LONGEST:
        raise UserError(
            f"optical flow cannot be followed over {width}x{height} pixels, but over {LONGEST:,} a side at most: ask "
            "for a smaller canvas, or for what needs no flow"
        )


def sampled(picture: np.ndarray, places: np.ndarray, **options: Any) -> np.ndarray:
    """A picture [H, W, ...] at places [H', W', 2], (x, y) each, bilinearly; options are those of `cv2.remap`."""
    remap: Any = cv2.remap  # its types forbid None
    return remap(picture, places, None, cv2.INTER_LINEAR, **options)


def positions(height: int, width: int) -> np.ndarray:
    """[H, W, 2] float32: (x, y) of each pixel."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
