"""Warping follows known motion; what returns is not occluded."""

import cv2
import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.flow.warp import LONGEST, check_size, difference, occluded, positions, sampled, warp


def constant(shape, right, down):
    return np.broadcast_to(np.float32((right, down)), (*shape, 2))


def test_a_whole_pixel_flow_shifts():
    frame = np.random.default_rng(0).normal(size=(9, 11, 2)).astype(np.float32)
    flow = constant((9, 11), 2, -1)
    warped = np.asarray(warp(frame, flow))
    np.testing.assert_array_equal(warped[1:, :-2], frame[:-1, 2:])
    assert not warped[0].any() and not warped[:, -2:].any()


def test_a_half_pixel_flow_averages():
    frame = np.random.default_rng(0).normal(size=(5, 6, 1)).astype(np.float32)
    warped = np.asarray(warp(frame, constant((5, 6), 0.5, 0)))
    np.testing.assert_allclose(warped[:, :-1], (frame[:, 1:] + frame[:, :-1]) / 2, rtol=1e-5)


def test_host_and_device_fetch_the_same():
    rng = np.random.default_rng(0)
    frame, flow = (rng.normal(size=(9, 11, 2)).astype(np.float32) for _ in range(2))
    flow = np.round(flow * 32) / 32  # as fine as OpenCV is
    np.testing.assert_allclose(sampled(frame, positions(9, 11) + flow), warp(frame, flow), atol=1e-5)


def test_flow_that_returns_is_not_occluded_and_flow_that_does_not_is():
    there = constant((8, 20), 3, 0)
    assert not np.asarray(occluded(there, -there))[:, :-3].any()
    assert np.asarray(occluded(there, there)).all()


def test_the_difference_is_what_is_left_of_there_and_back():
    there, back = constant((8, 20), 3, 0), constant((8, 20), -2, 0.5)
    np.testing.assert_array_equal(difference(there, back), constant((8, 20), 1, 0.5))


def test_frames_are_as_large_as_opencv_takes_them():
    check_size(LONGEST, LONGEST)
    for shape in ((LONGEST, 2), (2, LONGEST)):
        still = constant(shape, 0, 0)
        assert not difference(still, still).any()
        longer = constant((shape[0] + 1, shape[1] + 1), 0, 0)
        with pytest.raises(cv2.error):
            difference(longer, longer)
    with pytest.raises(UserError, match="over 32767x9 pixels, but over 32,766 a side at most"):
        check_size(9, LONGEST + 1)
