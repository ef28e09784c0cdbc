"""In which types the denoiser computes on accelerators: products in bfloat16; sums of norms, softmax and the sinusoids
of timesteps in float32. Read off the programs, since a CPU computes all of it in float32."""

import re

import jax
import jax.numpy as jnp
import pytest

from gp_jax.checkpoint import parameters
from gp_jax.models.unet import UNet, UNetConfig
from tests.products import PLATFORMS

CONFIG = UNetConfig.from_json(
    {
        "in_channels": 9,
        "out_channels": 4,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": 12,
        "attention_head_dim": (2, 4),
        "use_linear_projection": True,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "temporal": True,
        "window": (2, 4, 4),
        "global_tokens": True,
    }
)


@pytest.fixture(scope="module", params=PLATFORMS)
def program(request):
    network = parameters.abstract(UNet, CONFIG, dtype=jnp.bfloat16)

    def call(tensors, sample, timesteps, text, tokens):
        return parameters.bind(network, tensors)(sample, timesteps, text, tokens)

    def narrow(x):
        return jax.ShapeDtypeStruct(x.shape, jnp.bfloat16)

    tensors = {name: narrow(x) for name, x in parameters.flatten(network).items()}
    shapes = (2, 4, 8, 8, 9), (2,), (2, 7, 12), (2, 3, 12)
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    text = jax.jit(call).trace(tensors, *inputs).lower(lowering_platforms=(request.param,)).as_text()
    return re.sub(r"func\.func private @silu.*?\n  }\n", "", text, flags=re.DOTALL)  # its exponentials may be narrow


def types_of(program, operation):
    """Of the numbers that an operation takes, for each time that it is there."""
    lines = [line for line in program.splitlines() if operation in line]
    assert lines, operation
    return [re.findall(r"tensor<(?:[\dx]*x)?(\w+)>", line.rpartition(" : ")[2])[0] for line in lines]


@pytest.mark.parametrize("operation", ["stablehlo.dot_general", "stablehlo.convolution("])
def test_products_take_bfloat16(program, operation):
    assert set(types_of(program, operation)) == {"bf16"}


@pytest.mark.parametrize(
    "operation", ["stablehlo.exponential ", "stablehlo.sine", "stablehlo.cosine", "stablehlo.rsqrt"]
)
def test_softmax_sinusoids_and_norms_are_of_float32(program, operation):
    assert set(types_of(program, operation)) == {"f32"}


def test_sums_are_of_float32(program):
    sums = [line for line in program.splitlines() if "stablehlo.reduce(" in line and "applies stablehlo.add" in line]
    assert sums and all("xbf16>" not in line for line in sums)
