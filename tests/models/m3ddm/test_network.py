"""The denoiser of M3DDM gives the numbers that its authors' code gives, and has the published tensors."""

import math

import jax
import numpy as np
import pytest
from flax import nnx

from gp_jax.checkpoint import parameters
from gp_jax.convert.m3ddm import RULES
from gp_jax.convert.rules import covered, to_theirs
from gp_jax.models.layers import sinusoidal
from gp_jax.models.m3ddm.encoder import token_count
from gp_jax.models.m3ddm.network import M3DDM, RATE_PERIOD, TIME_PERIOD, M3DDMConfig, P3DConvolution
from tests.models.m3ddm import golden

GLOBALS = golden.wave((2, 4, 16, 16), 0.11)


@pytest.fixture(scope="module")
def network():
    return golden.network()


@jax.jit
def denoise(network, sample, timesteps, rates, latents):
    return network(sample, timesteps, rates, network.encode_global(latents))


def channels_last(x):
    """[..., C, (T,) h, w] of torch, the frames of a clip before its channels."""
    return np.moveaxis(x, 1, -1)


def check(found, mean, std, first, last):
    """`found` is channels-first."""
    flat = np.asarray(found, np.float64).reshape(-1)
    np.testing.assert_allclose([flat.mean(), flat.std()], [mean, std], atol=1e-5)
    np.testing.assert_allclose(flat[: len(first)], first, atol=1e-5)
    np.testing.assert_allclose(flat[-len(last) :], last, atol=1e-5)


def test_sinusoids():
    time = sinusoidal(np.float32(961), 32, max_period=TIME_PERIOD)
    np.testing.assert_allclose(time[:4], [0.9468971, -0.4345903, -0.9998857, 0.7440574], atol=1e-4)
    np.testing.assert_allclose(time[-2:], [0.759603, 0.995869], atol=1e-4)
    rate = sinusoidal(np.float32(2), 32, max_period=RATE_PERIOD)
    np.testing.assert_allclose(rate[:4], [-0.4161468, -0.0461869, 0.2604155, 0.491498], atol=1e-6)
    np.testing.assert_allclose(rate[-2:], [0.1018112, 0.0823638], atol=1e-6)


@pytest.mark.parametrize(
    "latents, expected",
    [
        (GLOBALS, (-0.00038686, 0.11699862, [-0.0271837, -0.0270648, -0.0243794, -0.0250219], [0.0933707, 0.0941787])),
        (
            np.zeros((1, 4, 32, 32), np.float32),
            (-0.00040383, 0.11534214, [-0.0269525, -0.0266949, -0.0236761, -0.0234642], [0.092201, 0.0933754]),
        ),
    ],
)
def test_global_encoder(network, latents, expected):
    encode = jax.jit(lambda network, x: network.global_encoder(x))
    check(np.moveaxis(encode(network, channels_last(latents)), -1, 1), *expected)


@pytest.mark.parametrize(
    "rate, expected",
    [
        (2, (0.02212556, 0.12437154, [-0.0194103, 0.0028479, -0.0249918, -0.0243878], [0.172172, 0.1587985])),
        (29, (0.02188198, 0.12395049, [-0.0199799, 0.0019233, -0.0260292, -0.0254229], [0.171397, 0.1582724])),
    ],
)
def test_a_window(network, rate, expected):
    sample = channels_last(golden.wave((1, 9, 3, 16, 16), 0.013))
    rates = np.array([rate + 0.9], np.float32)  # whole numbers count
    made = denoise(network, sample, np.array([961]), rates, channels_last(GLOBALS)[None])
    check(np.moveaxis(made, -1, 1), *expected)


@pytest.mark.slow  # compiles for most of a minute
def test_four_branches(network):
    sample = channels_last(golden.wave((4, 9, 3, 16, 16), 0.013))
    latents = channels_last(GLOBALS)
    branches = np.stack([0 * latents, 0 * latents, latents, latents])
    made = denoise(network, sample, np.full(4, 961), np.full(4, 2, np.float32), branches)
    first = [-0.0194103, 0.0028478, -0.0249917, -0.0243877]
    check(np.moveaxis(made, -1, 1), 0.02244624, 0.11417221, first, [0.1663947, 0.1575761])


def test_the_published_size_and_tensors():
    shapes = parameters.shapes(M3DDM, M3DDMConfig())
    assert covered(RULES, shapes) == shapes.keys()
    published = to_theirs(RULES, shapes)
    assert len(published) == 1_516
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    trained = {name: math.prod(x.shape) for name, x in published.items() if not name.endswith(buffers)}
    assert sum(trained.values()) == 1_299_279_320
    parts = {"down_blocks": 400_551_360, "mid_block": 156_958_720, "up_blocks": 737_204_160, "conv_in": 26_240}
    parts |= {"time_embedding": 2_050_560, "fps_embedding": 2_050_560, "conv_out": 11_576, "conv_norm_out": 640}
    parts |= {"global_img_encoder": 425_504}
    for part, count in parts.items():
        assert sum(n for name, n in trained.items() if name.startswith(f"{part}.")) == count
    assert sum(math.prod(x.shape) for name, x in published.items() if name.endswith(buffers)) == 2_019


def test_convolutions_over_frames_start_as_the_identity():
    """So that image weights alone are the image network, but for norms over frames."""
    convolution = P3DConvolution(3, 4, rngs=nnx.Rngs(0), dtype=None)
    x = np.random.default_rng(0).normal(size=(1, 5, 2, 2, 3)).astype(np.float32)
    np.testing.assert_allclose(convolution(x), convolution.spatial(x), atol=1e-6)


@pytest.mark.parametrize("size", [(32, 32), (7, 10), (5, 12)])
def test_tokens_of_a_frame_are_counted(network, size):
    tokens = jax.eval_shape(network.global_encoder, jax.ShapeDtypeStruct((1, *size, 4), np.float32))
    assert token_count(*size) == tokens.shape[1] * tokens.shape[2]
