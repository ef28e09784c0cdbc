"""AutoencoderKL equals diffusers' own; patches are only another way to write pixels."""

import diffusers
import jax
import numpy as np
import pytest
import torch
from flax import nnx

from gp_jax.checkpoint import parameters
from gp_jax.convert import rules
from gp_jax.convert.autoencoder import diffusers_rules
from gp_jax.errors import UserError
from gp_jax.models.autoencoder import AutoencoderConfig, AutoencoderKL
from tests.products import PLATFORMS, imprecise


def test_encode_and_decode_equal_diffusers():
    torch.manual_seed(0)
    reference = diffusers.AutoencoderKL(
        block_out_channels=(16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=8,
    ).eval()
    config = AutoencoderConfig.from_json(dict(reference.config))
    vae = parameters.abstract(AutoencoderKL, config)
    tensors = {name: tensor.numpy() for name, tensor in reference.state_dict().items()}
    loaded = rules.to_ours(diffusers_rules(config), tensors, parameters.flatten(vae))
    parameters.load_into(vae, {name: np.asarray(tensor) for name, tensor in loaded.items()})

    pixels = jax.random.uniform(jax.random.key(0), (2, 16, 24, 3), minval=-1, maxval=1)
    mean, log_variance = nnx.jit(AutoencoderKL.encode)(vae, pixels)
    decoded = nnx.jit(AutoencoderKL.decode)(vae, mean)
    with torch.no_grad():
        posterior = reference.encode(torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2)).latent_dist
        expected = reference.decode(posterior.mean).sample
    assert mean.shape == (2, 16 // config.downsampling, 24 // config.downsampling, 4)
    np.testing.assert_allclose(mean, posterior.mean.permute(0, 2, 3, 1), atol=1e-5)
    np.testing.assert_allclose(log_variance, posterior.logvar.permute(0, 2, 3, 1), atol=1e-5)
    np.testing.assert_allclose(decoded, expected.permute(0, 2, 3, 1), atol=1e-5)


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_patches_keep_pixels_in_their_places(patch):
    config = AutoencoderConfig(block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, patch_size=patch)
    vae = parameters.abstract(AutoencoderKL, config)
    assert config.downsampling == 2 * patch
    size = 8 * patch
    pixels = jax.random.uniform(jax.random.key(0), (1, size, 2 * size, 3))
    # Networks replaced by the identity, patches are cut and put together again.
    vae.to_moments, vae.encoder = (lambda x: np.concatenate([x, x], -1)), (lambda x: x)
    vae.from_latents, vae.decoder = (lambda x: x), (lambda x: x)
    np.testing.assert_array_equal(vae.decode(vae.encode(pixels)[0]), pixels)


def test_config_round_trip_and_refusal():
    config = AutoencoderConfig(patch_size=4, scaling_factor=0.5)
    assert AutoencoderConfig.from_json(config.to_json()) == config
    with pytest.raises(UserError, match="act_fn"):
        AutoencoderConfig.from_json({"act_fn": "gelu"})
    cells = {"linear_latents": True, "block_out_channels": [32, 32]}
    assert AutoencoderConfig.from_json({**cells, "latent_channels": 12}).cell == 12
    with pytest.raises(UserError, match=r"latent_channels is 13, .* cells of 12 numbers"):
        AutoencoderConfig.from_json({**cells, "latent_channels": 13})


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("linear", [False, True])
def test_every_product_has_full_precision(linear, platform):
    config = AutoencoderConfig(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, patch_size=2, linear_latents=linear
    )
    vae = AutoencoderKL(config, rngs=nnx.Rngs(0))
    pixels, latents = np.zeros((1, 8, 8, 3), np.float32), np.zeros((1, 2, 2, 4), np.float32)
    assert not imprecise(lambda x: vae.encode(x), pixels, platform=platform)
    assert not imprecise(lambda x: vae.decode(x), latents, platform=platform)
    assert not imprecise(jax.grad(lambda x: vae.decode(x).sum()), latents, platform=platform)
    assert imprecise(lambda x: x @ x.T, latents[0, 0], platform=platform), "this test can tell"
