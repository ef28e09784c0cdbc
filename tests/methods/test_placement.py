"""The source stands in the network's frame where it stands in the canvas."""

import jax
import numpy as np
import pytest

from gp_jax.geometry import Canvas, pixel_mask
from gp_jax.methods.placement import Placement, at_pixels, nearest_seen, shrink, to_float

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


@pytest.mark.parametrize("size", [(24, 64), (57, 101), (80, 120)])
def test_layers_of_a_rectangle_are_the_source(size):
    """Seen is what was observed, and shown is the source, but where unknown pixels weighed in at its border."""
    canvas = Canvas(57, 101, 4, 30, 40, 51)
    native = canvas.resize(*size)
    rng = np.random.default_rng(0)
    layers = rng.integers(0, 256, (2, 57, 101, 4), dtype=np.uint8)
    enough = int(rng.integers(1, 256))
    layers[..., 3] = rng.integers(0, enough, (2, 57, 101))
    layers[(slice(None), *canvas.observed, 3)] = rng.integers(enough, 256, (2, 40, 51))
    place = Placement.of(canvas, native, 1)._replace(enough=np.uint8(enough))
    shown = np.asarray(shrink(layers, place))
    np.testing.assert_array_equal(shown[..., 3], np.broadcast_to(1 - pixel_mask(native), shown.shape[:3]))
    source = shrink(np.ascontiguousarray(layers[(slice(None), *canvas.observed)][..., :3]), place)
    np.testing.assert_allclose(shown[..., :3], source, atol=1e-5)


def test_a_pixel_is_seen_where_all_that_it_stands_for_is():
    layers = np.full((1, 12, 15, 4), 255, np.uint8)
    layers[0, 5, 7] = 0  # black, and unknown: nothing of it may show
    canvas = Canvas(12, 15, 0, 0, 12, 15)
    shown = np.asarray(shrink(layers, Placement.of(canvas, canvas.resize(6, 6), 1)))[0]
    np.testing.assert_array_equal(np.argwhere(shown[..., 3] == 0), [(2, 2), (2, 3)])  # columns 5 to 7.5, 7.5 to 10
    np.testing.assert_allclose(shown[shown[..., 3] == 1], 1, atol=1e-6)


def test_the_nearest_pixel_that_is_seen_is_found():
    rng = np.random.default_rng(1)
    seen = rng.random((3, 9, 13)) < 0.1
    seen[1] = False
    rows, columns = map(np.asarray, jax.jit(nearest_seen)(seen))
    places = np.stack(np.mgrid[:9, :13], axis=-1)
    for frame in (0, 2):
        assert seen[frame][rows[frame], columns[frame]].all()
        found = np.square(np.stack([rows, columns], axis=-1)[frame] - places).sum(axis=-1)
        best = np.square(places[:, :, None] - np.argwhere(seen[frame])).sum(axis=-1).min(axis=-1)
        np.testing.assert_array_equal(found, best)
    np.testing.assert_array_equal(np.stack([rows, columns], axis=-1)[1], places)
    shown = at_pixels(np.broadcast_to(places, (3, 9, 13, 2)), rows, columns)
    np.testing.assert_array_equal(shown, np.stack([rows, columns], axis=-1))
