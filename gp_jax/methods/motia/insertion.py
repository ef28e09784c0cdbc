"""How much of what was learned of the clip counts where: all of it within the source, the less the farther from it.

    a(p) = exp(-d / (reach * D))

d is the distance of a pixel to the nearest side of the source, along rows or columns: the smaller of the two, of which
one does not count in whose range the source lies. D is the largest expansion. (Spatial-aware insertion; MOTIA's LoRA
gives the clip's own motion, and far from it the image model is to make things up.)

Source: https://github.com/G-U-N/Be-Your-Outpainter (53748d1); its authors advise a reach of 1/2 (issue 5).
"""

import numpy as np

from gp_jax.geometry import Canvas


def insertion(canvas: Canvas, reach: float) -> np.ndarray:
    """[H, W] float32, from 0 to 1: what counts of updates at each pixel of a canvas.

    Args:
      canvas: at the networks' size.
      reach: above 0, in largest expansions: where 1/e is left.
    """
    (above, below), (left, right) = canvas.pads
    rows = _outside(canvas.height, above, below)[:, None]
    columns = _outside(canvas.width, left, right)[None]
    both = np.minimum(np.where(rows > 0, rows, np.inf), np.where(columns > 0, columns, np.inf))
    distance = np.where(np.isinf(both), 0.0, both)
    return np.exp(-distance / (reach * max(above, below, left, right, 1))).astype(np.float32)


def _outside(length: int, before: int, after: int) -> np.ndarray:
    """[length] how many pixels each is before or after the source; 0 within it."""
    at = np.arange(length)
    return np.maximum(np.maximum(before - at, at - (length - after) + 1), 0)
