"""The warping error follows known motion; flicker sees what pulses and nothing else, and pulse sees what stands out."""

import numpy as np
import pytest

from gp_jax.metrics import flicker, pulse, warping_error


def pan(frames=3, height=64, width=80, step=3):
    """A smooth texture under a camera that goes right: [1, T, H, W, 3] float in [-1, 1]."""
    y, x = np.mgrid[:height, : width + frames * step]
    film = 0.4 * np.sin(x / 3.1 + y / 7) + 0.4 * np.cos(y / 4.3 - x / 11)
    colours = np.stack([film, film**2, -film], axis=-1)
    return np.stack([colours[:, t * step : t * step + width] for t in range(frames)])[None].astype(np.float32)


def test_the_warping_error_forgives_motion_that_the_reference_has():
    video = pan()
    still = np.repeat(video[:, :1], 3, axis=1)
    assert warping_error(video, video) < 0.01 * warping_error(video, still)


@pytest.mark.parametrize("offset, pulse", [(0.0, 0.1), (0.3, 0.1), (0.3, 0.0)])
def test_flicker_is_what_pulses(offset, pulse):
    video = pan(frames=5) * 0.5
    signs = np.array([1, -1, 1, -1, 1])[:, None, None, None]
    np.testing.assert_allclose(flicker(video, video + offset + pulse * signs), pulse, atol=1e-6)


# What is added to a clip of 12 frames, and its pulse.
COURSES = {
    "constant": (np.full(12, 0.2), 0.0),
    "steady drift": (np.linspace(0, 0.4, 12), 0.0),
    "steady flicker": (0.1 * (-1.0) ** np.arange(12), 0.0),
    "one flash": (0.3 * (np.arange(12) == 5), 0.3),
    "a flash at the first frame": (0.3 * (np.arange(12) == 0), 0.3 * (1 - 0.01 * 10)),  # one pair, not two
    "flashes on a drift": (0.02 * np.arange(12) + 0.3 * (np.arange(12) % 5 == 3), 0.3),
}


@pytest.mark.parametrize("name", COURSES)
@pytest.mark.parametrize("cut", [0.0, 1.0])
def test_pulse_is_how_far_the_largest_changes_stand_out(name, cut):
    """Whatever the picture is, and though both videos have a cut."""
    reference = np.broadcast_to(pan(1) * 0.1, (1, 12, 64, 80, 3)) - cut * (np.arange(12) > 7)[:, None, None, None] / 2
    offset, expected = COURSES[name]
    video = reference + 2 * offset[:, None, None, None]  # in [-1, 1]
    np.testing.assert_allclose(pulse(reference, video), expected, atol=1e-5 if not cut else 0.025)


def test_pulse_looks_where_the_mask_is():
    video = np.zeros((1, 6, 16, 16, 3), np.float32)
    video[:, 3, :, :8] = 1
    mask = np.zeros((16, 16), np.float32)
    mask[:, :8] = 1
    assert pulse(0 * video, video, mask) == pytest.approx(0.5) and pulse(0 * video, video, 1 - mask) == 0
