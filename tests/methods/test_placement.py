"""The source stands in the network's frame where it stands in the canvas."""

import numpy as np
import pytest

from gp_jax.geometry import Canvas, pixel_mask
from gp_jax.methods.placement import Placement, shrink, to_float

NATIVE = Canvas(24, 32, 3, 9, 19, 15)


@pytest.mark.parametrize("size", [(24, 64), (57, 101), (8, 16)])
def test_the_source_keeps_its_place(size):
    """A picture of coordinates shows the same coordinates at any size."""
    canvas = Canvas(57, 101, 4, 30, 40, 51)
    native = canvas.resize(*size)
    row, column = np.mgrid[4:44, 30:81]
    source = np.stack([row, column, 0 * row], axis=-1).astype(np.uint8)[None]
    frames = (np.asarray(shrink(source, Placement.of(canvas, native, 1))) + 1) * 127.5
    rows, columns = native.observed
    expected_row = (np.arange(native.height) + 0.5) * 57 / native.height - 0.5
    expected_column = (np.arange(native.width) + 0.5) * 101 / native.width - 0.5
    inner = frames[0, rows, columns][1:-1, 1:-1]  # antialiasing is one-sided at the border
    np.testing.assert_allclose(
        inner[..., 0], np.broadcast_to(expected_row[rows][1:-1, None], inner.shape[:2]), atol=0.1
    )
    np.testing.assert_allclose(
        inner[..., 1], np.broadcast_to(expected_column[columns][1:-1], inner.shape[:2]), atol=0.1
    )
    unknown = pixel_mask(native) == 1
    np.testing.assert_allclose(frames[0][unknown], 127.5)


def test_the_same_size_changes_no_pixel():
    source = np.random.default_rng(2).integers(0, 256, (2, 19, 15, 3), dtype=np.uint8)
    rows, columns = NATIVE.observed
    np.testing.assert_allclose(
        shrink(source, Placement.of(NATIVE, NATIVE, 8))[:, rows, columns], to_float(source), atol=1e-5
    )
