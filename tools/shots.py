"""Films as arrays, and the shots they are made of.

A clip must not jump in the middle: the model would learn to answer a camera cut with invented motion. So a film is
decoded once, small, to a file that can be mapped into memory, and its cuts are where a frame differs from the one
before far more than its neighbours do:

    film = decode(Path("film.mp4"), Path("film.npy"), height=216)        # [frames, 216, 384, 3], uint8
    for start, stop in find_shots(film, least=57):
        clip = film[start : start + 57]
"""

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image, ImageSequence

THUMBNAIL = (48, 27)
CUT, OUTLIER, NEIGHBOURS = 9.0, 3.0, 6
DARK, STILL = 24.0, 0.25


def decode(path: Path, cache: Path, height: int) -> np.ndarray:
    """Decodes a film or an animated picture, once: the frames lie in `cache` as a NumPy file.

    Args:
      path: a video or an animated webp.
      cache: where the frames are kept, or are from an earlier call.
      height: height of the frames; the width keeps the aspect ratio.

    Returns:
      [frames, height, width, 3] uint8, mapped from the file, read only.
    """
    if not cache.exists():
        temporary = cache.with_name(cache.name + ".partial")
        # The header holds the number of frames, which is known for certain only afterwards.
        count = 0
        with temporary.open("wb") as file:
            for frame in _frames(path):
                width = round(frame.shape[1] * height / frame.shape[0])
                small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
                if count == 0:
                    _header(file, (1 << 40, *small.shape))
                file.write(small.tobytes())
                count += 1
            file.seek(0)
            _header(file, (count, *small.shape))
        os.replace(temporary, cache)
    return np.load(cache, mmap_mode="r")


def find_shots(film: np.ndarray, least: int, margin: int = 2) -> list[tuple[int, int]]:
    """The shots that show something and in which something moves.

    Args:
      film: [frames, h, w, 3] uint8.
      least: shorter shots are left out, after `margin` frames were cut off either end.
      margin: frames beside a cut that may still be blended with the other shot.

    Returns:
      (start, stop) frames of each shot, in order. Nearly black and nearly still shots (titles) are left out.
    """
    thumbnails = np.stack([cv2.resize(frame, THUMBNAIL, interpolation=cv2.INTER_AREA) for frame in film])
    change = np.abs(np.diff(thumbnails.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
    cuts = [0, *(int(i) + 1 for i in np.flatnonzero(_is_cut(change))), len(film)]
    bright = thumbnails.mean(axis=(1, 2, 3)) > DARK
    shots = []
    for first, last in pairwise(cuts):
        seen = np.flatnonzero(bright[first:last])
        if not len(seen):
            continue
        # A fade to or from black belongs to no shot.
        start, stop = first + int(seen[0]) + margin, first + int(seen[-1]) + 1 - margin
        if stop - start >= least and bright[start:stop].mean() > 0.9 and change[start : stop - 1].mean() > STILL:
            shots.append((start, stop))
    return shots


def _is_cut(change: np.ndarray) -> np.ndarray:
    """Which changes [frames - 1] stand out of those around them, or strongly out of those on one side.

    The second catches a cut into fast motion, and is strict, for a camera may start with a jerk.
    """
    padded = np.pad(change, NEIGHBOURS, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEIGHBOURS + 1)
    around = np.median(windows, axis=-1)
    one_side = np.minimum(np.median(windows[:, :NEIGHBOURS], axis=-1), np.median(windows[:, NEIGHBOURS + 1 :], axis=-1))
    return (change > CUT) & (change > OUTLIER * around) | (change > 4 * CUT) & (change > OUTLIER * one_side)


def _frames(path: Path) -> Iterator[np.ndarray]:
    if path.suffix == ".webp":
        with Image.open(path) as picture:
            yield from (np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture))
        return
    with av.open(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        yield from (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))


def _header(file, shape: tuple[int, ...]) -> None:
    # Padded by NumPy with room for the first axis to grow, so that both headers have the same length.
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
