"""AutoencoderKL equals diffusers' own; patches are only another way to write pixels."""

import diffusers
import jax
import numpy as np
import pytest
import torch
from flax import nnx

from gp_jax import weights
from gp_jax.convert import rules
from gp_jax.convert.autoencoder import diffusers_rules
from gp_jax.errors import UserError
from gp_jax.models.autoencoder import AutoencoderConfig, AutoencoderKL


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
    vae = weights.abstract(AutoencoderKL, config)
    tensors = {name: tensor.numpy() for name, tensor in reference.state_dict().items()}
    loaded = rules.to_ours(diffusers_rules(config), tensors, weights.flatten(vae))
    weights.load_into(vae, {name: np.asarray(tensor) for name, tensor in loaded.items()})

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
    vae = weights.abstract(AutoencoderKL, config)
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
