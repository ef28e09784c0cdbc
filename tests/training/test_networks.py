"""Where parameters come from, and which of them are trained."""

import jax
import numpy as np
import pytest

from gp_jax.checkpoint.components import save_module
from gp_jax.checkpoint.tensors import read_tensors
from gp_jax.errors import UserError
from gp_jax.parallel import make_mesh
from gp_jax.training.networks import describe, initial
from tests.training import small

VIDEO = {"temporal": True, "window": (2, 2, 2), "global_tokens": True, "est_multiplier": 1}


def described(stage, origin, **fields):
    return describe(small.config(stage, "unused", **fields), origin)


@pytest.fixture(scope="module")
def image(tmp_path_factory, checkpoint):
    """A checkpoint whose UNet is an image network."""
    folder = tmp_path_factory.mktemp("image")
    for name, config in (small.NETWORKS | {"unet": small.IMAGE_UNET}).items():
        save_module(small.build(name, config), folder / name, config.to_json())
    return folder


def test_an_image_network_becomes_the_video_network_that_does_the_same(image):
    networks = described("keyframes", image, changes={"unet": VIDEO, "vae": {}, "clip": {}, "global_tokens": {}})
    params = initial(networks, networks.configs, make_mesh("fsdp=2,tensor=4"))
    unet = networks.bind(jax.device_get(params))["unet"]
    alone = describe(small.config("image", "unused"), image)
    rng = np.random.default_rng(0)
    sample = rng.normal(size=(2, 3, 2, 4, 9)).astype(np.float32)
    text, tokens = rng.normal(size=(2, 1, 16)).astype(np.float32), rng.normal(size=(2, 3, 16)).astype(np.float32)
    image_unet = alone.bind(jax.device_get(initial(alone, alone.configs, make_mesh("data=8"))))["unet"]
    times = np.array([3, 500])
    np.testing.assert_allclose(
        jax.jit(unet.__call__)(sample, times, text, tokens),
        jax.jit(image_unet.__call__)(sample, times, text),
        atol=1e-5,
    )


def test_ablations_leave_out_what_the_checkpoint_has(checkpoint):
    changes = {"unet": {"window": None, "global_tokens": False}, "vae": {}}
    networks = described("keyframes", checkpoint, changes=changes)
    assert set(networks.configs) == {"unet", "vae"}
    params = initial(networks, networks.live, make_mesh("data=8"))
    whole = read_tensors(checkpoint / "unet" / "model.safetensors")
    assert 0 < len(params) < len(whole) and params.keys() < {f"unet.{name}" for name in whole}


def test_interpolation_starts_from_the_key_frame_network(checkpoint):
    networks = described("interpolation", checkpoint)
    assert networks.live == ("interpolation_unet",) and set(networks.frozen) == {"vae", "clip", "global_tokens"}
    params = initial(networks, networks.live, make_mesh("data=8"))
    for name, tensor in read_tensors(checkpoint / "unet" / "model.safetensors").items():
        np.testing.assert_array_equal(params[f"interpolation_unet.{name}"], tensor)


def test_groups_decide_what_is_trained(checkpoint):
    config = small.config("keyframes", "unused")
    new = r"unet.*(temporal|space_time|stride_embedding|global_)"
    config.optimizer.groups = (("vae|clip", 0.0), (new, 1.0), ("unet", 0.1), ("global_tokens", 2.0))
    found = describe(config, checkpoint).multipliers
    assert found["unet.conv_in.kernel"] == 0.1 and found["global_tokens.queries"] == 2.0
    assert found["unet.stride_embedding.linear1.kernel"] == 1.0
    assert not any(name.startswith(("vae", "clip")) for name in found)
    config.data.precomputed = True  # then the frozen networks are not there, and their pattern does no harm
    assert describe(config, checkpoint).multipliers == found


def test_what_does_not_fit_is_named(checkpoint, image, tmp_path):
    with pytest.raises(UserError, match=r"unet\.\*motion.* decides over no parameter"):
        config = small.config("keyframes", "unused")
        config.optimizer.groups = (("unet.*motion", 0.0),)
        describe(config, checkpoint)
    with pytest.raises(UserError, match="nothing to train"):
        config.optimizer.groups = ((".", 0.0),)
        describe(config, checkpoint)
    with pytest.raises(UserError, match="unet is neither in a checkpoint"):
        described("keyframes", tmp_path)
    vae, unet = small.NETWORKS["vae"].to_json(), small.IMAGE_UNET.to_json()
    with pytest.raises(UserError, match="vae is not trained, so it has to come from a checkpoint"):
        networks = described("keyframes", None, networks={"vae": vae, "unet": unet})
        initial(networks, networks.frozen, make_mesh("data=8"))
    changes = {"unet": {"block_out_channels": (32,)}, "vae": {}, "clip": {}, "global_tokens": {}}
    with pytest.raises(UserError, match=r"wrong shape: conv_in\.kernel"):
        networks = described("keyframes", checkpoint, changes=changes)
        initial(networks, networks.live, make_mesh("data=8"))
