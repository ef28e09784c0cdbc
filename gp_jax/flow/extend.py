"""Flow where none can be estimated: under a mask, and beyond the border of the frame (Dehan et al. 2022).

    harmonic(flow, hole)              [H, W, 2], the hole filled in as smoothly as its rim allows
    extended(flow, support, canvas)   [Hs, Ws, 2] -> [H, W, 2]

Both ask for least differences: of all values x_p in the hole those are taken with the smallest

    sum (x_p - x_q)^2                 over all neighbours p, q of four, of which one at least lies in the hole

so gradients there are zero as far as they can be, and what is known stays. Where all four neighbours exist this says
that a pixel is the mean of them, the Laplace equation with its rim fixed. It is solved exactly: within the frame by
elimination, beyond it, where all is unknown, by a cosine transform along the border.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from scipy import sparse
from scipy.fft import dct
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
    return _solved(values, hole, [])


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
    borders = np.zeros_like(support)
    borders[:, [at for at, pad in zip((0, -1), pads) if pad]] = True
    # An object that does not reach the border does not matter beyond: its hole need not be filled.
    hole = _connected(~support, borders)
    sides = [_Side(at, *_beyond(len(flow), pad)) for at, pad in zip((0, -1), pads) if pad]
    filled = _solved(flow, hole, sides)
    columns = iter([np.einsum("yx,xc->yc", side.shown, filled[:, side.border])[:, None] for side in sides])
    left, right = (np.repeat(next(columns), pad, axis=1) if pad else flow[:, :0] for pad in pads)
    wide = np.concatenate([left, flow, right], axis=1, dtype=np.float32)
    return wide, np.pad(support, ((0, 0), pads), constant_values=True)


class _Side(NamedTuple):
    """Columns beyond a border of H rows, in terms of the border's own: a column beyond is matrix @ border."""

    border: int  # index of its column
    first: np.ndarray  # [H, H], of the first column beyond
    shown: np.ndarray  # [H, H], of the one that all are to be like


@functools.lru_cache(maxsize=8)
def _beyond(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """`_Side.first` and `shown` of so many columns beyond, all unknown.

    Least differences there separate: along a column by a cosine transform, which leaves of each frequency, whose
    squared differences have the eigenvalue m, a chain x[c] = ratio[c] x[c - 1] with ratio[c] = 1 / (2 + m - ratio[c +
    1]), and 1 / (1 + m) in the last column, which has one neighbour less.
    """
    cosines = np.asarray(dct(np.eye(rows), axis=0, norm="ortho"))
    eigenvalue = 2 - 2 * np.cos(np.pi * np.arange(rows) / rows)
    ratios = [1 / (1 + eigenvalue)]
    for _ in range(columns - 1):
        ratios.append(1 / (2 + eigenvalue - ratios[-1]))
    to_shown = np.prod(ratios[::-1][: BEYOND + 1], axis=0)
    first, shown = ((cosines.T * share) @ cosines for share in (ratios[-1], to_shown))
    return first, shown


def _connected(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """[H, W] bool: pixels of a mask from which steps within it lead to a seed."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    return mask & np.isin(labels, np.unique(labels[seeds]))


def _solved(values: np.ndarray, hole: np.ndarray, sides: Sequence[_Side]) -> np.ndarray:
    """As `harmonic`, with what lies beyond as unknown as the hole."""
    filled = np.where(hole[..., None], 0, values).astype(np.float32)
    if not hole.any() or hole.all():
        return filled
    number = np.arange(hole.size).reshape(hole.shape)
    pairs = np.concatenate([np.stack([a.ravel(), b.ravel()], -1) for a, b in _neighbours(number)])
    pairs = pairs[hole.ravel()[pairs].any(axis=1)]
    signs, rows = np.tile([1.0, -1.0], len(pairs)), np.repeat(np.arange(len(pairs)), 2)
    differences = sparse.csc_matrix((signs, (rows, pairs.ravel())), (len(pairs), hole.size))
    # The gradient of the sum of squares, in the hole, as a matrix on all pixels.
    gradient = (differences[:, hole.ravel()].T @ differences).tocsc()
    for side in sides:
        of, column = np.cumsum(hole.ravel())[number[:, side.border]] - 1, number[:, side.border]
        inner = hole[:, side.border]
        block = (np.eye(len(column)) - side.first)[inner]
        place = np.broadcast_to(of[inner][:, None], block.shape), np.broadcast_to(column, block.shape)
        gradient = gradient + sparse.csc_matrix((block.ravel(), tuple(x.ravel() for x in place)), gradient.shape)
    known = gradient[:, ~hole.ravel()] @ filled[~hole].astype(np.float64)
    options = {"SymmetricMode": True, "DiagPivotThresh": 0.0}
    factors = splu(gradient[:, hole.ravel()], permc_spec="MMD_AT_PLUS_A", options=options)
    filled[hole] = -factors.solve(known)
    return filled


def _neighbours(grid: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Each of [H, W] beside the one below it, and beside the one to its right."""
    return (grid[:-1], grid[1:]), (grid[:, :-1], grid[:, 1:])
