"""Shots: a film is cut where a frame differs from the one before far more than its neighbours do.

A clip must not jump in the middle: the model would learn to answer a camera cut with invented motion. Cuts are looked
for in thumbnails, of which a film of two hours has 0.7 GB, so that no film is ever held in memory:

    for start, stop in find_shots(thumbnails(reader), least=57):
        clip = list(reader.frames_at(range(start, stop)))

What is trained on may be chosen, and is, with a margin. What is to be outpainted is all of a film, so `cuts` says where
one shot ends and the next begins, and no frame is left out: a flash is no cut, for the scene comes back; a dissolve is
none either, since no place in it belongs to one shot alone; of a fade to black and back the cut is in the black.
"""

from collections import deque
from collections.abc import Iterable
from itertools import pairwise

import cv2
import numpy as np

THUMBNAIL = (48, 27)
CUT, OUTLIER, NEIGHBOURS = 9.0, 3.0, 6
DARK, STILL = 24.0, 0.25
FLASH, BACK = 8, 0.5  # frames that one lasts at most; of its change, what may be left when the scene is back
FADE = 12  # frames from black within which a change of brightness is a fade's
OTHER = 3.5  # levels times the share of pixels with other colours: a camera that jerks shows the same ones elsewhere
ALONE = 1.5  # times the smaller of the changes beside it that a cut is at least: what swings past comes and goes
BLACK = 20  # the brightest that a thumbnail of a black frame is


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
    if not len(change):  # of a film of one frame
        return np.zeros(0, bool)
    padded = np.pad(change, NEIGHBOURS, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEIGHBOURS + 1)
    around = np.median(windows, axis=-1)
    one_side = np.minimum(np.median(windows[:, :NEIGHBOURS], axis=-1), np.median(windows[:, NEIGHBOURS + 1 :], axis=-1))
    return (change > CUT) & (change > OUTLIER * around) | (change > 4 * CUT) & (change > OUTLIER * one_side)


def cuts(frames: Iterable[np.ndarray]) -> list[int]:
    """Where shots begin, but for the first one: indices of frames.

    Args:
      frames: [H, W, 3] uint8 of a whole film, of which a few thumbnails are held.
    """
    change, scaled, moved, back, black = [], [], [], [], []
    held: deque[np.ndarray] = deque(maxlen=FLASH + 1)
    for frame in frames:
        small = thumbnails([frame])[0].astype(np.float32)
        black.append(bool(small.max() <= BLACK))
        apart = [float(np.abs(small - before).mean()) for before in reversed(held)]  # from the last, the one before ...
        if apart:
            change.append(apart[0])
            scaled.append(_scaled(held[-1], small))
            moved.append(float(np.abs(_colours(held[-1]) - _colours(small)).sum()) / 2)
            back.append([*apart, *[np.inf] * (FLASH + 1 - len(apart))])
        held.append(small)
    if not change:
        return []
    found, flash = [], -1
    is_other = np.array(change) * np.array(moved) > OTHER
    before, after = np.pad(change, (1, 0))[:-1], np.pad(change, (0, 1))[1:]
    is_alone = (np.array(change) >= np.maximum(before, after)) & (change > ALONE * np.minimum(before, after))
    for index in map(int, np.flatnonzero(is_cut(np.array(change)) & is_other & is_alone)):
        near = slice(max(0, index - FADE), index + FADE)
        motion = float(np.median(change[max(0, index - NEIGHBOURS) : index + NEIGHBOURS + 1]))
        # The frames after it that show the scene before it, but for its motion; the likest ends the flash.
        returns = {
            index + ahead: back[index + ahead][ahead]
            for ahead in range(1, min(FLASH, len(back) - 1 - index) + 1)
            if back[index + ahead][ahead] < min(BACK * change[index], CUT + 2 * motion * ahead)
        }
        if returns:
            flash = max(flash, min(returns, key=lambda end: returns[end]))
        elif index > flash and not (any(black[near]) and scaled[index] < BACK * change[index]):
            found.append(index + 1)
    return sorted({*found, *_in_black(black)} - {0})


def _colours(small: np.ndarray) -> np.ndarray:
    """[512]: which share of a thumbnail's pixels has which colour."""
    red, green, blue = np.moveaxis(small.astype(np.int64) // 32, -1, 0)
    return np.bincount((64 * red + 8 * green + blue).ravel(), minlength=512) / red.size


def _scaled(before: np.ndarray, after: np.ndarray) -> float:
    """The mean difference that is left where one frame is made as bright as the other, in levels of 255."""
    darker, brighter = sorted((before, after), key=lambda frame: float(frame.sum()))
    share = float((darker * brighter).sum() / max((brighter * brighter).sum(), 1.0))
    return float(np.abs(darker - share * brighter).mean())


def _in_black(black: list[bool]) -> list[int]:
    """The middle of each stretch of black frames that pictures enclose."""
    edges = np.flatnonzero(np.diff(np.array([False, *black, False], np.int8)))
    return [int(a + b) // 2 for a, b in zip(edges[::2], edges[1::2]) if a > 0 and b < len(black)]
