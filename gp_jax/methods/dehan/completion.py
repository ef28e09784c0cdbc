"""What no frame shows, made up; see `plugs.Completion`."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.registry import load

RADIUS = 3  # of TELEA's inpainting, in pixels


class Telea:
    """OpenCV's inpainting by fast marching (Telea 2004); raises UserError where it is to be made of a checkpoint."""

    def __init__(self, checkpoint: str = ""):
        if checkpoint:
            raise UserError(f"the completion telea is made of no checkpoint: leave :{checkpoint} out")

    settings: Mapping[str, Any] = {}

    def __call__(self, frame: np.ndarray, missing: np.ndarray, seen: Canvas) -> np.ndarray:
        """See `Completion`."""
        return cv2.inpaint(frame, missing.astype(np.uint8), RADIUS, cv2.INPAINT_TELEA)


class GlobalPaint:
    """This package's model on a clip of one frame, which is its image model; holes within a frame are TELEA's.

    Args:
      checkpoint: a folder, or a model of this package; empty for its own.

    Raises:
      UserError: there is no such checkpoint.
    """

    def __init__(self, checkpoint: str = ""):
        self.method = load("globalpaint", checkpoint or None)

    @property
    def settings(self) -> Mapping[str, Any]:
        """See `Completion`."""
        return self.method.settings(self.method.Options())

    def __call__(self, frame: np.ndarray, missing: np.ndarray, seen: Canvas) -> np.ndarray:
        """See `Completion`."""
        if seen.is_complete:
            return Telea()(frame, missing, seen)
        widest = grown(seen, ~missing)
        made = self.method(frame[widest.observed][None], widest)[0]
        return np.where(missing[..., None], made, frame)


def grown(seen: Canvas, known: np.ndarray) -> Canvas:
    """A frame whose rectangle, all known, goes as far beyond that of `seen` as what is known [H, W] lets it."""
    top, left = seen.top, seen.left
    bottom, right = top + seen.source_height, left + seen.source_width
    while True:
        before = top, left, bottom, right
        left -= left > 0 and bool(known[top:bottom, left - 1].all())
        right += right < seen.width and bool(known[top:bottom, right].all())
        top -= top > 0 and bool(known[top - 1, left:right].all())
        bottom += bottom < seen.height and bool(known[bottom, left:right].all())
        if before == (top, left, bottom, right):
            return Canvas(seen.height, seen.width, top, left, bottom - top, right - left)
