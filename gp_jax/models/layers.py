"""The bricks that the UNet and the autoencoder share.

Everything works on `[..., h, w, C]`: leading axes (batch, frames) are carried along, so a video is a batch of images
to these layers and nothing has to be reshaped. Norms use the exact two-pass variance: the parity with the reference
networks is 1e-5.
"""

import functools
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from gp_jax.models import cpu_convolution
from gp_jax.parallel import ANY, constrain, is_alone, platform

Array = jax.Array
Network = TypeVar("Network", bound=nnx.Module)


class GroupNorm(nnx.GroupNorm):
    """Group norm over `(h, w)` and the channels of a group, each frame for itself."""

    def __init__(self, channels: int, groups: int, epsilon: float, *, rngs: nnx.Rngs, dtype: DTypeLike | None):
        super().__init__(channels, num_groups=groups, epsilon=epsilon, use_fast_variance=False, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:  # pyright: ignore[reportIncompatibleMethodOverride] - no mask here
        """[..., h, w, C] -> the same."""
        # flax places the statistics right only behind a single batch axis.
        return super().__call__(x.reshape(-1, *x.shape[-3:])).reshape(x.shape)


class JointGroupNorm(GroupNorm):
    """The same, all frames of a segment together."""

    def __call__(self, x: Array) -> Array:
        """[B, T, h, w, C] -> the same."""
        batch, frames, height, width, channels = x.shape
        return super().__call__(x.reshape(batch, frames * height, width, channels)).reshape(x.shape)


def layer_norm(channels: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None, epsilon: float = 1e-5) -> nnx.LayerNorm:
    """Layer norm over the last axis."""
    return nnx.LayerNorm(channels, epsilon=epsilon, use_fast_variance=False, dtype=dtype, rngs=rngs)


class Convolution(nnx.Conv):
    """A convolution that meshes of several axes get right.

    Left to itself, XLA's partitioner (jax 0.11.2) cuts maps to where the next attention wants them, and a kernel's
    inputs to where they are stored, and then sums the parts of a convolution, or of its gradient, over too many
    devices. So maps stay whole, and so do kernels but for the share of their outputs that `tensor` has.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, conv_general_dilated=_convolve, **options)

    def __call__(self, x: Array) -> Array:  # pyright: ignore[reportIncompatibleMethodOverride] - places maps itself
        """[..., h, w, C] -> [..., h', w', C']."""
        return _whole_maps(super().__call__(_whole_maps(x)))


def _convolve(maps: Array, kernel: Array, *args: Any, **options: Any) -> Array:
    if _is_for_cpu(maps, *args) and cpu_convolution.takes_columns(maps, kernel):
        return cpu_convolution.by_columns(maps, kernel)
    return jax.lax.conv_general_dilated(maps, constrain(kernel, None, None, None, "hidden"), *args, **options)


def _is_for_cpu(maps: Array, strides: Sequence[int], padding: Any) -> bool:
    """Whether cpu_convolution.py knows such a convolution."""
    is_same = tuple(strides) == (1, 1) and padding == [(1, 1), (1, 1)]
    return is_same and maps.dtype == jnp.float32 and platform() == "cpu" and is_alone()


def for_loops(network: Network) -> Network:
    """The network as a loop is to call it, made outside the loop under a trace; `network` stays.

    cuDNN reads kernels as [O, kh, kw, I]. XLA turns them anew in each call, 0.87 of 10.2 ms of the image network of
    Stable Diffusion 2 on an H100, 16 maps of 32 x 32, and does not take that out of a loop by itself. On a CPU kernels
    are turned for Winograd's convolution.
    """
    if platform() not in ("gpu", "cpu"):
        return network
    network = nnx.clone(network)
    for _, layer in nnx.iter_modules(network):
        if not isinstance(layer, Convolution):
            continue
        kernel = layer.kernel.get_value()
        if platform() == "gpu":
            layer.kernel.set_value(kernel.transpose(3, 0, 1, 2))
            layer.conv_general_dilated = _convolve_turned
        elif cpu_convolution.may_take_winograd(kernel):
            # Where a call does not take it, none computes it.
            turned = cpu_convolution.turn_for_winograd(kernel.astype(jnp.float32))
            layer.conv_general_dilated = functools.partial(_convolve_by_winograd, turned)
    return network


def _convolve_by_winograd(turned: Array, maps: Array, kernel: Array, *args: Any, **options: Any) -> Array:
    if _is_for_cpu(maps, *args) and cpu_convolution.takes_winograd(maps, turned):
        return cpu_convolution.by_winograd(maps, turned)
    return _convolve(maps, kernel, *args, **options)


def _convolve_turned(maps: Array, kernel: Array, *args: Any, dimension_numbers: Any, **options: Any) -> Array:
    kernel = constrain(kernel, "hidden", None, None, None)
    return jax.lax.conv_general_dilated(maps, kernel, *args, dimension_numbers=("NHWC", "OHWI", "NHWC"), **options)


def _whole_maps(x: Array) -> Array:
    return constrain(x, *("batch", "frame")[: x.ndim - 3], None, None, ANY)


def conv3x3(
    inputs: int, outputs: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None, stride: int = 1, zero: bool = False
) -> Convolution:
    """3x3 convolution that pads one pixel on every side, as torch does, also at stride 2; `zero`: its kernel is 0."""
    options: dict[str, Any] = {"kernel_init": nnx.initializers.zeros} if zero else {}
    options |= {"strides": stride, "padding": ((1, 1), (1, 1))}
    return Convolution(inputs, outputs, (3, 3), dtype=dtype, rngs=rngs, **options)


def zero_linear(
    inputs: int, outputs: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None, use_bias: bool = True
) -> nnx.Linear:
    """The projection in which every new video module ends: at the start it adds nothing to the image network."""
    return nnx.Linear(inputs, outputs, use_bias=use_bias, kernel_init=nnx.initializers.zeros, dtype=dtype, rngs=rngs)


class ResidualBlock(nnx.Module):
    """Two convolutions with an optional embedding (timestep, stride) added between them.

    `joint`: the norms take all frames of a segment together.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        groups: int,
        epsilon: float,
        rngs: nnx.Rngs,
        embedding: int | None = None,
        joint: bool = False,
        dtype: DTypeLike | None = None,
    ):
        norm = JointGroupNorm if joint else GroupNorm
        self.norm1 = norm(inputs, groups, epsilon, rngs=rngs, dtype=dtype)
        self.conv1 = conv3x3(inputs, outputs, rngs=rngs, dtype=dtype)
        self.embedding = None if embedding is None else nnx.Linear(embedding, outputs, dtype=dtype, rngs=rngs)
        self.norm2 = norm(outputs, groups, epsilon, rngs=rngs, dtype=dtype)
        self.conv2 = conv3x3(outputs, outputs, rngs=rngs, dtype=dtype)
        self.shortcut = None if inputs == outputs else nnx.Conv(inputs, outputs, (1, 1), dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, embedding: Array | None = None) -> Array:
        """Args: x: [B, ..., h, w, C]. embedding: [B, E] or None. Returns: [B, ..., h, w, C']."""
        y = self.conv1(nnx.silu(self.norm1(x)))
        if self.embedding is not None:
            assert embedding is not None
            shift = self.embedding(nnx.silu(embedding))
            y = y + shift.reshape(shift.shape[0], *(1,) * (y.ndim - 2), shift.shape[-1])
        y = self.conv2(nnx.silu(self.norm2(y)))
        return y + (x if self.shortcut is None else self.shortcut(x))


class Upsample(nnx.Module):
    """Nearest neighbour, then a convolution."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.convolution = conv3x3(channels, channels, rngs=rngs, dtype=dtype)

    def __call__(self, x: Array, size: tuple[int, int] | None = None) -> Array:
        """Doubles `(h, w)`; `size` cuts the last row or column off where the map below came from an odd size."""
        x = jnp.repeat(jnp.repeat(x, 2, axis=-3), 2, axis=-2)
        if size is not None:
            x = x[..., : size[0], : size[1], :]
        return self.convolution(x)


class FeedForward(nnx.Module):
    """Gated GELU (GEGLU, Shazeer 2020, arXiv 2002.05202), as in the Stable Diffusion UNet."""

    def __init__(
        self, channels: int, *, rngs: nnx.Rngs, multiplier: int = 4, zero: bool = False, dtype: DTypeLike | None = None
    ):
        hidden = channels * multiplier
        self.expand = nnx.Linear(channels, 2 * hidden, dtype=dtype, rngs=rngs)
        contract = zero_linear if zero else nnx.Linear
        self.contract = contract(hidden, channels, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """[..., C] -> [..., C]."""
        value, gate = jnp.split(self.expand(x), 2, axis=-1)
        return self.contract(value * nnx.gelu(gate, approximate=False))


class EmbeddingMLP(nnx.Module):
    """Linear, SiLU, linear: what turns a sinusoidal embedding into the one that residual blocks take."""

    def __init__(
        self, inputs: int, outputs: int, *, rngs: nnx.Rngs, zero: bool = False, dtype: DTypeLike | None = None
    ):
        self.linear1 = nnx.Linear(inputs, outputs, dtype=dtype, rngs=rngs)
        last = zero_linear if zero else nnx.Linear
        self.linear2 = last(outputs, outputs, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """[..., inputs] -> [..., outputs]."""
        return self.linear2(nnx.silu(self.linear1(x)))


def sinusoidal(
    values: Array | np.ndarray,
    width: int,
    *,
    max_period: float = 10_000.0,
    cosine_first: bool = True,
    shift: float = 0.0,
) -> Array:
    """Sines and cosines of `values` (Vaswani et al. 2017; options as in diffusers' `get_timestep_embedding`).

    Args:
      values: [...] timesteps, strides or positions.
      width: of the result, even.
      max_period: the longest wavelength over 2 pi.
      cosine_first: cosines in the first half (Stable Diffusion's `flip_sin_to_cos`).
      shift: Stable Diffusion's `freq_shift`: 0 there, 1 in the original paper.

    Returns:
      [..., width] float32.
    """
    half = width // 2
    frequencies = jnp.exp(-jnp.log(max_period) * jnp.arange(half, dtype=jnp.float32) / (half - shift))
    angles = values[..., None].astype(jnp.float32) * frequencies
    parts = (jnp.cos(angles), jnp.sin(angles)) if cosine_first else (jnp.sin(angles), jnp.cos(angles))
    return jnp.concatenate(parts, axis=-1)
