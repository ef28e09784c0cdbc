"""ControlNet computes what diffusers' computes, alone and within a UNet; fresh, it changes nothing."""

import numpy as np
import pytest
import torch
from flax import nnx

from gp_jax.checkpoint import parameters
from gp_jax.convert import load
from gp_jax.convert.sources import open_source
from gp_jax.convert.translate import translate
from gp_jax.errors import UserError
from gp_jax.models.controlnet import ControlNet, ControlNetConfig
from gp_jax.models.unet import UNet
from tests.convert import references
from tests.convert.references import close, random, run

STEPS, TEXT, PICTURE = np.array([3, 977]), random(2, 5, 64), random(2, 3, 64, 48)
SAMPLE = random(2, 9, 8, 6)


@pytest.fixture(scope="module")
def reference():
    return references.controlnet()


@pytest.fixture(scope="module")
def ours(reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("controlnet")
    reference.save_pretrained(folder)
    return load(folder)[0]


def channels_last(x):
    """[B, C, h, w] -> one frame [B, 1, h, w, C]."""
    return x.transpose(0, 2, 3, 1)[:, None]


def residuals_of(reference, scale=1.0):
    with torch.no_grad():
        made = reference(
            torch.tensor(SAMPLE[:, :4]), torch.tensor(STEPS), torch.tensor(TEXT), torch.tensor(PICTURE), scale
        )
    return made.down_block_res_samples, made.mid_block_res_sample


def run_ours(network, sample, picture=PICTURE, **options):
    arguments = channels_last(sample), STEPS, TEXT, channels_last(picture)
    return run(lambda network, *inputs: network(*inputs, **options), network, *arguments)


@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_residuals_equal_diffusers(ours, reference, scale):
    down, middle = run_ours(ours, SAMPLE[:, :4], scale=scale)
    their_down, their_middle = residuals_of(reference, scale)
    assert len(down) == len(their_down) == 6
    for one, other in zip((*down, middle), (*their_down, their_middle)):
        assert np.abs(np.asarray(one)).max() > 0.1
        close(one[:, 0], other.permute(0, 2, 3, 1))


@pytest.mark.parametrize("channels", [4, 9])
def test_a_unet_with_the_residuals_equals_diffusers(ours, reference, channels, tmp_path):
    theirs = references.unet({4: "sd1-plain", 9: "sd1"}[channels])
    references.save_unet(theirs, tmp_path)
    network = translate(open_source(tmp_path).parts[0])  # as `load` does it, but for the input, which that widens
    unet = parameters.abstract(UNet, network.config)
    parameters.load_into(unet, network.complete())
    down, middle = residuals_of(reference)
    with torch.no_grad():
        expected = theirs(
            torch.tensor(SAMPLE[:, :channels]),
            torch.tensor(STEPS),
            torch.tensor(TEXT),
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample
        without = theirs(torch.tensor(SAMPLE[:, :channels]), torch.tensor(STEPS), torch.tensor(TEXT)).sample
    assert (expected - without).abs().max() > 0.1

    def steered(unet, controlnet, sample, picture):
        residuals = controlnet(sample[..., :4], STEPS, TEXT, picture)
        return unet(sample, STEPS, TEXT, residuals=residuals)

    got = run(steered, unet, ours, channels_last(SAMPLE[:, :channels]), channels_last(PICTURE))
    close(got[:, 0], expected.permute(0, 2, 3, 1))


def test_frames_are_images(ours):
    """Frames and clips of a batch do not touch."""
    sample, picture = channels_last(SAMPLE[:, :4]), channels_last(PICTURE)
    clip = [np.concatenate([x, 2 * x], axis=1) for x in (sample, picture)]

    def middle(network, sample, picture):
        return network(sample, STEPS, TEXT, picture)[1]

    both = run(middle, ours, *clip)
    np.testing.assert_allclose(both[:, :1], run(middle, ours, sample, picture), atol=1e-5)
    np.testing.assert_allclose(both[:, 1:], run(middle, ours, 2 * sample, 2 * picture), atol=1e-5)


def test_a_fresh_one_adds_nothing(ours):
    fresh = ControlNet(ours.config, rngs=nnx.Rngs(0))
    down, middle = run_ours(fresh, SAMPLE[:, :4])
    assert not any(np.asarray(x).any() for x in (*down, middle))


def test_parameter_count_of_stable_diffusion():
    """That of the published ControlNets of Stable Diffusion 1.5."""
    shapes = parameters.shapes(ControlNet, ControlNetConfig())
    assert sum(x.size for x in shapes.values()) == 361_279_120
    assert ControlNetConfig.from_json(ControlNetConfig().to_json()) == ControlNetConfig()


@pytest.mark.parametrize(
    "change",
    [
        {"controlnet_conditioning_channel_order": "bgr"},
        {"global_pool_conditions": True},
        {"addition_embed_type": "text"},
        {"mid_block_type": "UNetMidBlock2D"},
        {"block_out_channels": [30, 64]},
        {"_class_name": "UNet2DConditionModel"},
    ],
)
def test_a_config_of_another_network_is_refused(reference, change):
    with pytest.raises(UserError, match="config"):
        ControlNetConfig.from_json(dict(reference.config) | {"_class_name": "ControlNetModel"} | change)
