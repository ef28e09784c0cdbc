"""Shots are what lies between cuts."""

import numpy as np

from gp_jax.data.shots import find_shots, thumbnails


def drifting(rng: np.random.Generator, frames: int, speed: int = 1) -> np.ndarray:
    """A random texture with a colour cast of its own that moves sideways."""
    texture = np.kron(rng.integers(60, 200, (9, 16, 3)), np.ones((8, 8, 1))) * rng.uniform(0.5, 1.2, 3)
    return np.stack([np.roll(texture, speed * t, axis=1) for t in range(frames)]).clip(0, 255).astype(np.uint8)


def shots(parts, **options):
    return find_shots(thumbnails(np.concatenate(parts)), **options)


def test_shots_lie_between_cuts_and_leave_out_black_and_still_ones():
    rng = np.random.default_rng(0)
    parts = [
        drifting(rng, 30),
        drifting(rng, 41, speed=-2),
        np.zeros((25, 72, 128, 3), np.uint8),
        drifting(rng, 22),
        drifting(rng, 35, speed=0),
        drifting(rng, 9),
    ]
    assert shots(parts, least=12) == [(2, 28), (32, 69), (98, 116)]
    assert shots(parts, least=30) == [(32, 69)]
    assert shots(parts, least=30, still=-1.0) == [(32, 69), (120, 151)]


def test_a_cut_into_fast_motion_is_a_cut():
    rng = np.random.default_rng(2)
    (first, second) = shots([drifting(rng, 20), drifting(rng, 20, speed=29)], least=10)
    assert first == (2, 18)
    # The first frames of the motion stand out of the quiet before the cut as well, and go with it.
    assert 22 <= second[0] <= 25 and second[1] == 38
