"""M3DDM's global encoder: a small residual network (He et al. 2016, arXiv 1512.03385) over latents of whole frames.

Five stages of two bottleneck layers, batch norms with running statistics, then a 3 x 3 convolution without padding to
the width of the cross-attention: 32 x 32 latents become 14 x 14 tokens.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from gp_jax.models.layers import Convolution

Array = jax.Array

WIDTHS = (8, 16, 32, 64, 128)
STRIDES = (1, 1, 2, 1, 1)
LAYERS = 2
LATENT_CHANNELS = 4


class GlobalEncoder(nnx.Module):
    """[..., h, w, 4] -> [..., h / 2 - 2, w / 2 - 2, `width`]."""

    def __init__(self, width: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        options = {"rngs": rngs, "dtype": dtype}
        self.stages = nnx.List()
        for inputs, outputs, stride in zip((LATENT_CHANNELS, *WIDTHS), WIDTHS, STRIDES):
            first = Bottleneck(inputs, outputs, stride, **options)
            self.stages.append(
                nnx.List([first, *(Bottleneck(outputs, outputs, 1, **options) for _ in range(1, LAYERS))])
            )
        self.convolution = Convolution(WIDTHS[-1], width, (3, 3), padding="VALID", **options)

    def __call__(self, latents: Array) -> Array:
        """See the class."""
        x = latents
        for stage in self.stages:
            for layer in stage:
                x = layer(x)
        return self.convolution(x)


def token_count(height: int, width: int) -> int:
    """Tokens of a frame of so many latents."""
    for stride in STRIDES:
        height, width = -(-height // stride), -(-width // stride)
    return max(height - 2, 0) * max(width - 2, 0)


class Bottleneck(nnx.Module):
    """1 x 1 to a quarter of the channels, 3 x 3 with the stride, 1 x 1 back; the input, or its projection, is added."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None):
        narrow, options = outputs // 4, {"rngs": rngs, "dtype": dtype}
        self.layers = nnx.List(
            [
                NormalizedConvolution(inputs, narrow, 1, 1, **options),
                NormalizedConvolution(narrow, narrow, 3, stride, **options),
                NormalizedConvolution(narrow, outputs, 1, 1, **options),
            ]
        )
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else NormalizedConvolution(inputs, outputs, 1, stride, **options)

    def __call__(self, x: Array) -> Array:
        """[..., h, w, C] -> [..., h', w', C']."""
        y = x
        for layer in self.layers[:-1]:
            y = nnx.relu(layer(y))
        return nnx.relu(self.layers[-1](y) + (x if self.shortcut is None else self.shortcut(x)))


class NormalizedConvolution(nnx.Module):
    """A convolution without bias, and a batch norm by its running statistics."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None):
        padding = ((size // 2, size // 2),) * 2
        options: dict[str, Any] = {"use_bias": False, "dtype": dtype, "rngs": rngs}
        self.convolution = Convolution(inputs, outputs, (size, size), strides=stride, padding=padding, **options)
        self.norm = RunningNorm(outputs)

    def __call__(self, x: Array) -> Array:
        """[..., h, w, C] -> [..., h', w', C']."""
        return self.norm(self.convolution(x))


class RunningNorm(nnx.Module):
    """Batch norm that never looks at its batch: the published weights were made, and are used, by these statistics.

    They are parameters, so that they lie in the checkpoint; `steps`, torch's counter of batches, is kept for the way
    back.
    """

    def __init__(self, channels: int, epsilon: float = 1e-5):
        self.epsilon = epsilon
        self.scale, self.bias = nnx.Param(jnp.ones(channels)), nnx.Param(jnp.zeros(channels))
        self.mean, self.variance = nnx.Param(jnp.zeros(channels)), nnx.Param(jnp.ones(channels))
        self.steps = nnx.Param(jnp.zeros((), jnp.int32))

    def __call__(self, x: Array) -> Array:
        """[..., C] -> the same, computed in float32."""
        factor = self.scale[...] / jnp.sqrt(self.variance[...].astype(jnp.float32) + self.epsilon)
        return ((x - self.mean[...]) * factor + self.bias[...]).astype(x.dtype)
