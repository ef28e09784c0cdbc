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

from collections.abc import Iterable, Iterator
from itertools import islice

import cv2
import numpy as np

from gp_jax.flow.camera import carried_on
from gp_jax.flow.estimate import flows
from gp_jax.flow.propagation import REACH, propagate
from gp_jax.flow.warp import difference
from gp_jax.geometry import Canvas, pixel_mask

RADIUS = 3  # of TELEA's inpainting, in pixels
WORST = 2.0  # pixels of error with which content is still worth more than TELEA's
MEMORY = 2**30  # bytes that frames and flows take at most; what is larger is carried over fewer frames
BYTES_PER_PIXEL = 56  # of the canvas, for each frame that is held: two flows, the frame, chains, and copies of these


def outpaint(source: Iterable[np.ndarray], canvas: Canvas) -> Iterator[np.ndarray]:
    """Outpaints a clip.

    Args:
      source: uint8 [Hs, Ws, 3], the observed rectangle, frame by frame.
      canvas: the target frame.

    Yields:
      uint8 [H, W, 3], observed pixels exactly those of `source`.
    """
    missing = pixel_mask(canvas) > 0
    for frame, filled, error in seen_elsewhere(source, canvas):
        gap = missing & ~(filled & (error < WORST))
        yield cv2.inpaint(frame, gap.astype(np.uint8), RADIUS, cv2.INPAINT_TELEA) if gap.any() else frame


def seen_elsewhere(source: Iterable[np.ndarray], canvas: Canvas) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What other frames show of the canvas' unknown region, by windows of the clip.

    Args:
      source, canvas: as for `outpaint`.

    Yields:
      frame, filled and error of `propagate`, of the whole canvas; where nothing was filled the border is repeated.
    """
    source, length = iter(source), reach(canvas)
    frames = np.zeros((0, canvas.source_height, canvas.source_width, 3), np.uint8)
    there, back = camera_flows(frames, canvas)
    at = 0  # of the first frame that is not made yet
    while True:
        fresh = list(islice(source, at + 2 * length - len(frames)))
        if fresh:
            last = max(len(frames) - 1, 0)
            frames = np.concatenate([frames, fresh])
            there, back = map(np.concatenate, zip((there, back), camera_flows(frames[last:], canvas)))
        if at == len(frames):
            return
        wanted = range(at, min(at + length, len(frames)))
        whole = np.pad(frames, ((0, 0), *canvas.pads, (0, 0)), mode="edge")
        known = np.broadcast_to(pixel_mask(canvas) == 0, whole.shape[:3])
        yield from zip(*propagate(whole, known, there, back, length, wanted=wanted))
        past = max(wanted.stop - length, 0)
        frames, there, back, at = frames[past:], there[past:], back[past:], wanted.stop - past


def reach(canvas: Canvas) -> int:
    """Frames that content is carried over at most; three times as many are held."""
    return max(1, min(REACH, MEMORY // (3 * BYTES_PER_PIXEL * canvas.height * canvas.width)))


def held(canvas: Canvas, frames: int) -> int:
    """Bytes that `outpaint` takes for a clip of so many frames."""
    return BYTES_PER_PIXEL * canvas.height * canvas.width * min(frames, 3 * reach(canvas))


def camera_flows(source: np.ndarray, canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """Flow of the whole canvas between neighbours.

    Args:
      source: uint8 [T, Hs, Ws, 3].
      canvas: the target frame.

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
