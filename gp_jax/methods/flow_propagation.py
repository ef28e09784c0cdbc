"""Outpainting without a model: what other frames have seen is carried over along the motion of the camera.

When the camera pans, what lies beyond the border of one frame lies inside another. So each unknown pixel's path through
the clip is followed, into the past and into the future, and where it first enters the observed rectangle its colour is
taken. This is flow-guided propagation (Xu et al. 2019, "Deep flow-guided video inpainting", arXiv 1905.02884), with a
flow that needs no training:

  1. flow between neighbouring frames on the observed rectangle (gp_jax/flow/estimate.py);
  2. the camera's motion as a similarity that most of that flow agrees with, which holds beyond the rectangle; what the
     flow differs from it at the border fades out there (gp_jax/flow/camera.py);
  3. chains of that flow, into both directions of time (gp_jax/flow/propagation.py).

What no frame has seen is filled in by TELEA's inpainting, frame by frame: a fixed camera leaves all to it.
"""

import cv2
import numpy as np

from gp_jax.flow.camera import carried_on
from gp_jax.flow.estimate import flows
from gp_jax.flow.propagation import propagate
from gp_jax.flow.warp import difference
from gp_jax.geometry import Canvas, pixel_mask

RADIUS = 3  # of TELEA's inpainting, in pixels
BYTES_PER_PIXEL = 80  # of the canvas, for each frame: two flows, chains in both directions, frame and error


def outpaint(source: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Outpaints a clip.

    Args:
      source: uint8 [T, Hs, Ws, 3], the observed rectangle.
      canvas: the target frame.

    Returns:
      uint8 [T, H, W, 3], observed pixels exactly those of `source`.
    """
    frames, filled, _ = seen_elsewhere(source, canvas)
    missing = (pixel_mask(canvas) > 0) & ~filled
    return np.stack(
        [
            cv2.inpaint(frame, gap.astype(np.uint8), RADIUS, cv2.INPAINT_TELEA) if gap.any() else frame
            for frame, gap in zip(frames, missing)
        ]
    )


def seen_elsewhere(source: np.ndarray, canvas: Canvas) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What other frames show of the canvas' unknown region.

    Args:
      source, canvas: as for `outpaint`.

    Returns:
      frames, filled and error of `propagate`, of whole frames; where nothing was filled the border is repeated.
    """
    frames = np.pad(source, ((0, 0), *canvas.pads, (0, 0)), mode="edge")
    known = np.broadcast_to(pixel_mask(canvas) == 0, frames.shape[:3])
    return propagate(frames, known, *camera_flows(source, canvas))


def camera_flows(source: np.ndarray, canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """Flow of the whole canvas between neighbours.

    Args:
      source, canvas: as for `outpaint`.

    Returns:
      forward and backward of `flows`, [T - 1, H, W, 2].
    """
    forward, backward = flows(source)
    there, back = np.zeros((2, len(forward), canvas.height, canvas.width, 2), np.float32)
    for pair, way in enumerate(zip(forward, backward)):
        there[pair], back[pair] = _carried_on(*way, canvas), _carried_on(*way[::-1], canvas)
    return there, back


def _carried_on(flow: np.ndarray, back: np.ndarray, canvas: Canvas) -> np.ndarray:
    """[H, W, 2]: a flow carried on; a pixel that does not come back was hidden, or its flow is wrong."""
    return carried_on(flow, np.square(difference(flow, back)).sum(axis=-1) < 1, canvas)
