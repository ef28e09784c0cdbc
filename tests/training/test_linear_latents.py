"""Linear latents: standardised, ordered like principal components, and as many of them as pixels lose nothing."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gp_jax.models.autoencoder import AutoencoderConfig, AutoencoderKL
from gp_jax.training.linear_latents import fit_linear_latents

SIZE, FULL = 2, 12  # pixels of a cell along each side, and numbers in it
RNG = np.random.default_rng(0)
# Neighbouring pixels and channels resemble each other, as those of pictures do.
FRAMES = [
    0.3 * np.cumsum(RNG.normal(size=(4, *shape, 3)), axis=2).astype(np.float32) / shape[1] + 0.2
    for shape in ((8, 12), (12, 8))
]


def fitted(channels: int, jitter: float = 1e-3, frames: list[np.ndarray] = FRAMES) -> AutoencoderKL:
    config = AutoencoderConfig(
        block_out_channels=(8,),
        layers_per_block=1,
        norm_num_groups=4,
        patch_size=SIZE,
        latent_channels=channels,
        linear_latents=True,
        scaling_factor=0.5,
    )
    vae = AutoencoderKL(config, rngs=nnx.Rngs(0))
    fit_linear_latents(vae, frames, jitter)
    return vae


def test_latents_are_standardised_and_uncorrelated():
    vae = fitted(5)
    latents = np.concatenate([np.asarray(vae.encode(x)[0]).reshape(-1, 5) for x in FRAMES]) * vae.config.scaling_factor
    np.testing.assert_allclose(latents.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(np.mean(latents**2), 1, rtol=1e-2)
    covariance = np.cov(latents, rowvar=False)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-3)
    assert (np.diff(np.diag(covariance)) < 0).all()


def test_more_channels_lose_less_and_all_of_them_nothing():
    errors = [np.mean((vae.decode(vae.encode(FRAMES[0])[0]) - FRAMES[0]) ** 2) for vae in map(fitted, (2, 6, FULL))]
    assert errors[0] > errors[1] > 1e-6
    assert errors[2] == pytest.approx(0, abs=1e-6)


def test_the_way_back_is_the_best_for_latents_with_so_much_noise():
    """Of all maps of nine latents; a cell knows what its neighbours are like, and makes less of the noise for it."""

    def error(vae):
        clean = vae.encode(FRAMES[0])[0]
        noise = np.random.default_rng(1).normal(size=(200, *clean.shape))
        decoded = vae.decode((clean + 0.5 * noise).reshape(-1, *clean.shape[1:]))
        return float(np.mean((decoded.reshape(200, *FRAMES[0].shape) - FRAMES[0]) ** 2))

    assert error(fitted(5, 0.5)) < 0.9 * error(fitted(5, 1e-3))
    assert error(fitted(5, 0.5)) < 0.9 * error(fitted(5, 3.0))


def test_a_latent_knows_its_cell_alone():
    vae = fitted(4)
    other = jnp.asarray(FRAMES[0]).at[:, :SIZE, :SIZE].set(1.0)
    changed = np.abs(vae.encode(other)[0] - vae.encode(FRAMES[0])[0]).max(axis=(0, -1)) > 0
    assert changed[0, 0]
    assert changed.sum() == 1


@pytest.mark.parametrize("colours", [[0.5], [-1, 1], [0.5, 0.2, -0.7]])
def test_plain_frames_come_back(colours):
    """They have fewer components than latents have channels, and nothing about them is to be divided by."""
    frames = np.stack([np.full((8, 12, 3), colour, np.float32) for colour in colours])
    vae = fitted(5, 0.0, [frames])
    np.testing.assert_allclose(vae.decode(vae.encode(frames)[0]), frames, atol=1e-3)
