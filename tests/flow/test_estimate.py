"""The flow of a known motion is that motion, whoever estimates it."""

import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.flow.estimate import check, flows


def pan(frames=3, height=64, width=80, step=3):
    """A smooth texture under a camera that goes right: [T, H, W, 3] float in [-1, 1]."""
    y, x = np.mgrid[:height, : width + frames * step]
    film = 0.4 * np.sin(x / 3.1 + y / 7) + 0.4 * np.cos(y / 4.3 - x / 11)
    colours = np.stack([film, film**2, -film], axis=-1)
    return np.stack([colours[:, t * step : t * step + width] for t in range(frames)]).astype(np.float32)


def test_the_flow_of_a_pan_is_its_step():  # of GMFlow's see test_gmflow.py: it needs weights
    forward, backward = flows(pan())
    assert forward.shape == backward.shape == (2, 64, 80, 2) and forward.dtype == backward.dtype == np.float32
    inner = np.s_[:, 16:-16, 16:-16]
    np.testing.assert_allclose(np.median(forward[inner], axis=(0, 1, 2)), (-3, 0), atol=0.1)
    np.testing.assert_allclose(np.median(backward[inner], axis=(0, 1, 2)), (3, 0), atol=0.1)


@pytest.mark.parametrize("frames, height", [(1, 64), (3, 15)])
def test_what_is_too_short_or_too_small_does_not_move(frames, height):
    for flow in flows(pan(frames, height)):
        assert flow.shape == (frames - 1, height, 80, 2) and not flow.any()


def test_an_estimator_that_there_is_not_is_told():
    with pytest.raises(UserError, match="no flow 'raft': choose of dis, gmflow"):
        check("raft")
