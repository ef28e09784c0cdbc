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

from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from gp_jax.flow.camera import carried_on, positions
from gp_jax.geometry import Canvas, pixel_mask

REACH = 64  # frames that content is carried over at most: the error of a path grows with its length
SMALLEST = 16  # pixels a side that optical flow needs
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
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in source]
    dis: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # its types forbid None

    def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return dis.calc(a, b, None) if min(a.shape) >= SMALLEST else np.zeros((*a.shape, 2), np.float32)

    flows = {+1: [], -1: []}
    for here, there in pairwise(grey):
        forward, backward = between(here, there), between(there, here)
        flows[+1].append(carried_on(forward, _trusted(forward, backward), canvas))
        flows[-1].append(carried_on(backward, _trusted(backward, forward), canvas))
    return flows


def _frame(source: np.ndarray, canvas: Canvas, flows: dict[int, list[np.ndarray]], time: int) -> np.ndarray:
    """One frame of the result: its own pixels, then what the nearest frames have seen, then TELEA."""
    frame = np.pad(source[time], (*canvas.pads, (0, 0)), mode="edge")
    missing = pixel_mask(canvas) > 0
    # [H, W, 2]: where each pixel is now on its way through the clip, once in each direction of time.
    paths = {direction: positions(canvas.height, canvas.width) for direction in flows}
    for distance in range(1, min(REACH, len(source)) + 1):
        for direction in flows:
            other = time + direction * distance
            if not missing.any() or not 0 <= other < len(source):
                continue
            # The flow out of the frame that was reached last, from the pair of frames between it and the other one.
            step = flows[direction][min(other, other - direction)]
            path = paths[direction]
            path += _sampled(step, path, borderMode=cv2.BORDER_REPLICATE)
            seen = missing & _within(path, canvas)
            if seen.any():
                inside = path - np.array((canvas.left, canvas.top), np.float32)
                frame[seen] = _sampled(source[other], inside)[seen]
                missing &= ~seen
    return cv2.inpaint(frame, missing.astype(np.uint8), RADIUS, cv2.INPAINT_TELEA) if missing.any() else frame


def _trusted(flow: np.ndarray, back: np.ndarray) -> np.ndarray:
    """[H, W] bool: pixels that come back; one that does not was hidden, or its flow is wrong."""
    landed = positions(*flow.shape[:2]) + flow
    returned = _sampled(back, landed, borderMode=cv2.BORDER_REPLICATE)
    return np.square(flow + returned).sum(axis=-1) < 1


def _sampled(picture: np.ndarray, places: np.ndarray, **options: Any) -> np.ndarray:
    """A picture at places [H, W, 2], bilinearly."""
    remap: Any = cv2.remap  # its types forbid None
    return remap(picture, places, None, cv2.INTER_LINEAR, **options)


def _within(places: np.ndarray, canvas: Canvas) -> np.ndarray:
    """[H, W] bool: places [H, W, 2] whose colour is interpolated from observed pixels alone."""
    x, y = np.moveaxis(places, -1, 0)
    across = (x >= canvas.left) & (x <= canvas.left + canvas.source_width - 1)
    return across & (y >= canvas.top) & (y <= canvas.top + canvas.source_height - 1)
