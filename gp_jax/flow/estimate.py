"""Optical flow between neighbouring frames.

    forward, backward = flows(video)            uint8 [T, H, W, 3] -> [T - 1, H, W, 2] each

`forward[t]` goes from frame t to t + 1, `backward[t]` from t + 1 back to t. A flow says how many pixels right and down
a pixel goes: of a camera that pans right by 3 pixels a frame, forward is (-3, 0) and backward (3, 0) everywhere.

Two estimators are here: `dis`, OpenCV's, on the host, and `gmflow`, a network (gmflow.py), whose weights are fetched
once. Another one is a function and a line in `ESTIMATORS`; it is imported when it is asked for.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, NamedTuple

import cv2
import numpy as np

from gp_jax.errors import UserError

SMALLEST = 16  # pixels a side that an estimator needs; what is smaller is said not to move

# From frames, uint8 [T, H, W, 3], to the flow between neighbours, there and back, float32 [T - 1, H, W, 2] each.
Estimator = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class Line(NamedTuple):
    """Where an estimator is, as `module:name`, and the name of the published weights that it cannot do without."""

    function: str
    weights: str | None = None


ESTIMATORS = {"dis": Line("gp_jax.flow.estimate:dis"), "gmflow": Line("gp_jax.flow.gmflow:gmflow", "gmflow")}


def flows(video: np.ndarray, estimator: str = "dis") -> tuple[np.ndarray, np.ndarray]:
    """Flow between neighbours.

    Args:
      video: [T, H, W, 3] uint8, or float in [-1, 1].
      estimator: a name in `ESTIMATORS`.

    Returns:
      (t to t + 1, t + 1 to t), both [T - 1, H, W, 2] float32, in pixels right and down.

    Raises:
      UserError: the weights of the estimator were not fetched.
    """
    if video.dtype != np.uint8:
        video = np.clip(np.round((video + 1) * 127.5), 0, 255).astype(np.uint8)
    pairs = len(video) - 1
    if pairs < 1 or min(video.shape[1:3]) < SMALLEST:
        still = np.zeros((max(pairs, 0), *video.shape[1:3], 2), np.float32)
        return still, still.copy()
    module, _, name = ESTIMATORS[estimator].function.partition(":")
    return getattr(import_module(module), name)(video)


def check(estimator: str) -> None:
    """Raises UserError where there is no such estimator, or its weights were not fetched."""
    if estimator not in ESTIMATORS:
        raise UserError(f"there is no flow {estimator!r}: choose of {', '.join(ESTIMATORS)}")
    if needed := ESTIMATORS[estimator].weights:
        from gp_jax.published.weights import load  # needs jax, which the table above is read without

        load(needed)


def dis(video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """OpenCV's DIS at its medium preset (Kroeger et al. 2016, arXiv 1603.03590), pairs side by side in threads.

    Arguments and results as for `Estimator`.
    """
    with ThreadPoolExecutor() as pool:
        there = list(pool.map(_dis, [*video[:-1], *video[1:]], [*video[1:], *video[:-1]]))
    forward, backward = np.asarray(there, np.float32).reshape(2, len(video) - 1, *video.shape[1:3], 2)
    return forward, backward


def _dis(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """From two frames, uint8 [H, W, 3], to the flow from the first to the second."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (a, b)]
    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # its types forbid None
    return search.calc(*grey, None)
