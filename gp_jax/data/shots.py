"""Shots: a film is cut where a frame differs from the one before far more than its neighbours do.

A clip must not jump in the middle: the model would learn to answer a camera cut with invented motion. Cuts are looked
for in thumbnails, of which a film of two hours has 0.7 GB, so that no film is ever held in memory:

    for start, stop in find_shots(thumbnails(reader), least=57):
        clip = list(reader.frames_at(range(start, stop)))
"""

from collections.abc import Iterable
from itertools import pairwise

import cv2
import numpy as np

THUMBNAIL = (48, 27)
CUT, OUTLIER, NEIGHBOURS = 9.0, 3.0, 6
DARK, STILL = 24.0, 0.25


def thumbnails(frames: Iterable[np.ndarray]) -> np.ndarray:
    """Frames [H, W, 3] uint8, one at a time -> [frames, 27, 48, 3] uint8."""
    return np.stack([cv2.resize(frame, THUMBNAIL, interpolation=cv2.INTER_AREA) for frame in frames])


def find_shots(small: np.ndarray, least: int, margin: int = 2, still: float = STILL) -> list[tuple[int, int]]:
    """The shots that show something and in which something moves.

    Args:
      small: [frames, 27, 48, 3] uint8, the thumbnails of a film.
      least: shorter shots are left out, after `margin` frames were cut off either end.
      margin: frames beside a cut that may still be blended with the other shot.
      still: shots that change by less from frame to frame, in levels of 255 on average, are left out (titles).

    Returns:
      (start, stop) frames of each shot, in order. Nearly black shots are left out.
    """
    change = changes(small)
    cuts = [0, *(int(i) + 1 for i in np.flatnonzero(is_cut(change))), len(small)]
    bright = small.mean(axis=(1, 2, 3)) > DARK
    shots = []
    for first, last in pairwise(cuts):
        seen = np.flatnonzero(bright[first:last])
        if not len(seen):
            continue
        # A fade to or from black belongs to no shot.
        start, stop = first + int(seen[0]) + margin, first + int(seen[-1]) + 1 - margin
        if stop - start >= least and bright[start:stop].mean() > 0.9 and change[start : stop - 1].mean() > still:
            shots.append((start, stop))
    return shots


def changes(small: np.ndarray) -> np.ndarray:
    """[frames] -> [frames - 1]: mean difference of neighbouring frames, in levels of 255."""
    return np.abs(np.diff(small.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))


def is_cut(change: np.ndarray) -> np.ndarray:
    """Which changes [frames - 1] stand out of those around them, or strongly out of those on one side.

    The second catches a cut into fast motion, and is strict, for a camera may start with a jerk.
    """
    padded = np.pad(change, NEIGHBOURS, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEIGHBOURS + 1)
    around = np.median(windows, axis=-1)
    one_side = np.minimum(np.median(windows[:, :NEIGHBOURS], axis=-1), np.median(windows[:, NEIGHBOURS + 1 :], axis=-1))
    return (change > CUT) & (change > OUTLIER * around) | (change > 4 * CUT) & (change > OUTLIER * one_side)
