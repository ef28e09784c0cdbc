"""Shots are what lies between cuts; films are decoded once."""

import numpy as np
from PIL import Image
from shots import decode, find_shots


def drifting(rng: np.random.Generator, frames: int, speed: int = 1) -> np.ndarray:
    """A random texture with a colour cast of its own that moves sideways."""
    texture = np.kron(rng.integers(60, 200, (9, 16, 3)), np.ones((8, 8, 1))) * rng.uniform(0.5, 1.2, 3)
    return np.stack([np.roll(texture, speed * t, axis=1) for t in range(frames)]).clip(0, 255).astype(np.uint8)


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
    film = np.concatenate(parts)
    assert find_shots(film, least=12, margin=2) == [(2, 28), (32, 69), (98, 116)]
    assert find_shots(film, least=30, margin=2) == [(32, 69)]


def test_a_cut_into_fast_motion_is_a_cut():
    rng = np.random.default_rng(2)
    film = np.concatenate([drifting(rng, 20), drifting(rng, 20, speed=29)])
    (first, second) = find_shots(film, least=10, margin=2)
    assert first == (2, 18)
    # The first frames of the motion stand out of the quiet before the cut as well, and go with it.
    assert 22 <= second[0] <= 25 and second[1] == 38


def test_a_film_is_decoded_once(tmp_path):
    frames = drifting(np.random.default_rng(1), 5)
    pictures = [Image.fromarray(frame) for frame in frames]
    source, cache = tmp_path / "a.webp", tmp_path / "a.npy"
    pictures[0].save(source, save_all=True, append_images=pictures[1:], lossless=True, duration=40)
    np.testing.assert_array_equal(decode(source, cache, height=72), frames)
    source.unlink()
    np.testing.assert_array_equal(decode(source, cache, height=72), frames)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
