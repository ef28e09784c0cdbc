"""Flow where none can be estimated: under a mask, and beyond the border of the frame (Dehan et al. 2022).

    harmonic(flow, hole)              [H, W, 2], the hole filled in as smoothly as its rim allows
    extended(flow, support, canvas)   [Hs, Ws, 2] -> [H, W, 2]

Both ask for least differences: of all values x_p in the hole those are taken with the smallest

    sum (x_p - x_q)^2                 over all neighbours p, q of four, of which one at least lies in the hole

so gradients there are zero as far as they can be, and what is known stays. Where all four neighbours exist this says
that a pixel is the mean of them, the Laplace equation with its rim fixed. It is solved exactly, by elimination: a few
milliseconds for 3,000 unknown pixels; a hole of the same shape as one before is not factorised again, as that of a
clip without objects at the border never is.
"""

import functools
from typing import Any

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from gp_jax.geometry import Canvas

BEYOND = 4  # the column beyond the border, counted from 0, that all columns beyond are like


def harmonic(values: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Fills a hole with least differences.

    Args:
      values: [H, W, C], read outside of the hole.
      hole: bool [H, W].

    Returns:
      [H, W, C] float32; 0 where nothing is outside of the hole.
    """
    filled = np.where(hole[..., None], 0, values).astype(np.float32)
    if hole.any() and not hole.all():
        factors, rim = _factors(hole.tobytes(), hole.shape)
        filled[hole] = factors.solve(rim @ filled[~hole].astype(np.float64))
    return filled


def extended(flow: np.ndarray, support: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Flow of the observed rectangle to all of the canvas.

    First to both sides: with the columns beyond, and what is no support, as a hole that is filled with least
    differences; then all columns beyond become like the fifth of their side, so that the flow there does not change
    with the distance. Then up and down the same of the rows, corners among them.

    Args:
      flow: [Hs, Ws, 2].
      support: bool [Hs, Ws], where flow counts for what is beyond: not on objects.
      canvas: the target frame.

    Returns:
      [H, W, 2] float32; in the rectangle `flow`, be it support or not.
    """
    down, across = canvas.pads
    wide, held = _across(flow, support, across)
    tall, _ = _across(wide.swapaxes(0, 1), held.T, down)
    return tall.swapaxes(0, 1)


def _across(flow: np.ndarray, support: np.ndarray, pads: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Flow and support, by `pads` columns wider; all new ones are support."""
    left, width = pads[0], flow.shape[1]
    padding = ((0, 0), pads)
    beyond = np.pad(np.zeros_like(support), padding, constant_values=True)
    # An object that does not reach the border does not matter beyond: its hole need not be filled.
    hole = _connected(np.pad(~support, padding, constant_values=True), beyond)
    wide = np.pad(flow, (*padding, (0, 0)))
    filled = harmonic(wide, hole)
    filled[:, left : left + width] = flow
    filled[:, :left] = filled[:, max(0, left - 1 - BEYOND), None]
    filled[:, left + width :] = filled[:, min(left + width + BEYOND, filled.shape[1] - 1), None]
    return filled, np.pad(support, padding, constant_values=True)


def _connected(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """[H, W] bool: pixels of a mask from which steps within it lead to a seed."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    return mask & np.isin(labels, np.unique(labels[seeds]))


@functools.lru_cache(maxsize=4)
def _factors(data: bytes, shape: tuple[int, int]) -> tuple[Any, sparse.csr_matrix]:
    """Of a hole with K of the pixels: its matrix [K, K], factorised, and what brings the rim to the right side."""
    hole = np.frombuffer(data, bool).reshape(shape)
    number = np.arange(hole.size).reshape(shape)
    pairs = np.concatenate(
        [
            np.stack([number[:-1], number[1:]], -1).reshape(-1, 2),
            np.stack([number[:, :-1], number[:, 1:]], -1).reshape(-1, 2),
        ]
    )
    pairs = pairs[hole.reshape(-1)[pairs].any(axis=1)]
    rows = np.repeat(np.arange(len(pairs)), 2)
    signs = np.tile([1.0, -1.0], len(pairs))
    differences = sparse.csc_matrix((signs, (rows, pairs.reshape(-1))), (len(pairs), hole.size))
    inside, outside = differences[:, hole.reshape(-1)], differences[:, ~hole.reshape(-1)]
    options = {"SymmetricMode": True, "DiagPivotThresh": 0.0}
    factors = splu((inside.T @ inside).tocsc(), permc_spec="MMD_AT_PLUS_A", options=options)
    return factors, -(inside.T @ outside).tocsr()
