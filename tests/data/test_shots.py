"""Shots are what lies between cuts."""

import numpy as np
import pytest

from gp_jax.data.shots import changes, cuts, find_shots, thumbnails


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


@pytest.mark.parametrize("length", [1, 3, 6])
def test_a_flash_is_no_cut(length):
    rng = np.random.default_rng(4)
    film = np.concatenate([drifting(rng, 20), drifting(rng, 20)])
    film[9 : 9 + length] = 255 - film[9 : 9 + length] // 8
    assert cuts(film) == [20]


@pytest.mark.parametrize("length", [5, 12, 30])
def test_a_dissolve_is_no_cut_and_a_fade_is_cut_in_the_black(length):
    rng = np.random.default_rng(5)
    first, second = drifting(rng, 40).astype(float), drifting(rng, 40).astype(float)
    share = np.linspace(0, 1, length + 2)[1:-1, None, None, None]
    mixed = first[-length:] * (1 - share) + second[:length] * share
    dissolved = np.concatenate([first[:-length], mixed, second[length:]]).astype(np.uint8)
    assert cuts(dissolved) == []
    first[-length:] *= 1 - share
    second[:length] *= share
    faded = np.concatenate([first, np.zeros((3, *first.shape[1:])), second]).astype(np.uint8)
    (middle,) = cuts(faded)
    assert 40 <= middle <= 43


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_film_of_few_frames_has_no_cut(count):
    assert cuts(drifting(np.random.default_rng(6), 2)[:count]) == []
    assert cuts(np.zeros((5, 9, 16, 3), np.uint8)) == []
    assert find_shots(thumbnails(drifting(np.random.default_rng(6), 2)[: count or 1]), least=1) == []


def test_what_swings_into_the_picture_makes_no_cut():
    """Within five frames something else fills it, fastest in the middle; a cut beside that is one all the same."""
    film, other = drifting(np.random.default_rng(9), 60), drifting(np.random.default_rng(10), 60) // 4
    for frame, share in zip(range(24, 60), (0.1, 0.35, 0.65, 0.9, *[1] * 32)):
        film[frame, :, : round(128 * share)] = other[frame, :, : round(128 * share)]
    change = changes(thumbnails(film))
    assert change[25] > 3 * np.median(change[19:32]) and change.argmax() == 25, change[20:32]
    assert cuts(film) == []
    assert cuts(np.concatenate([film[:27], 255 - film[:20]])) == [27]


def test_a_camera_that_jerks_makes_no_cut():
    film = drifting(np.random.default_rng(8), 30, speed=0)
    film[15:] = np.roll(film[15:], 16, axis=2)
    assert changes(thumbnails(film)).argmax() == 14 and not cuts(film)
