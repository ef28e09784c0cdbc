"""Least differences, by the book: each pair of neighbours is an equation of a dense system."""

import numpy as np
import pytest

from gp_jax.flow.extend import extended, harmonic
from gp_jax.geometry import Canvas


def reference(values: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """What `harmonic` solves, pair by pair, by numpy's least squares."""
    height, width = hole.shape
    number = np.cumsum(hole).reshape(hole.shape) - 1
    rows, right = [], []
    for y in range(height):
        for x in range(width):
            for there in ((y + 1, x), (y, x + 1)):
                if there[0] == height or there[1] == width or not (hole[y, x] or hole[there]):
                    continue
                row, known = np.zeros(hole.sum()), np.zeros(values.shape[-1])
                for place, sign in (((y, x), 1), (there, -1)):
                    if hole[place]:
                        row[number[place]] = sign
                    else:
                        known -= sign * values[place]
                rows.append(row)
                right.append(known)
    filled = values.copy()
    filled[hole] = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    return filled


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_hole_is_filled_with_least_differences(share):
    rng = np.random.default_rng(int(10 * share))
    values, hole = rng.normal(size=(9, 7, 2)), rng.random((9, 7)) < share
    np.testing.assert_allclose(harmonic(values, hole), reference(values, hole), atol=1e-5)


def test_inside_the_frame_a_pixel_is_the_mean_of_its_four_neighbours():
    values, hole = np.random.default_rng(0).normal(size=(12, 12, 1)), np.zeros((12, 12), bool)
    hole[3:9, 2:10] = True
    filled = harmonic(values, hole)[..., 0]
    means = (filled[:-2, 1:-1] + filled[2:, 1:-1] + filled[1:-1, :-2] + filled[1:-1, 2:]) / 4
    np.testing.assert_allclose(filled[1:-1, 1:-1][hole[1:-1, 1:-1]], means[hole[1:-1, 1:-1]], atol=1e-5)


def test_a_frame_that_is_all_hole_does_not_move():
    assert not harmonic(np.ones((4, 5, 2)), np.ones((4, 5), bool)).any()


def test_the_right_side_is_like_its_fifth_column():
    rng = np.random.default_rng(0)
    flow, support = rng.normal(size=(8, 6, 2)).astype(np.float32), np.ones((8, 6), bool)
    support[2:5, 3:] = False
    wide = extended(flow, support, Canvas(8, 15, 0, 0, 8, 6))
    hole = np.pad(~support, ((0, 0), (0, 9)), constant_values=True)
    column = reference(np.pad(flow, ((0, 0), (0, 9), (0, 0))), hole)[:, 10]
    np.testing.assert_array_equal(wide[:, :6], flow)
    np.testing.assert_allclose(wide[:, 6:], np.repeat(column[:, None], 9, axis=1), atol=1e-5)


def test_all_sides_are_alike():
    """Mirrored and turned, the same comes out, on sides that are narrower than five pixels too."""
    rng = np.random.default_rng(0)
    flow, support = rng.normal(size=(8, 6, 2)).astype(np.float32), rng.random((8, 6)) < 0.8
    for beyond in (3, 9):
        right = extended(flow, support, Canvas(8, 6 + beyond, 0, 0, 8, 6))
        left = extended(flow[:, ::-1], support[:, ::-1], Canvas(8, 6 + beyond, 0, beyond, 8, 6))
        down = extended(flow.swapaxes(0, 1), support.T, Canvas(6 + beyond, 8, 0, 0, 6, 8))
        np.testing.assert_allclose(left[:, ::-1], right, atol=1e-5)
        np.testing.assert_allclose(down.swapaxes(0, 1), right, atol=1e-5)


def test_an_object_at_the_border_is_not_carried_on_and_corners_are_filled():
    canvas = Canvas(20, 30, 4, 7, 12, 16)
    flow, support = np.full((12, 16, 2), (3.0, -1.0), np.float32), np.ones((12, 16), bool)
    support[5:9, 10:] = False
    flow[~support] = 50
    whole = extended(flow, support, canvas)
    np.testing.assert_array_equal(whole[canvas.observed], flow)
    whole[canvas.observed] = (3, -1)
    np.testing.assert_allclose(whole, np.broadcast_to((3, -1), whole.shape), atol=1e-5)
