"""The seam measure is the height of a step at the border, whatever the picture around it."""

import numpy as np
import pytest

from gp_jax.metrics import seam

MASKS = {"sides": np.s_[:, 6:20], "ends": np.s_[5:12, :], "all": np.s_[4:13, 5:20]}


@pytest.fixture(params=MASKS)
def mask(request):
    mask = np.ones((17, 26), np.float32)
    mask[MASKS[request.param]] = 0
    return mask


def slope(shape=(17, 26)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.repeat((0.01 * x - 0.02 * y)[None, None, ..., None], 3, axis=-1).astype(np.float32)


@pytest.mark.parametrize("height", [-0.2, 0.1])
def test_a_step_at_the_border_counts_with_its_height(mask, height):
    video = slope()
    np.testing.assert_allclose(seam(video, video + height * mask[..., None], mask), abs(height) / 2, atol=1e-6)


def test_a_step_elsewhere_does_not_count():
    video, mask = slope(), np.ones((17, 26), np.float32)
    mask[:, 6:20] = 0
    other = video.copy()
    other[..., 12:, :] += 0.2
    np.testing.assert_allclose(seam(video, other, mask), 0, atol=1e-6)


def test_an_edge_that_reality_has_is_forgiven(mask):
    video = slope() + 0.3 * mask[..., None]
    np.testing.assert_allclose(seam(video, video, mask), 0, atol=1e-6)
    assert seam(video, slope(), mask) < -0.1  # and smoothing it over shows as well
