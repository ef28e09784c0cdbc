"""Outpainting without a model: what other frames have seen is carried over along the motion of the camera.

When the camera pans, what lies beyond the border of one frame lies inside another. So for each unknown pixel its path
through the clip is followed, into the past and into the future, and where it first enters the observed rectangle its
colour is taken. This is flow-guided propagation (Xu et al. 2019, "Deep flow-guided video inpainting", arXiv
1905.02884), with a flow that needs no training:

  1. flow between neighbouring frames on the observed rectangle, by OpenCV's DIS (Kroeger et al. 2016, 1603.03590);
  2. the camera's motion as a similarity that most of that flow agrees with (gp_jax/flow/camera.py);
  3. beyond the rectangle the camera's motion holds, and what the flow differs from it at the border fades out.

Dehan et al. (2022, "Complete and temporally consistent video outpainting") complete flow and background in this spirit
too. What no frame has seen is filled in by TELEA's inpainting, frame by frame: a fixed camera leaves all to it.
"""

import cv2
import numpy as np

from gp_jax.flow.camera import carried_on
from gp_jax.flow.estimate import flows
from gp_jax.flow.warp import difference, positions, sampled
from gp_jax.geometry import Canvas, pixel_mask

REACH = 64  # frames that content is carried over at most: the error of a path grows with its length
RADIUS = 3  # of TELEA's inpainting, in pixels
BYTES_PER_PIXEL = 22  # of the canvas, for each frame: two flows, the frame, and what becomes of it


def propagate(source: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Outpaints a clip.

    Args:
      source: uint8 [T, Hs, Ws, 3], the observed rectangle.
      canvas: the target frame.

    Returns:
      uint8 [T, H, W, 3], observed pixels exactly those of `source`.
    """
    motion = camera_flows(source, canvas)
    return np.stack([_frame(source, canvas, motion, time) for time in range(len(source))])


def camera_flows(source: np.ndarray, canvas: Canvas) -> dict[int, list[np.ndarray]]:
    """Flow of the whole canvas between neighbours.

    Args:
      source, canvas: as for `propagate`.

    Returns:
      under +1 the flow from each frame but the last to the next, under -1 from each but the first to the one before;
      [H, W, 2] float32 each: how many pixels right and down a pixel goes.
    """
    forward, backward = flows(source)
    return {
        +1: [_carried_on(there, back, canvas) for there, back in zip(forward, backward)],
        -1: [_carried_on(there, back, canvas) for there, back in zip(backward, forward)],
    }


def _frame(source: np.ndarray, canvas: Canvas, motion: dict[int, list[np.ndarray]], time: int) -> np.ndarray:
    """One frame of the result: its own pixels, then what the nearest frames have seen, then TELEA."""
    frame = np.pad(source[time], (*canvas.pads, (0, 0)), mode="edge")
    missing = pixel_mask(canvas) > 0
    # [H, W, 2]: where each pixel is now on its way through the clip, once in each direction of time.
    paths = {direction: positions(canvas.height, canvas.width) for direction in motion}
    for distance in range(1, min(REACH, len(source)) + 1):
        for direction in motion:
            other = time + direction * distance
            if not missing.any() or not 0 <= other < len(source):
                continue
            # The flow out of the frame that was reached last, from the pair of frames between it and the other one.
            step = motion[direction][min(other, other - direction)]
            path = paths[direction]
            path += sampled(step, path, borderMode=cv2.BORDER_REPLICATE)
            seen = missing & _within(path, canvas)
            if seen.any():
                inside = path - np.array((canvas.left, canvas.top), np.float32)
                frame[seen] = sampled(source[other], inside)[seen]
                missing &= ~seen
    return cv2.inpaint(frame, missing.astype(np.uint8), RADIUS, cv2.INPAINT_TELEA) if missing.any() else frame


def _carried_on(flow: np.ndarray, back: np.ndarray, canvas: Canvas) -> np.ndarray:
    """[H, W, 2]: a flow carried on; a pixel that does not come back was hidden, or its flow is wrong."""
    return carried_on(flow, np.square(difference(flow, back)).sum(axis=-1) < 1, canvas)


def _within(places: np.ndarray, canvas: Canvas) -> np.ndarray:
    """[H, W] bool: places [H, W, 2] whose colour is interpolated from observed pixels alone."""
    x, y = np.moveaxis(places, -1, 0)
    across = (x >= canvas.left) & (x <= canvas.left + canvas.source_width - 1)
    return across & (y >= canvas.top) & (y <= canvas.top + canvas.source_height - 1)
