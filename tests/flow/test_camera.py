"""Most pixels say how the camera moves; the others are objects."""

import cv2
import numpy as np
import pytest

from gp_jax.flow.camera import carried_on, drift, homography, moved, residual, similarity, steadying
from gp_jax.flow.warp import positions
from gp_jax.geometry import Canvas

TURNED = np.array([[1.01, -0.02, 3.4], [0.02, 1.01, -1.2], [0, 0, 1]])
TILTED = TURNED + np.array([[0, 0, 0], [0, 0.01, 0], [1e-4, -2e-4, 0]])
EVERYWHERE = np.ones((48, 64), bool)


def flow_of(camera: np.ndarray) -> np.ndarray:
    places = positions(48, 64)
    return moved(camera, places) - places


@pytest.mark.parametrize(("fit", "camera"), [(similarity, TURNED), (homography, TURNED), (homography, TILTED)])
def test_an_object_does_not_move_the_camera_and_stands_out(fit, camera):
    flow = flow_of(camera)
    flow[10:34, 20:44] += (5, 2)
    found = fit(flow, EVERYWHERE)
    np.testing.assert_allclose(moved(found, positions(48, 64)), moved(camera, positions(48, 64)), atol=0.05)
    astray = residual(flow, found)
    np.testing.assert_allclose(astray[10:34, 20:44], np.hypot(5, 2), atol=0.05)
    astray[10:34, 20:44] = 0
    assert astray.max() < 0.05


def test_who_is_not_trusted_has_no_vote():
    flow = flow_of(TURNED)
    flow[:, :40] += 9  # most of the frame
    trusted = EVERYWHERE.copy()
    trusted[:, :40] = False
    for fit in similarity, homography:
        assert residual(flow, fit(flow, trusted))[:, 40:].max() < 0.05


@pytest.mark.parametrize("fit", [similarity, homography])
def test_too_few_votes_are_no_motion(fit):
    np.testing.assert_array_equal(fit(flow_of(TURNED), ~EVERYWHERE), np.eye(3))
    np.testing.assert_array_equal(fit(flow_of(TURNED)[:3, :3], EVERYWHERE[:3, :3]), np.eye(3))


def test_beyond_the_border_the_cameras_motion_holds_and_what_differs_fades():
    canvas = Canvas(60, 90, 6, 16, 48, 64)
    flow = flow_of(TURNED)
    flow[20:30, 60:] += (4, 0)  # an object at the right border
    whole = carried_on(flow, similarity(flow, EVERYWHERE), canvas)
    assert (whole.shape, whole.dtype) == ((60, 90, 2), np.float32)
    np.testing.assert_allclose(whole[canvas.observed], flow, atol=1e-4)
    places = positions(60, 90) - (16, 6)
    astray = np.hypot(*np.moveaxis(whole - (moved(TURNED, places) - places), -1, 0))
    assert astray[:, :70].max() < 0.05
    row = astray[31, 80:]
    np.testing.assert_allclose(row, 4 * np.exp(-np.arange(1, 11) / 12), atol=0.05)


def test_a_steady_pan_is_left_as_it_is_and_shakes_are_not():
    pan = np.arange(50)[:, None] * np.array([1.5, -0.5])
    np.testing.assert_allclose(steadying(pan), 0, atol=1e-9)
    shakes = np.random.default_rng(0).normal(size=(50, 2))
    path = pan + shakes + steadying(pan + shakes)
    assert np.abs(np.diff(path, n=2, axis=0)).mean() < 0.1 * np.abs(np.diff(shakes, n=2, axis=0)).mean()
    np.testing.assert_array_equal(steadying(np.zeros((1, 2))), 0)
    assert steadying(pan[:3]).shape == (3, 2)


@pytest.mark.parametrize("lines", [64, 640])
def test_drift_is_told_in_pixels_of_the_frame(lines):
    scale = lines // 64
    scene = np.random.default_rng(1).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    scene = cv2.resize(scene, (128 * scale, 96 * scale), interpolation=cv2.INTER_CUBIC)
    film = [scene[10 * scale :][:lines, (10 + 2 * t) * scale :][:, : 96 * scale] for t in range(4)]
    np.testing.assert_allclose(drift(film), np.arange(4)[:, None] * [-2 * scale, 0], atol=0.3 * scale)
