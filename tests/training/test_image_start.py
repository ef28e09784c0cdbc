"""M3DDM that gets an image network's parameters is, of one frame, that image network."""

import dataclasses

import jax
import numpy as np
import pytest

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.components import load_module, save_module
from gp_jax.errors import UserError
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.models.m3ddm.config import M3DDMConfig
from gp_jax.models.m3ddm.network import M3DDM
from gp_jax.models.unet import UNet, UNetConfig
from gp_jax.parallel import make_mesh
from gp_jax.training.networks import describe, initial
from tests import small_m3ddm, small_networks
from tests.training import small

IMAGE = UNetConfig(
    block_out_channels=(8, 16),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    attention_head_dim=2,
    cross_attention_dim=8,
    norm_num_groups=4,
    temporal=False,
    window=None,
    global_tokens=False,
)


def start(folder, image):
    """the image network, and the parameters of M3DDM that start from a checkpoint of it."""
    for name, cls, config in (("unet", UNet, image), ("vae", AutoencoderKL, small_m3ddm.VAE)):
        network = parameters.abstract(cls, config)
        parameters.load_into(network, small_networks.random_weights(parameters.flatten(network), seed=3))
        save_module(network, folder / name, config.to_json())
    network = load_module(UNet, UNetConfig, folder / "unet")
    networks = describe(small.m3ddm("unused"), folder)
    return network, networks, initial(networks, networks.configs, make_mesh("fsdp=2,tensor=4"))


def test_a_lone_frame_is_what_the_image_network_makes_of_it(tmp_path):
    """At time 0, of which both make the same sinusoid."""
    image, networks, params = start(tmp_path, IMAGE)
    m3ddm = networks.bind(jax.device_get(params))["m3ddm"]
    rng = np.random.default_rng(0)
    noisy, mask, masked = (rng.normal(size=(2, 1, 4, 4, width)).astype(np.float32) for width in (4, 1, 4))
    text, time = rng.normal(size=(2, 3, 8)).astype(np.float32), np.zeros(2, np.float32)
    expected = jax.jit(image.__call__)(np.concatenate([noisy, mask, masked], axis=-1), time, text)
    for rate in (2.0, 30.0):
        sample = np.concatenate([noisy, masked, mask], axis=-1)
        found = jax.jit(m3ddm.__call__)(sample, time, np.full(2, rate, np.float32), text)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_tokens_of_another_width_than_text_start_fresh(tmp_path):
    wide = dataclasses.replace(IMAGE, cross_attention_dim=12)
    image, _, params = start(tmp_path, wide)
    attention = "middle.transformer.spatial.cross_attention"
    assert params[f"m3ddm.{attention}.key.kernel"].shape == (8, 16)
    query = parameters.flatten(image)[f"{attention}.query.kernel"]
    np.testing.assert_array_equal(params[f"m3ddm.{attention}.query.kernel"], query)


@pytest.mark.parametrize(
    "fields, sentence",
    [({"block_out_channels": (8, 24)}, "wrong shape"), ({"layers_per_block": 2}, "unexpected"),
     ({"attention_head_dim": 4}, "with 4 heads and M3DDM with 2")],
)  # fmt: skip
def test_another_image_network_is_refused(tmp_path, fields, sentence):
    with pytest.raises(UserError, match=sentence):
        start(tmp_path, dataclasses.replace(IMAGE, **fields))


def test_counters_and_running_statistics_stay_as_they_were(m3ddm):
    config = small.m3ddm("unused")
    config.optimizer.groups = (("vae", 0.0),)
    networks = describe(config, m3ddm)
    counters = {name for name in networks.shapes if name.endswith("norm.steps")}
    assert len(counters) == 35 and not counters & networks.multipliers.keys()
    params = initial(networks, networks.live, make_mesh("data=8"))
    stored = parameters.flatten(load_module(M3DDM, M3DDMConfig, m3ddm / "m3ddm"))
    for name in counters:
        assert params[name].dtype == np.int32 and params[name] == stored[name.removeprefix("m3ddm.")] > 1000
    default = describe(small.m3ddm("unused"), m3ddm).multipliers
    assert not any(name.endswith(("norm.mean", "norm.variance")) for name in default)
