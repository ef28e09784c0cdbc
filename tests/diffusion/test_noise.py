"""Mixed noise is standard Gaussian with the correlation that was asked for, and belongs to a frame, not to a batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gp_jax.diffusion.noise import frame_noise, segment_noise, step_noise

SHAPE = (24, 32, 8)


@pytest.mark.parametrize("shared", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize(
    "draw",
    [
        lambda shared: segment_noise(jax.random.key(0), (1, 4, *SHAPE), shared)[0],
        lambda shared: frame_noise(jax.random.key(0), jnp.array([[0, 3, 7, 100]]), SHAPE, shared)[0],
        lambda shared: step_noise(jax.random.key(0), jnp.int32(3), jnp.array([[0, 3, 7, 100]]), SHAPE, shared)[0],
    ],
    ids=["segment", "frame", "step"],
)
def test_frames_are_standard_gaussian_and_correlated_as_asked(draw, shared):
    frames = np.asarray(draw(shared)).reshape(4, -1)
    covariance = frames @ frames.T / frames.shape[1]
    np.testing.assert_allclose(covariance, shared + (1 - shared) * np.eye(4), atol=0.05)


def test_clips_of_a_batch_share_nothing():
    noise = np.asarray(segment_noise(jax.random.key(0), (2, 3, *SHAPE), 1.0))
    assert abs(np.mean(noise[0] * noise[1])) < 0.05


def test_a_frame_has_its_noise_whoever_asks():
    key = jax.random.key(1)
    for draw in (frame_noise, lambda key, *more: step_noise(key, jnp.int32(1), *more)):
        first = draw(key, jnp.array([[0, 5, 9]]), SHAPE, 0.5)
        second = draw(key, jnp.array([[9, 2], [5, 5]]), SHAPE, 0.5)
        np.testing.assert_array_equal(first[0, 2], second[0, 0])
        np.testing.assert_array_equal(first[0, 1], second[1, 1])


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_no_step_has_the_noise_of_another_or_of_the_beginning(shared):
    key, frames = jax.random.key(1), jnp.arange(4)[None]
    drawn = [frame_noise(key, frames, SHAPE, shared)]
    drawn += [step_noise(key, jnp.int32(step), frames, SHAPE, shared) for step in range(4)]
    noises = np.asarray(drawn).reshape(5 * 4, -1)[:: 4 if shared else 1]
    np.testing.assert_allclose(noises @ noises.T / noises.shape[1], np.eye(len(noises)), atol=0.05)
