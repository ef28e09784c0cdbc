"""Source, result and their difference side by side, in a file of its own: what a person judges a result by.

    +----------------+----------------+----------------+
    |   source, in   |                |  |result-source|,   black: the source's pixels are as they were
    |   its place    |     result     |  8 times over,  |   grey: there is no source to differ from
    +----------------+----------------+----------------+

All three are scaled down alike where they would be wider than `WIDEST` pixels together.
"""

from collections.abc import Callable, Generator, Iterable

import cv2
import numpy as np

from gp_jax.geometry import Canvas

WIDEST = 3840  # pixels: up to which players keep pace
GREY = 40
STRONGER = 8


class Comparison:
    """How frames of a canvas lie beside their source.

    Attributes:
      size: height and width of what is shown, both even.
    """

    def __init__(self, canvas: Canvas):
        small = min(1.0, WIDEST / (3 * canvas.width))
        self._height, self._width = (max(2, round(side * small / 2) * 2) for side in (canvas.height, canvas.width))
        self.size = self._height, 3 * self._width

    def watched(
        self,
        frames: Generator[np.ndarray, None, None],
        sources: Iterable[np.ndarray],
        write: Callable[[np.ndarray], object],
    ) -> Generator[np.ndarray, None, None]:
        """The frames, uint8 [H, W, 3], each given to `write` beside its source too, uint8 of `size`."""
        for frame, source in zip(frames, sources):
            write(self.beside(frame, source))
            yield frame

    def beside(self, frame: np.ndarray, source: np.ndarray) -> np.ndarray:
        """One frame, uint8 [H, W, 3], beside its source, uint8 [H, W, 4]: colours, and 255 where it is seen, else 0."""
        colours, seen = source[..., :3], source[..., 3:] == 255
        there = np.where(seen, colours, np.uint8(GREY))
        difference = np.where(seen, cv2.convertScaleAbs(cv2.absdiff(frame, colours), alpha=STRONGER), np.uint8(GREY))
        size = self._width, self._height
        parts = [cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in (there, frame, difference)]
        return np.concatenate(parts, axis=1)
