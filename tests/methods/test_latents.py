"""Latents of segments: means, and samples that are as far from them as the autoencoder says."""

import jax
import numpy as np

from gp_jax.methods.latents import encode
from tests import small_networks

PIXELS = np.random.default_rng(0).uniform(-1, 1, (2, 3, 16, 24, 3)).astype(np.float32)


def test_a_sample_is_the_mean_and_deviations():
    vae = small_networks.build("vae")
    mean, log_variance = vae.encode(PIXELS.reshape(-1, 16, 24, 3))
    noise = np.random.default_rng(1).normal(size=(2, 3, *mean.shape[1:])).astype(np.float32)
    scale = vae.config.scaling_factor
    found = jax.jit(encode)(vae, PIXELS)
    np.testing.assert_allclose(found, scale * np.reshape(mean, noise.shape), atol=1e-5)
    drawn = jax.jit(encode)(vae, PIXELS, noise)
    deviation = np.exp(0.5 * np.reshape(log_variance, noise.shape))
    np.testing.assert_allclose(drawn - found, scale * deviation * noise, atol=1e-5)
