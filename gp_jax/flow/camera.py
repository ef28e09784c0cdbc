"""How the camera moves, told from optical flow; what moves otherwise stands before the scene.

    camera = similarity(flow, trusted)                   [3, 3]: shift, turn and zoom, as most pixels go
    moved(camera, positions(64, 96))                     where the camera takes any place, beyond the frame too
    residual(flow, homography(flow, trusted))            [H, W]: pixels that each pixel goes astray; large on objects
    steadying(drift(frames))                             [T, 2]: how to shift frames so that the camera moves smoothly

Both fits are RANSAC's (Fischler and Bolles 1981): of many few pixels drawn at random, those count whose motion most
others agree with to within a pixel, so objects that cover less than half of the frame do not move the camera. OpenCV
draws them, with the same numbers each time. Motion is in pixels, right and down; places are (x, y).
"""

import itertools
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np

from gp_jax.flow.estimate import flows
from gp_jax.flow.warp import difference, positions
from gp_jax.geometry import Canvas

GRID = 4  # distance of the pixels whose flow votes for the camera's motion
THRESHOLD = 1.0  # pixels that a vote may be away from what it agrees with
LINES = 360  # of a frame whose drift is looked at, at most
SMOOTHNESS = 12  # frames, deviation of the Gaussian that a steadied camera's path is smoothed by
FADE = 0.2  # share of the frame's shorter side within which the border's own motion fades into the camera's


def similarity(flow: np.ndarray, trusted: np.ndarray) -> np.ndarray:
    """Shift, turn and zoom that most of a flow agrees with.

    Args:
      flow: [H, W, 2].
      trusted: bool [H, W], pixels that may vote.

    Returns:
      [3, 3] float64; the identity where too few vote.
    """
    fit: Any = cv2.estimateAffinePartial2D
    matrix = _fitted(flow, trusted, lambda a, b: fit(a, b, ransacReprojThreshold=THRESHOLD)[0])
    return np.eye(3) if matrix is None else np.vstack([matrix, (0, 0, 1)])


def homography(flow: np.ndarray, trusted: np.ndarray) -> np.ndarray:
    """The motion of a plane, or of a scene before a camera that only turns; arguments and result as of `similarity`."""
    matrix = _fitted(flow, trusted, lambda a, b: cv2.findHomography(a, b, cv2.RANSAC, THRESHOLD)[0])
    return similarity(flow, trusted) if matrix is None else matrix


def residual(flow: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """[H, W]: pixels between where a flow [H, W, 2] and where the camera [3, 3] takes a pixel."""
    places = positions(*flow.shape[:2])
    return np.hypot(*np.moveaxis(places + flow - moved(camera, places), -1, 0))


def drift(frames: Iterable[np.ndarray]) -> np.ndarray:
    """[T, 2] float64: pixels that the scene in the middle of frames, uint8 [H, W, 3], has gone since the first one."""
    places = [np.zeros(2)]
    for pair in itertools.pairwise(frames):
        height, width = pair[0].shape[:2]
        size = looked_at(height, width)[::-1]
        small = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in pair])
        forward, backward = (flow[0] for flow in flows(small))
        camera = similarity(forward, np.square(difference(forward, backward)).sum(axis=-1) < 1)
        middle = (np.array(size) - 1) / 2
        places.append(places[-1] + (moved(camera, middle) - middle) * (width, height) / size)
    return np.stack(places)


def looked_at(height: int, width: int) -> tuple[int, int]:
    """(height, width) at which `drift` looks at frames."""
    scale = min(1.0, LINES / height)
    return max(1, round(scale * height)), max(1, round(scale * width))


def steadying(drift: np.ndarray) -> np.ndarray:
    """[T, 2] float64: shifts after which the scene drifts by its `drift` [T, 2], smoothed.

    Each frame goes to the line that fits the frames around it best, weighted by a Gaussian: local linear regression,
    which leaves a steady pan as it is, also at both ends of a clip.
    """
    steps = np.arange(-3 * SMOOTHNESS, 3 * SMOOTHNESS + 1)
    weights = np.exp(-0.5 * (steps / SMOOTHNESS) ** 2)

    def sums(values: np.ndarray, power: int) -> np.ndarray:
        return np.correlate(np.pad(values, len(steps) // 2), weights * steps**power, "valid")

    first, second, third = (sums(np.ones(len(drift)), power)[:, None] for power in range(3))
    mean, slope = (np.stack([sums(axis, power) for axis in drift.T], axis=-1) for power in range(2))
    spread = first * third - second**2
    line = (third * mean - second * slope) / np.maximum(spread, 1e-9)
    return np.where(spread > 1e-9, line, mean / first) - drift


def carried_on(flow: np.ndarray, camera: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Flow of the observed rectangle to all of the canvas.

    Beyond the rectangle the camera's similarity holds, and what the flow differs from it at the border fades out.

    Args:
      flow: [Hs, Ws, 2].
      camera: [3, 3], its `similarity`.
      canvas: the target frame.

    Returns:
      [H, W, 2] float32.
    """
    places = positions(canvas.height, canvas.width) - np.array((canvas.left, canvas.top), np.float32)
    motion = moved(camera, places) - places
    residual = np.pad(flow - motion[canvas.observed], (*canvas.pads, (0, 0)), mode="edge")
    last = np.array((canvas.source_width - 1, canvas.source_height - 1), np.float32)
    beyond = np.maximum(-places, places - last).clip(min=0)
    fade = np.exp(-np.hypot(*np.moveaxis(beyond, -1, 0)) / (FADE * min(canvas.height, canvas.width)))
    return (motion + residual * fade[..., None]).astype(np.float32)


def moved(camera: np.ndarray, places: np.ndarray) -> np.ndarray:
    """[..., 2]: where a camera's motion [3, 3] takes places [..., 2]; no nearer to its horizon than a thousandth."""
    there = places @ camera[:, :2].T + camera[:, 2]
    return there[..., :2] / np.maximum(there[..., 2:], 1e-3)


def _fitted(flow: np.ndarray, trusted: np.ndarray, fit: Any) -> np.ndarray | None:
    """What `fit` makes of places and where they go, each [N, 2]; None where they are too few or do not agree."""
    grid = np.s_[GRID // 2 :: GRID, GRID // 2 :: GRID]
    places = positions(*flow.shape[:2])[grid][trusted[grid]]
    return None if len(places) < GRID else fit(places, places + flow[grid][trusted[grid]])
