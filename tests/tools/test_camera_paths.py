"""Camera paths stay inside their picture and are smooth; frames show what the camera looks at."""

import numpy as np
import pytest
from camera_paths import blob_layer, fit_path, render_panorama, render_windows, smooth_path, window_path

FRAMES = 57


@pytest.mark.parametrize("shape", [(97, 211), (301, 120), (64, 64)])
@pytest.mark.parametrize("aspect", [128 / 72, 72 / 128, 1.0])
def test_a_fitted_path_never_leaves_its_picture(shape, aspect):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        corners = fit_path(window_path(rng, FRAMES, aspect), shape, rng, least_width=30)
        assert corners.min() >= 0
        assert corners[..., 0].max() <= shape[1] - 1
        assert corners[..., 1].max() <= shape[0] - 1


def test_paths_are_smooth_and_keep_their_span():
    for seed in range(8):
        path = smooth_path(np.random.default_rng(seed), FRAMES, span=3.0)
        assert np.ptp(path) == pytest.approx(3.0)
        # A sine of one period over the clip has a second difference of 3 * (2 pi / 57)^2 / 2 = 0.018.
        assert np.abs(np.diff(path, n=2)).max() < 0.06


def test_a_frame_shows_the_picture_under_its_window():
    y, x = np.mgrid[0:120, 0:200].astype(np.uint8)
    picture = np.stack([x, y, np.full_like(x, 7)], axis=-1)
    rng = np.random.default_rng(0)
    corners = fit_path(window_path(rng, FRAMES, aspect=24 / 16), picture.shape, rng, least_width=24)
    frames = render_windows([picture] * FRAMES, corners, (16, 24)).astype(float)
    assert np.all(frames[..., 2] == 7)
    # Each corner pixel covers an area just inside of the window's corner.
    seen = np.stack([frames[:, r, c, :2] for r, c in ((0, 0), (0, -1), (-1, -1), (-1, 0))], axis=1)
    pixel = np.ptp(corners, axis=1).max() / 16
    assert np.abs(seen - corners).max() < pixel + 1


def test_a_camera_on_a_tripod_sees_the_same_frame_for_ever():
    picture = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    rng = np.random.default_rng(1)
    corners = fit_path(window_path(rng, 5, 1.0, motion=0.0), picture.shape, rng, least_width=20)
    frames = render_windows([picture] * 5, corners, (20, 20))
    assert np.all(frames == frames[0])


def test_a_layer_changes_only_what_it_covers():
    rng = np.random.default_rng(2)
    black, white = np.zeros((60, 60, 3), np.uint8), np.full((60, 60, 3), 255, np.uint8)
    corners = fit_path(window_path(rng, FRAMES, 1.0), black.shape, rng, least_width=20)
    texture, opacity, affine = blob_layer(rng, white, FRAMES, (20, 20))
    frames = render_windows([black] * FRAMES, corners, (20, 20), (texture, opacity, affine))
    covered = (frames > 0).mean(axis=(1, 2, 3))
    assert frames.max() == 255
    assert 0 < covered.max() < 1
    nothing = render_windows([black] * FRAMES, corners, (20, 20), (texture, 0 * opacity, affine))
    assert not nothing.any()


def test_a_camera_in_a_panorama_sees_directions_of_unit_length_and_turns_smoothly():
    # Every pixel of the panorama holds its own direction, so every pixel of a frame must hold a unit vector.
    latitude = (np.arange(128) + 0.5) / 128 * np.pi - np.pi / 2
    longitude = (np.arange(256) + 0.5) / 256 * 2 * np.pi
    latitude, longitude = np.meshgrid(latitude, longitude, indexing="ij")
    direction = np.stack(
        [np.cos(latitude) * np.sin(longitude), np.sin(latitude), np.cos(latitude) * np.cos(longitude)], axis=-1
    )
    panorama = (127.5 * (direction + 1)).round().astype(np.uint8)
    for seed in range(2):
        frames = render_panorama(panorama, np.random.default_rng(seed), FRAMES, (18, 32))
        seen = frames / 127.5 - 1
        assert np.abs(np.linalg.norm(seen, axis=-1) - 1).max() < 0.03
        assert np.linalg.norm(np.diff(seen[:, 9, 16], n=2, axis=0), axis=-1).max() < 0.12
