"""Source, result and their difference side by side, in a file of its own: what a person judges a result by.

    +----------------+----------------+----------------+
    |   source, in   |                |  |result-source|,   black: the source's pixels are as they were
    |   its place    |     result     |  8 times over,  |   grey: there is no source to differ from
    +----------------+----------------+----------------+

All three are scaled down alike where they would be wider than `WIDEST` pixels together.
"""

from collections.abc import Callable, Generator

import cv2
import numpy as np

from gp_jax.geometry import Canvas
from gp_jax.video import VideoReader

WIDEST = 3840  # pixels: up to which players keep pace
GREY = 40
STRONGER = 8


class Comparison:
    """How frames lie beside their source.

    Args:
      reader: the source.
      canvas: its place.

    Attributes:
      size: height and width of what is shown, both even.
    """

    def __init__(self, reader: VideoReader, canvas: Canvas):
        self._reader, self._canvas = reader, canvas
        small = min(1.0, WIDEST / (3 * canvas.width))
        self._height, self._width = (max(2, round(side * small / 2) * 2) for side in (canvas.height, canvas.width))
        self.size = self._height, 3 * self._width

    def watched(
        self, frames: Generator[np.ndarray, None, None], write: Callable[[np.ndarray], object]
    ) -> Generator[np.ndarray, None, None]:
        """The frames, uint8 [H, W, 3], each given to `write` beside its source too, uint8 of `size`."""
        for frame, source in zip(frames, self._reader.frames_at(range(len(self._reader)))):
            write(self.beside(frame, source))
            yield frame

    def beside(self, frame: np.ndarray, source: np.ndarray) -> np.ndarray:
        """One frame, uint8 [H, W, 3], beside its source, uint8 [Hs, Ws, 3]."""
        there = np.full_like(frame, GREY)
        there[self._canvas.observed] = source
        difference = np.full_like(frame, GREY)
        difference[self._canvas.observed] = cv2.convertScaleAbs(
            cv2.absdiff(frame[self._canvas.observed], source), alpha=STRONGER
        )
        size = self._width, self._height
        parts = [cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in (there, frame, difference)]
        return np.concatenate(parts, axis=1)
