"""M3DDM's denoiser: Stable Diffusion's UNet with a temporal half in every block.

    [noisy latents 4 | conditioning latents 4 | mask 1]  ->  the noise in them      (mask 1 = to be made)

It differs from `models.unet` in what lies between frames. Residual blocks take their statistics over all frames of a
window, and each of their convolutions is one within frames and then one over them (P3D). A transformer attends within
frames and to the global tokens, then twice over frames. There is no text: the latents of 16 frames, spread over the
clip, are condensed by a small residual network (encoder.py) into the tokens of the cross-attention. The frame rate is
embedded beside the timestep.

What the image network has not starts at zero, or as the identity, so that a network that gets the image network's
parameters (training/image_start.py) makes of a lone frame what that one does.

Source: https://github.com/alimama-creative/M3DDM-Video-Outpainting (e2ccd7c), class `UNet3DConditionModel`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from gp_jax.models.attention import AUTO
from gp_jax.models.layers import (
    Convolution,
    EmbeddingMLP,
    FeedForward,
    JointGroupNorm,
    Upsample,
    conv3x3,
    layer_norm,
    sinusoidal,
    zero_linear,
)
from gp_jax.models.m3ddm.config import M3DDMConfig
from gp_jax.models.m3ddm.encoder import GlobalEncoder
from gp_jax.models.remat import keeping
from gp_jax.models.transformer import Attention, SpatialTransformer
from gp_jax.parallel import ANY, constrain

Array = jax.Array

# Longest wavelengths of the sinusoids, over 2 pi: of timesteps and of places in the window, and of frame rates.
TIME_PERIOD, RATE_PERIOD = 1000.0, 30.0
# Width of the sinusoids of places, whatever that of the level.
PLACE_WIDTH = 320


class M3DDM(nnx.Module):
    """See the module's docstring.

    `attention` names a backend of `models.attention`, `remat` a policy of `REMAT`; `dtype` is the compute dtype.
    """

    def __init__(
        self,
        config: M3DDMConfig,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
        attention: str = AUTO,
        remat: str = "none",
    ):
        self.config, self.dtype = config, dtype
        widths = config.block_out_channels
        make = _Bricks(config, rngs, dtype, attention, remat)

        self.global_encoder = GlobalEncoder(config.cross_attention_dim, rngs=rngs, dtype=dtype)
        self.conv_in = conv3x3(config.in_channels, widths[0], rngs=rngs, dtype=dtype)
        self.time_embedding = EmbeddingMLP(widths[0], 4 * widths[0], rngs=rngs, dtype=dtype)
        self.rate_embedding = EmbeddingMLP(widths[0], 4 * widths[0], rngs=rngs, dtype=dtype)

        skips = [widths[0]]
        self.down = nnx.List()
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            inputs = [skips[-1], *[width] * (config.layers_per_block - 1)]
            self.down.append(Down(make, inputs, width, attended=not last, last=last))
            skips += [width] * (config.layers_per_block + (not last))
        self.middle = Middle(make, widths[-1])
        self.up = nnx.List()
        below = widths[-1]
        for level in reversed(range(len(widths))):
            width = widths[level]
            inputs = [x + skips.pop() for x in (below, *[width] * config.layers_per_block)]
            self.up.append(Up(make, inputs, width, attended=level < len(widths) - 1, last=level == 0))
            below = width

        self.norm_out = make.norm(widths[0], config.norm_eps)
        self.conv_out = P3DConvolution(widths[0], config.out_channels, rngs=rngs, dtype=dtype)

    def __call__(self, sample: Array, timesteps: Array, rates: Array, tokens: Array) -> Array:
        """Predicts the noise of a batch of windows.

        Args:
          sample: [B, T, h, w, 9] noisy latents, conditioning latents, mask; h and w multiples of 8.
          timesteps: [B], 0 to 999.
          rates: [B] frames per second of the window; whole numbers count.
          tokens: [B, K, D], of `encode_global`.

        Returns:
          [B, T, h, w, 4] in the dtype of `sample`.
        """
        width = self.config.block_out_channels[0]
        x = constrain(sample.astype(self.dtype or sample.dtype), "batch", "frame", None, None, None)
        tokens = tokens.astype(x.dtype)
        time = self.time_embedding(sinusoidal(timesteps, width, max_period=TIME_PERIOD).astype(x.dtype))
        rate = self.rate_embedding(sinusoidal(jnp.trunc(rates), width, max_period=RATE_PERIOD).astype(x.dtype))

        x = self.conv_in(x)
        skips = [x]
        for block in self.down:
            x, made = block(x, time, rate, tokens)
            skips += made
        x = self.middle(x, time, rate, tokens)
        for block in self.up:
            x = block(x, skips, time, rate, tokens)
        x = self.conv_out(nnx.silu(self.norm_out(x)))
        return constrain(x.astype(sample.dtype), "batch", "frame", None, None, None)

    def encode_global(self, latents: Array) -> Array:
        """Tokens of a clip, the same for all of its windows.

        Args:
          latents: [B, F, h, w, 4], scaled, of whole frames; all zero for no guidance.

        Returns:
          [B, F * h' * w', D] in the order of frames, rows, columns; 14 x 14 a frame for 32 x 32 latents.
        """
        maps = self.global_encoder(latents.astype(self.dtype or latents.dtype))
        return maps.reshape(maps.shape[0], -1, maps.shape[-1])


@dataclasses.dataclass(frozen=True)
class _Bricks:
    """Builds the pieces of all levels."""

    config: M3DDMConfig
    rngs: nnx.Rngs
    dtype: DTypeLike | None
    attention: str
    remat: str

    def norm(self, channels: int, epsilon: float) -> JointGroupNorm:
        return JointGroupNorm(channels, self.config.norm_num_groups, epsilon, rngs=self.rngs, dtype=self.dtype)

    def residual(self, inputs: int, outputs: int) -> "ResidualBlock":
        return ResidualBlock(self, inputs, outputs)

    def transformer(self, width: int) -> "Transformer":
        return Transformer(self, width)


class Down(nnx.Module):
    """One level on the way down."""

    def __init__(self, make: _Bricks, inputs: list[int], width: int, *, attended: bool, last: bool):
        self.residual = nnx.List(make.residual(size, width) for size in inputs)
        self.transformer = nnx.List(make.transformer(width) for _ in inputs) if attended else None
        self.downsample = None if last else conv3x3(width, width, stride=2, rngs=make.rngs, dtype=make.dtype)

    def __call__(self, x: Array, time: Array, rate: Array, tokens: Array) -> tuple[Array, list[Array]]:
        """Returns the level's output and what it leaves for the way up."""
        made = []
        for j, residual in enumerate(self.residual):
            x = residual(x, time, rate)
            if self.transformer is not None:
                x = self.transformer[j](x, tokens)
            made.append(x)
        if self.downsample is not None:
            x = self.downsample(x)
            made.append(x)
        return x, made


class Middle(nnx.Module):
    """The lowest level: residual block, transformer, residual block."""

    def __init__(self, make: _Bricks, width: int):
        self.residual = nnx.List(make.residual(width, width) for _ in range(2))
        self.transformer = make.transformer(width)

    def __call__(self, x: Array, time: Array, rate: Array, tokens: Array) -> Array:
        """[B, T, h, w, C] -> the same."""
        x = self.residual[0](x, time, rate)
        return self.residual[1](self.transformer(x, tokens), time, rate)


class Up(nnx.Module):
    """One level on the way up, each residual block with what the way down left."""

    def __init__(self, make: _Bricks, inputs: list[int], width: int, *, attended: bool, last: bool):
        self.residual = nnx.List(make.residual(size, width) for size in inputs)
        self.transformer = nnx.List(make.transformer(width) for _ in inputs) if attended else None
        self.upsample = None if last else Upsample(width, rngs=make.rngs, dtype=make.dtype)

    def __call__(self, x: Array, skips: list[Array], time: Array, rate: Array, tokens: Array) -> Array:
        """Takes what it needs from the end of `skips`."""
        for j, residual in enumerate(self.residual):
            x = residual(jnp.concatenate([x, skips.pop()], axis=-1), time, rate)
            if self.transformer is not None:
                x = self.transformer[j](x, tokens)
        return x if self.upsample is None else self.upsample(x)


class P3DConvolution(nnx.Module):
    """3 x 3 within each frame, then 3 over frames, which starts as the identity (Qiu et al. 2017, arXiv 1711.10305)."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None):
        self.spatial = conv3x3(inputs, outputs, rngs=rngs, dtype=dtype)
        self.temporal = FrameConvolution(outputs, dtype=dtype)

    def __call__(self, x: Array) -> Array:
        """[B, T, h, w, C] -> [B, T, h, w, C']."""
        return self.temporal(self.spatial(x))


class FrameConvolution(nnx.Module):
    """A convolution of width 3 over frames, the identity when fresh.

    Three matrix products, not a convolution: of that, XLA's partitioner (jax 0.11.2) gets the kernel's gradient wrong
    on meshes of several axes.
    """

    def __init__(self, channels: int, *, dtype: DTypeLike | None):
        self.dtype = dtype
        self.kernel = nnx.Param(jnp.zeros((3, channels, channels)).at[1].set(jnp.eye(channels)))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: Array) -> Array:
        """[B, T, h, w, C] -> the same."""
        dtype, length = self.dtype or x.dtype, x.shape[1]
        kernel, frames = self.kernel[...].astype(dtype), jnp.pad(x.astype(dtype), ((0, 0), (1, 1), *[(0, 0)] * 3))
        y = sum(frames[:, k : k + length] @ kernel[k] for k in range(3)) + self.bias[...].astype(dtype)
        return constrain(y, "batch", "frame", None, None, ANY)


class ResidualBlock(nnx.Module):
    """Two P3D convolutions, between them what timestep and frame rate add."""

    def __init__(self, make: _Bricks, inputs: int, outputs: int):
        self.remat = make.remat
        options = {"rngs": make.rngs, "dtype": make.dtype}
        embedding = 4 * make.config.block_out_channels[0]
        self.norm1 = make.norm(inputs, make.config.norm_eps)
        self.conv1 = P3DConvolution(inputs, outputs, **options)
        self.time = nnx.Linear(embedding, outputs, **options)
        self.rate = zero_linear(embedding, outputs, **options)
        self.norm2 = make.norm(outputs, make.config.norm_eps)
        self.conv2 = P3DConvolution(outputs, outputs, **options)
        self.shortcut = None if inputs == outputs else Convolution(inputs, outputs, (1, 1), **options)

    def __call__(self, x: Array, time: Array, rate: Array) -> Array:
        """Args: x: [B, T, h, w, C]. time, rate: [B, E]. Returns: [B, T, h, w, C']."""

        def run(x: Array, time: Array, rate: Array) -> Array:
            y = self.conv1(nnx.silu(self.norm1(x)))
            y = y + (self.time(nnx.silu(time)) + self.rate(nnx.silu(rate)))[:, None, None, None]
            y = self.conv2(nnx.silu(self.norm2(y)))
            return y + (x if self.shortcut is None else self.shortcut(x))

        return keeping(run, self.remat)(x, time, rate)


class Transformer(nnx.Module):
    """Within frames and to the global tokens as in Stable Diffusion, then over frames."""

    def __init__(self, make: _Bricks, width: int):
        config, self.remat = make.config, make.remat
        self.spatial = SpatialTransformer(
            width,
            config.attention_head_dim,
            config.cross_attention_dim,
            groups=config.norm_num_groups,
            global_tokens=False,
            rngs=make.rngs,
            dtype=make.dtype,
            attention=make.attention,
        )
        self.temporal = TemporalTransformer(make, width)

    def __call__(self, x: Array, tokens: Array) -> Array:
        """Args: x: [B, T, h, w, C]. tokens: [B, K, D]. Returns: like x."""

        def run(x: Array, tokens: Array) -> Array:
            # Said between the halves and behind them, or a gradient within frames is wrong on meshes with `context`.
            x = constrain(self.spatial(x, tokens, None), "batch", "frame", None, None, ANY)
            return constrain(self.temporal(x), "batch", "frame", None, None, ANY)

        return keeping(run, self.remat)(x, tokens)


class TemporalTransformer(nnx.Module):
    """At each position twice self-attention over the frames, and a feed-forward; frames know their places."""

    def __init__(self, make: _Bricks, width: int):
        options = {"rngs": make.rngs, "dtype": make.dtype}
        heads = make.config.attention_head_dim
        self.norm = make.norm(width, 1e-6)
        self.project_in = nnx.Linear(width, width, **options)
        self.place_embedding = EmbeddingMLP(PLACE_WIDTH, width, **options)
        self.norms = nnx.List(layer_norm(width, **options) for _ in range(3))
        self.attention = nnx.List(Attention(width, heads, width, attention=make.attention, **options) for _ in range(2))
        self.feed_forward = FeedForward(width, **options)
        self.project_out = zero_linear(width, width, **options)

    def __call__(self, x: Array) -> Array:
        """[B, T, h, w, C] -> the same."""
        batch, frames, height, width, channels = x.shape
        places = sinusoidal(jnp.arange(frames), PLACE_WIDTH, max_period=TIME_PERIOD).astype(x.dtype)
        y = self.norm(x).reshape(batch, frames, height * width, channels).swapaxes(1, 2)
        # Positions take the mesh axis that frames had, here and not somewhere in a projection; see est.py.
        y = self.project_in(constrain(y, "batch", "window", None, None)) + self.place_embedding(places)
        for norm, attention in zip(self.norms, self.attention):
            normed = norm(y)
            y = y + attention(normed, normed)
        y = self.project_out(y + self.feed_forward(self.norms[2](y)))
        return x + constrain(y, "batch", "window", None, None).swapaxes(1, 2).reshape(x.shape)
