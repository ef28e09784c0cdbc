"""FLOPs by hand, times of calls that are waited for, and weights that keep the scale of what passes."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gp_jax.bench import measure
from gp_jax.bench.measure import Times, flops_of_traced, random_weights, timed
from gp_jax.checkpoint import parameters
from gp_jax.models.unet import UNet
from tests import small_networks

FRAMES, HEIGHT, WIDTH, TEXT, TOKENS = 4, 4, 6, 5, 3


def by_hand(config, frames, height, width):
    """A network of one level, with transformers on the way down and in the middle; windows divide the maps."""
    maps, n = height * width, frames * height * width
    c, embedding = config.block_out_channels[0], 4 * config.block_out_channels[0]

    def linear(rows, inputs, outputs):
        return 2 * rows * inputs * outputs

    def attention(groups, queries, keys):  # logits, and what is summed by them
        return 2 * 2 * groups * queries * keys * c

    def residual(inputs):
        shortcut = linear(n, inputs, c) if inputs != c else 0
        spatial = linear(n, 9 * inputs, c) + linear(1, embedding, c) + linear(n, 9 * c, c) + shortcut
        return spatial + linear(n, 3 * c, c) * config.temporal

    context = config.cross_attention_dim
    inner = 2 * linear(n, c, c) + linear(n, c, 8 * c) + linear(n, 4 * c, c)
    inner += 4 * linear(n, c, c) + attention(frames, maps, maps)
    inner += 2 * linear(n, c, c) + 2 * linear(TEXT, context, c) + attention(1, n, TEXT)
    if config.global_tokens:
        inner += 2 * linear(TOKENS, context, c) + attention(1, n, TOKENS)
    if config.temporal:
        size, hidden = math.prod(config.window), config.est_multiplier * c
        inner += 4 * linear(n, c, c) + attention(maps, frames, frames)
        inner += 4 * linear(n, c, c) + attention(n // size, size, size)
        inner += linear(n, c, 2 * hidden) + linear(n, hidden, c)
    embeddings = (1 + config.temporal) * (linear(1, c, embedding) + linear(1, embedding, embedding))
    ends = linear(n, 9 * config.in_channels, c) + linear(n, 9 * c, config.out_channels)
    return embeddings + ends + 3 * residual(c) + 2 * residual(2 * c) + 2 * inner


@pytest.mark.parametrize("video", [True, False], ids=["video", "image"])
def test_flops_are_those_of_a_formula(video):
    config = small_networks.UNET
    if not video:
        config = dataclasses.replace(config, temporal=False, window=None, global_tokens=False)
    network = parameters.abstract(UNet, config, attention="einsum")
    shapes = (1, FRAMES, HEIGHT, WIDTH, 9), (1,), (1, TEXT, small_networks.WIDTH), (1, TOKENS, small_networks.WIDTH)
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    traced = jax.jit(lambda parameters, *inputs: parameters(*inputs)).trace(network, *inputs)
    assert flops_of_traced(traced) == by_hand(config, FRAMES, HEIGHT, WIDTH)


def test_a_gradient_has_twice_the_flops_also_where_it_passes_a_stride():
    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in [(1, 64, 64, 3), (2, 2, 3, 5)]]
    forwards = flops_of_traced(jax.jit(convolve).trace(*shapes))
    assert forwards == 2 * 32 * 32 * 5 * 2 * 2 * 3
    both = flops_of_traced(jax.jit(jax.grad(lambda *x: (convolve(*x) ** 2).sum(), (0, 1))).trace(*shapes))
    assert both == pytest.approx(3 * forwards, rel=0.05)


def test_calls_are_waited_for_one_by_one(monkeypatch):
    now, calls = [0.0], []
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])

    def call():
        calls.append(0)
        now[0] += [9.0, 9.0, 3.0, 1.0, 2.0][len(calls) - 1]
        return jnp.zeros(1)

    times = timed(call, 3)
    assert times == Times((3.0, 1.0, 2.0)) and (times.median, times.lowest, times.highest) == (2.0, 1.0, 3.0)


def test_random_weights_keep_the_scale_and_are_never_zero():
    shapes = {name: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16) for name, leaf in SHAPES.items()}
    weights = {name: np.asarray(x, np.float32) for name, x in random_weights(shapes).items()}
    assert {name: (x.shape, x.dtype) for name, x in random_weights(shapes).items()} == {
        name: (x.shape, x.dtype) for name, x in shapes.items()
    }
    assert all(np.abs(x).max() > 0 for x in weights.values())
    assert 16 * weights["conv_in.kernel"].var() * 81 == pytest.approx(16, rel=0.3)
    assert weights["norm_out.scale"].mean() == pytest.approx(1, abs=0.2)


SHAPES = parameters.shapes(UNet, small_networks.UNET)
