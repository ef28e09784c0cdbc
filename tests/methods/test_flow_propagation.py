"""What another frame has seen is found again; what none has seen is TELEA's."""

import cv2
import numpy as np
import pytest

from gp_jax.geometry import Canvas, pixel_mask
from gp_jax.methods import flow_propagation
from gp_jax.methods.flow_propagation import camera_flows, carried, outpaint, seen_elsewhere
from tests.methods.test_classical import made_by


def outpainted(source, canvas):
    return np.stack(list(outpaint(source, canvas)))


CANVAS = Canvas(64, 96, 0, 16, 64, 64)


def texture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def panned(step: int, frames: int = 9) -> np.ndarray:
    """A camera that goes right by `step` pixels: [T, 64, 96, 3]."""
    still = texture(64, 96 + step * frames)
    return np.stack([still[:, step * frame :][:, :96] for frame in range(frames)])


@pytest.mark.parametrize("step", [3, 4])
def test_a_pan_brings_back_what_it_left_behind(step):
    film = panned(step)
    made = outpainted(film[(slice(None), *CANVAS.observed)], CANVAS).astype(float)
    telea = made_by("telea", film[(slice(None), *CANVAS.observed)], CANVAS).astype(float)
    # Frame 8 has all of its left side from earlier frames, frame 0 all of its right side from later ones.
    for frame, side in ((8, np.s_[:, :16]), (0, np.s_[:, 80:])):
        assert abs(made[frame][side] - film[frame][side]).mean() < 6
        assert abs(telea[frame][side] - film[frame][side]).mean() > 25


def test_a_slow_pan_is_followed_over_several_frames():
    wide = cv2.resize(texture(64, 200), (800, 64), interpolation=cv2.INTER_LINEAR)  # a step of 2 is half a pixel
    film = np.stack(
        [cv2.resize(wide[:, 2 * t : 2 * t + 384], (96, 64), interpolation=cv2.INTER_AREA) for t in range(9)]
    )
    made = outpainted(film[(slice(None), *CANVAS.observed)], CANVAS).astype(int)
    error = abs(made[8] - film[8])
    assert error[:, 13:16].mean() < 3  # four pixels to the right in the first frame, which has them observed


def test_a_fixed_camera_leaves_all_to_telea():
    source = np.repeat(texture(64, 64)[None], 4, axis=0)
    np.testing.assert_array_equal(outpainted(source, CANVAS), made_by("telea", source, CANVAS))


def test_what_is_carried_is_trusted_to_its_border():
    film = panned(3)
    layers = np.stack(list(carried(film[(slice(None), *CANVAS.observed)], CANVAS)))
    trust = layers[..., 3]
    np.testing.assert_array_equal(layers[(slice(None), *CANVAS.observed)][..., :3], film[:, :, 16:80])
    assert (trust[:, :, 16:80] == 255).all()
    # Frame 2 knows the 6 columns to the left from the frames before, and nothing beyond.
    assert np.median(trust[2, :, 14:16]) == 255 and not trust[2, :, :9].any()
    assert (np.diff(trust[2, 32, :16].astype(int)) >= 0).all()
    sure = (trust == 255)[..., None] & (np.arange(96)[:, None] < 16)
    assert abs(layers[..., :3].astype(int) - film)[np.broadcast_to(sure, film.shape)].mean() < 6


def test_a_fixed_camera_carries_nothing():
    source = np.repeat(texture(64, 64)[None], 4, axis=0)
    for layer in carried(source, CANVAS):
        np.testing.assert_array_equal(layer[..., 3] == 255, pixel_mask(CANVAS) == 0)
        assert set(np.unique(layer[..., 3])) == {0, 255}


def test_the_cameras_motion_holds_beyond_the_border():
    for flows, right in zip(camera_flows(panned(3), [CANVAS] * 9), (-3, 3)):
        assert flows.shape == (8, 64, 96, 2)
        corners = flows[:, ::63, ::95]
        np.testing.assert_allclose(corners[..., 0], right, atol=0.3)
        np.testing.assert_allclose(corners[..., 1], 0, atol=0.3)


def test_an_object_does_not_move_the_camera():
    source = np.repeat(texture(64, 64)[None], 5, axis=0)
    thing = 255 - texture(24, 24)
    for frame in range(5):
        source[frame, 20:44, 8 + 5 * frame : 32 + 5 * frame] = thing
    forward, _, scene = camera_flows(np.pad(source, ((0, 0), *CANVAS.pads, (0, 0))), [CANVAS] * 5)
    assert not scene[2, 20:44, 18:42].any() and scene[2, :12].mean() > 0.9
    for flow in forward:
        assert abs(flow[::63, ::95]).max() < 0.3


def test_windows_change_nothing(monkeypatch):
    """Nor does it matter for a frame what lies further away than content is carried."""
    monkeypatch.setattr(flow_propagation, "REACH", 3)
    source = panned(2, frames=17)[(slice(None), *CANVAS.observed)]
    whole = list(seen_elsewhere(source, CANVAS))
    assert len(whole) == 17 and whole[9][1].any()
    for made, again in zip(whole[9], list(seen_elsewhere(source[6:13], CANVAS))[3]):
        np.testing.assert_array_equal(made, again)


def test_large_frames_are_carried_less_far():
    assert flow_propagation.reach(CANVAS) == flow_propagation.REACH
    large = Canvas(1080, 1920, 0, 240, 1080, 1440)
    assert 1 <= flow_propagation.reach(large) < flow_propagation.REACH
    assert flow_propagation.held(large, 10**6) <= flow_propagation.MEMORY
    assert flow_propagation.held(large, 1) < flow_propagation.held(large, 10**6)


def test_a_source_that_moves_within_the_canvas_is_followed():
    """Of a camera that shakes before a still scene, put back where it looked, each frame has the whole scene."""
    still = texture(80, 112)
    places = [Canvas(80, 112, 4 + 2 * (t % 3), 8 + 5 * (t % 2), 64, 88) for t in range(8)]
    source = [still[place.observed] for place in places]
    layers = list(carried(source, places[0], places))
    for layer, place, own in zip(layers, places, source):
        np.testing.assert_array_equal(layer[place.observed][..., :3], own)
        sure = layer[..., 3] == 255
        assert sure.sum() > 64 * 88 + 100
        assert abs(layer[..., :3].astype(int) - still)[sure].mean() < 3
