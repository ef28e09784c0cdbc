"""The video UNet is the image UNet of diffusers until its video modules are trained, and listens to everything
after."""

import dataclasses

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from gp_jax.checkpoint import parameters
from gp_jax.convert import rules
from gp_jax.convert.unet import diffusers_rules
from gp_jax.data.config import DataConfig
from gp_jax.data.examples import sample_frames
from gp_jax.errors import UserError
from gp_jax.methods.globalpaint.plan import PLANS
from gp_jax.models.unet import UNet, UNetConfig, _places
from gp_jax.parallel import make_mesh, parameter_shardings, use_mesh

SMALL = {
    "in_channels": 9,
    "out_channels": 4,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": 12,
}
FAMILIES = {
    "sd2": SMALL
    | {
        "attention_head_dim": (2, 4),
        "use_linear_projection": True,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    },
    "sd15": SMALL
    | {
        "attention_head_dim": 4,
        "layers_per_block": 2,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    },
}


def arguments(batch=2, frames=4, height=6, width=6, seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    return {
        "sample": jax.random.normal(keys[0], (batch, frames, height, width, 9)),
        "timesteps": jnp.full((batch,), 371),
        "text": jax.random.normal(keys[1], (batch, 4, 12)),
        "tokens": jax.random.normal(keys[2], (batch, 2, 12)),
        "frames": jnp.broadcast_to(3 * jnp.arange(frames), (batch, frames)),
    }


@pytest.fixture(scope="module")
def trained():
    """A small video UNet with random parameters everywhere, so that no module is zero."""
    unet = parameters.abstract(UNet, UNetConfig.from_json(FAMILIES["sd2"] | {"window": (2, 3, 3)}))
    rng = np.random.default_rng(0)
    tensors = {name: 0.15 * rng.standard_normal(x.shape, np.float32) for name, x in parameters.flatten(unet).items()}
    parameters.load_into(unet, {name: x + name.endswith("scale") for name, x in tensors.items()})
    return unet


@pytest.fixture(scope="module")
def run(trained):
    return nnx.jit(trained)


@pytest.mark.parametrize("family", FAMILIES)
def test_fresh_video_network_with_image_weights_equals_diffusers_frame_by_frame(family):
    torch.manual_seed(0)
    reference = diffusers.UNet2DConditionModel(**FAMILIES[family]).eval()
    config = UNetConfig.from_json(dict(reference.config) | {"window": (2, 3, 3)})
    assert config.temporal and config.global_tokens
    unet = UNet(config, rngs=nnx.Rngs(1))
    table, tensors = diffusers_rules(config), {k: v.numpy() for k, v in reference.state_dict().items()}
    ours = parameters.flatten(unet)
    loaded = rules.to_ours(table, tensors, rules.covered(table, ours))
    parameters.load_into(unet, ours | {name: np.asarray(tensor) for name, tensor in loaded.items()})

    inputs = arguments(batch=1, frames=3, width=5)
    out = nnx.jit(unet)(**inputs)
    with torch.no_grad():
        frames = torch.from_numpy(np.array(inputs["sample"][0])).permute(0, 3, 1, 2)
        text = torch.from_numpy(np.array(inputs["text"])).expand(3, -1, -1)
        expected = reference(frames, 371, text).sample.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(out[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "name, change",
    [
        ("global tokens", lambda a: a | {"tokens": a["tokens"] + 0.5}),
        ("text", lambda a: a | {"text": a["text"] + 0.5}),
        ("stride", lambda a: a | {"frames": 2 * a["frames"]}),
        ("timestep", lambda a: a | {"timesteps": a["timesteps"] + 100}),
        ("a pixel of the last frame", lambda a: a | {"sample": a["sample"].at[:, 3, 1, 1, 5].add(2.0)}),
    ],
)
def test_every_frame_listens_to(run, name, change):
    before, after = run(**arguments()), run(**change(arguments()))
    assert (jnp.abs(after - before).max(axis=(2, 3, 4)) > 1e-4).all()


def test_tokens_of_zero_are_no_tokens(trained):
    attention = trained.middle.transformer.spatial.cross_attention
    x, inputs = jnp.ones((2, 1, 5, 32)), arguments()
    context, tokens = inputs["text"][:, None], inputs["tokens"]
    np.testing.assert_array_equal(attention(x, context, 0 * tokens), attention(x, context))
    assert not np.allclose(attention(x, context, tokens), attention(x, context), atol=1e-3)


def test_segments_of_a_batch_do_not_touch(run):
    two, other = arguments(), arguments(seed=5)
    mixed = {key: value.at[1].set(other[key][1]) for key, value in two.items()}
    np.testing.assert_allclose(run(**mixed)[0], run(**two)[0], atol=1e-5)


def test_sharded_equals_unsharded(trained, run):
    mesh = make_mesh("data=2,context=2,tensor=2")
    graph, params = nnx.split(trained, nnx.Param)
    placed = nnx.merge(graph, jax.tree.map(jnp.copy, params))
    shardings = parameter_shardings(parameters.flatten(placed), mesh)
    assert any(not sharding.is_fully_replicated for sharding in shardings.values())
    parameters.load_into(placed, parameters.flatten(placed), place=lambda shapes: shardings)
    with use_mesh(mesh):
        np.testing.assert_allclose(nnx.jit(placed)(**arguments()), run(**arguments()), atol=1e-5)


def test_parameter_counts_of_stable_diffusion():
    """865.9 M parameters is the published size of the SD2 inpainting UNet; what we add is new."""

    def count(config):
        return sum(x.size for x in parameters.flatten(parameters.abstract(UNet, config)).values())

    image = dataclasses.replace(UNetConfig(), temporal=False, global_tokens=False)
    assert count(image) == 865_925_124
    assert count(UNetConfig()) == 1_208_935_889


@pytest.mark.parametrize("key, value", [("act_fn", "gelu"), ("down_block_types", ["AttnDownBlock2D"])])
def test_a_config_of_another_network_is_refused(key, value):
    with pytest.raises(UserError, match="UNet config"):
        UNetConfig.from_json(FAMILIES["sd2"] | {key: value})


def test_config_round_trip():
    config = UNetConfig.from_json(FAMILIES["sd15"])
    assert UNetConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("segment_frames", [3, 8, 16])
def test_short_segments_have_strides_and_places_that_training_has(segment_frames, plan):
    config = DataConfig(records=("a",), segment_frames=segment_frames, strides=(1, 2, 3), paces=(1, 4))
    rng = np.random.default_rng(0)
    told = np.stack([sample_frames(rng, 100, config)[1] for _ in range(200)])
    trained, places = (np.asarray(x) for x in _places(jnp.asarray(told)))
    assert set(trained) == {1, 2, 3, 4, 8, 12}
    np.testing.assert_allclose(places, np.tile(np.arange(segment_frames), (200, 1)), atol=1e-5)
    short = []
    for frames in range(1, 2 * segment_frames + 3):
        segments = [segment.times for level in PLANS[plan](frames, segment_frames).levels for segment in level]
        short += [segment for segment in segments if len(set(segment)) < segment_frames]
        assert frames >= segment_frames or len(short) == frames
    strides, places = (np.asarray(x) for x in _places(jnp.array(short)))
    assert set(strides) <= set(trained)
    np.testing.assert_array_equal(places, np.tile(np.arange(segment_frames), (len(short), 1)))


def test_whole_segments_keep_their_places():
    strides, places = _places(jnp.array([[0, 3, 7, 9, 12, 14, 18, 21], [5, 6, 7, 8, 9, 10, 11, 12]]))
    np.testing.assert_allclose(strides, [3, 1])
    np.testing.assert_allclose(places[0], np.array([0, 3, 7, 9, 12, 14, 18, 21]) / 3, rtol=1e-6)
