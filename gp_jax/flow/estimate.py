"""Optical flow between neighbouring frames, on the host.

    forward, backward = flows(video)            uint8 [T, H, W, 3] -> [T - 1, H, W, 2] each

`forward[t]` goes from frame t to t + 1, `backward[t]` from t + 1 back to t. A flow says how many pixels right and down
a pixel goes: of a camera that pans right by 3 pixels a frame, forward is (-3, 0) and backward (3, 0) everywhere.

Another estimator is one function and one line in `ESTIMATORS`.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np

SMALLEST = 16  # pixels a side that an estimator needs; what is smaller is said not to move

# From two frames, uint8 [H, W, 3], to the flow from the first to the second, float32 [H, W, 2]. Called by threads.
Estimator = Callable[[np.ndarray, np.ndarray], np.ndarray]


def flows(video: np.ndarray, estimator: str = "dis") -> tuple[np.ndarray, np.ndarray]:
    """Flow between neighbours, pairs side by side in threads.

    Args:
      video: [T, H, W, 3] uint8, or float in [-1, 1].
      estimator: a name in `ESTIMATORS`.

    Returns:
      (t to t + 1, t + 1 to t), both [T - 1, H, W, 2] float32, in pixels right and down.
    """
    if video.dtype != np.uint8:
        video = np.clip(np.round((video + 1) * 127.5), 0, 255).astype(np.uint8)
    pairs = len(video) - 1
    if pairs < 1 or min(video.shape[1:3]) < SMALLEST:
        still = np.zeros((max(pairs, 0), *video.shape[1:3], 2), np.float32)
        return still, still.copy()
    with ThreadPoolExecutor() as pool:
        there = list(pool.map(ESTIMATORS[estimator], [*video[:-1], *video[1:]], [*video[1:], *video[:-1]]))
    forward, backward = np.asarray(there, np.float32).reshape(2, pairs, *video.shape[1:3], 2)
    return forward, backward


def dis(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """OpenCV's DIS at its medium preset (Kroeger et al. 2016, arXiv 1603.03590); arguments as for `Estimator`."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (a, b)]
    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # its types forbid None
    return search.calc(*grey, None)


ESTIMATORS: dict[str, Estimator] = {"dis": dis}
