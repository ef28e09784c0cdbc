"""What stands beside a result: its source in its place, and where the two differ."""

import numpy as np
import pytest

from gp_jax.geometry import Canvas
from gp_jax.jobs.comparison import GREY, Comparison


@pytest.mark.parametrize("height, width", [(24, 40), (40, 24), (600, 2000)])
def test_source_result_and_difference(height, width):
    canvas = Canvas.from_pads(height - 8, width - 8, 8, 0, 4, 4)
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 200, (height, width, 3), np.uint8)
    source = frame[canvas.observed] + np.uint8(2)
    comparison = Comparison(canvas)
    seen = np.dstack([source, np.full(source.shape[:2], 255, np.uint8)])
    shown = comparison.beside(frame, np.pad(seen, (*canvas.pads, (0, 0))))
    assert shown.shape == (*comparison.size, 3) and shown.shape[1] <= 3840
    there, result, difference = np.split(shown, 3, axis=1)
    if (height, width) == there.shape[:2]:
        np.testing.assert_array_equal(result, frame)
        np.testing.assert_array_equal(there[canvas.observed], source)
        assert (difference[canvas.observed] == 16).all()
    assert (there[:, :2] == GREY).all() and (difference[:, :2] == GREY).all()
