"""An object is what moves unlike the camera."""

import cv2
import numpy as np

from gp_jax.flow.estimate import flows
from gp_jax.methods.dehan.segmentation import astray
from gp_jax.methods.dehan.stages import widened


def film(thing: int) -> tuple[np.ndarray, np.ndarray]:
    """A pan of 6 frames with a square of so many pixels that goes against it, and where that is."""
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.integers(0, 256, (80, 160, 3), np.uint8), (0, 0), 1.5)
    square = cv2.GaussianBlur(rng.integers(0, 256, (thing, thing, 3), np.uint8), (0, 0), 1.5)
    frames, where = [], np.zeros((6, 80, 112), bool)
    for time in range(6):
        frame = noise[:, 4 * time : 4 * time + 112].copy()
        where[time, 2 : 2 + thing, 30 - 2 * time :][:, :thing] = True
        frame[where[time]] = square.reshape(-1, 3)
        frames.append(frame)
    return np.stack(frames), where


def test_an_object_is_found():
    frames, where = film(30)
    found = astray(frames, *flows(frames))
    assert found[where].mean() > 0.8
    assert found[~widened(where, 8)].mean() < 0.02


def test_where_no_motion_is_that_of_half_the_frame_there_are_no_objects():
    ways = np.random.default_rng(0).integers(-9, 10, (1, 9, 6, 2)).astype(np.float32)
    there = np.kron(ways, np.ones((1, 10, 10, 1), np.float32))
    frames = np.zeros((2, 90, 60, 3), np.uint8)
    assert not astray(frames, there, -there).any()
    there[:, :60] = 0  # now most of it agrees
    assert astray(frames, there, -there).any()


def test_a_single_frame_has_no_objects():
    frames, _ = film(30)
    assert not astray(frames[:1], *flows(frames[:1])).any()
