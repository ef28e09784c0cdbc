"""The inpainting UNet of Stable Diffusion, grown into a video network.

Built from the `config.json` of a diffusers `UNet2DConditionModel` and keys of ours (unet_config.py), which add EST
modules, 3D windows, motion modules and global tokens.

Without these it is the image network. With them on and fresh it still computes the same, frame by frame:
every new module ends in zeros. Training departs from there.

One frame of a segment enters as `[noisy latents 4 | mask 1 | masked-video latents 4]`. For the interpolation model
the boundary frames carry their clean latents in the last four channels and 0 in the mask. The last key, `masked_fill`,
says what the masked video shows where nothing was observed: a name in `conditioning.FILLS`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from gp_jax.models.est import SpaceTimeTransformer, TemporalConvolution
from gp_jax.models.layers import (
    EmbeddingMLP,
    GroupNorm,
    ResidualBlock,
    Upsample,
    conv3x3,
    sinusoidal,
)
from gp_jax.models.motion import MotionModule
from gp_jax.models.remat import keeping
from gp_jax.models.transformer import SpatialTransformer
from gp_jax.models.unet_config import ATTENTION_BLOCKS, UNetConfig
from gp_jax.parallel import constrain

Array = jax.Array


class UNet(nnx.Module):
    """See the module's docstring.

    `attention` names a backend of `attention.BACKENDS`, `remat` a policy of `REMAT`; `dtype` is the compute dtype.
    """

    def __init__(
        self,
        config: UNetConfig,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
        attention: str = "einsum",
        remat: str = "none",
    ):
        self.config, self.dtype = config, dtype
        widths, levels = config.block_out_channels, len(config.block_out_channels)
        make = _BlockFactory(config, rngs, dtype, attention, remat)
        embedding = 4 * widths[0]

        self.conv_in = conv3x3(config.in_channels, widths[0], rngs=rngs, dtype=dtype)
        self.time_embedding = EmbeddingMLP(widths[0], embedding, rngs=rngs, dtype=dtype)
        if config.temporal:
            self.stride_embedding = EmbeddingMLP(widths[0], embedding, zero=True, rngs=rngs, dtype=dtype)

        skips = [widths[0]]
        self.down = nnx.List()
        for level, width in enumerate(widths):
            inputs = [skips[-1]] + [width] * (config.layers_per_block - 1)
            attended = ATTENTION_BLOCKS[config.down_block_types[level]]
            self.down.append(DownBlock(make, inputs, width, level, attended, last=level == levels - 1))
            skips += [width] * (config.layers_per_block + (level < levels - 1))

        self.middle = MiddleBlock(make, widths[-1], levels - 1)

        self.up = nnx.List()
        below = widths[-1]
        for index, level in enumerate(reversed(range(levels))):
            width = widths[level]
            inputs = [x + skips.pop() for x in [below] + [width] * config.layers_per_block]
            attended = ATTENTION_BLOCKS[config.up_block_types[index]]
            self.up.append(UpBlock(make, inputs, width, level, attended, last=level == 0))
            below = width

        self.norm_out = GroupNorm(widths[0], config.norm_num_groups, config.norm_eps, rngs=rngs, dtype=dtype)
        self.conv_out = conv3x3(widths[0], config.out_channels, rngs=rngs, dtype=dtype)

    def __call__(
        self,
        sample: Array,
        timesteps: Array,
        text: Array,
        tokens: Array | None = None,
        frames: Array | None = None,
    ) -> Array:
        """Predicts what the schedule's prediction type says (noise, v, ...) for a batch of segments.

        Args:
          sample: [B, T, h, w, Cin] noisy latents, mask (1 = unknown) and masked-video latents.
          timesteps: [B], 0 to 999.
          text: [B, L, D] text embedding, of the null prompt where there is no text.
          tokens: [B, K, D] global tokens; all zero means dropped. None: as if dropped.
          frames: [B, T] source frame index of each frame, which tells position and stride; None: 0, 1, 2, ...

        Returns:
          [B, T, h, w, Cout] in the dtype of `sample`.
        """
        config = self.config
        batch, length = sample.shape[:2]
        if frames is None:
            frames = jnp.broadcast_to(jnp.arange(length), (batch, length))
        stride, positions = _places(frames)
        x = constrain(sample.astype(self.dtype or sample.dtype), "batch", "frame", None, None, None)
        text = text.astype(x.dtype)
        tokens = None if tokens is None or not config.global_tokens else tokens.astype(x.dtype)

        def embed(values):
            options = {"cosine_first": config.flip_sin_to_cos, "shift": config.freq_shift}
            return sinusoidal(values, config.block_out_channels[0], **options).astype(x.dtype)

        embedding = self.time_embedding(embed(timesteps))
        if config.temporal:
            embedding = embedding + self.stride_embedding(embed(stride))
        condition = _Condition(embedding, text, tokens, positions)

        x = self.conv_in(x)
        skips = [x]
        for block in self.down:
            x, made = block(x, condition)
            skips += made
        x = self.middle(x, condition)
        for block in self.up:
            x = block(x, skips, condition)
        x = self.conv_out(nnx.silu(self.norm_out(x)))
        return constrain(x.astype(sample.dtype), "batch", "frame", None, None, None)


def _places(frames: Array) -> tuple[Array, Array]:
    """The stride [B] of segments, and the place of each frame in its segment [B, T], from source indices [B, T].

    A segment that is too short repeats its last frame. Training has no such segments, but clips that stand still: so a
    repeated frame is told as one that comes a stride later, and the stride, 1 or more, is that of the others.
    """
    steps = jnp.diff(frames, axis=1) > 0
    count = steps.sum(axis=1)
    stride = jnp.where(count > 0, (frames[:, -1] - frames[:, 0]) / jnp.maximum(count, 1), 1.0)
    standing = jnp.pad(jnp.cumsum(~steps, axis=1), ((0, 0), (1, 0)))
    return stride, (frames - frames[:, :1]) / stride[:, None] + standing


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Condition:
    """What every block may look at."""

    embedding: Array
    text: Array
    tokens: Array | None
    positions: Array


@dataclasses.dataclass(frozen=True)
class _BlockFactory:
    """Builds the pieces of all levels; counts the EST transformers, every second of which is shifted."""

    config: UNetConfig
    rngs: nnx.Rngs
    dtype: DTypeLike | None
    attention: str
    remat: str
    transformers: list[int] = dataclasses.field(default_factory=list)

    def residual(self, inputs: int, outputs: int) -> "SpatialTemporalResidual":
        return SpatialTemporalResidual(self.config, inputs, outputs, rngs=self.rngs, dtype=self.dtype, remat=self.remat)

    def transformer(self, width: int, level: int) -> "SpatialTemporalTransformer":
        self.transformers.append(level)
        return SpatialTemporalTransformer(
            self.config,
            width,
            self.config.heads(level),
            shifted=len(self.transformers) % 2 == 0,
            rngs=self.rngs,
            dtype=self.dtype,
            attention=self.attention,
            remat=self.remat,
        )

    def motion(self, width: int, count: int, attended: bool) -> nnx.List | None:
        """The motion modules of a level that are not within its transformers."""
        if attended or self.config.motion is None or not (self.config.temporal and self.config.motion_everywhere):
            return None
        options = {"rngs": self.rngs, "dtype": self.dtype, "attention": self.attention}
        return nnx.List(MotionModule(width, **self.config.motion, **options) for _ in range(count))


class DownBlock(nnx.Module):
    """One level on the way down. Returns its output and what it leaves for the way up."""

    def __init__(self, make: _BlockFactory, inputs: list[int], width: int, level: int, attended: bool, *, last: bool):
        self.residual = nnx.List(make.residual(size, width) for size in inputs)
        self.transformer = nnx.List(make.transformer(width, level) for _ in inputs) if attended else None
        self.motion = make.motion(width, len(inputs), attended)
        self.downsample = None if last else conv3x3(width, width, stride=2, rngs=make.rngs, dtype=make.dtype)

    def __call__(self, x: Array, condition: _Condition) -> tuple[Array, list[Array]]:
        made = []
        for index, residual in enumerate(self.residual):
            x = residual(x, condition)
            if self.transformer is not None:
                x = self.transformer[index](x, condition)
            if self.motion is not None:
                x = self.motion[index](x, condition.positions)
            made.append(x)
        if self.downsample is not None:
            x = self.downsample(x)
            made.append(x)
        return x, made


class MiddleBlock(nnx.Module):
    """Residual, transformer, residual at the lowest level."""

    def __init__(self, make: _BlockFactory, width: int, level: int):
        self.residual = nnx.List(make.residual(width, width) for _ in range(2))
        self.transformer = make.transformer(width, level)

    def __call__(self, x: Array, condition: _Condition) -> Array:
        x = self.transformer(self.residual[0](x, condition), condition)
        return self.residual[1](x, condition)


class UpBlock(nnx.Module):
    """One level on the way up; takes its skips off the end of the list."""

    def __init__(self, make: _BlockFactory, inputs: list[int], width: int, level: int, attended: bool, *, last: bool):
        self.residual = nnx.List(make.residual(size, width) for size in inputs)
        self.transformer = nnx.List(make.transformer(width, level) for _ in inputs) if attended else None
        self.motion = make.motion(width, len(inputs), attended)
        self.upsample = None if last else Upsample(width, rngs=make.rngs, dtype=make.dtype)

    def __call__(self, x: Array, skips: list[Array], condition: _Condition) -> Array:
        for index, residual in enumerate(self.residual):
            x = residual(jnp.concatenate([x, skips.pop()], axis=-1), condition)
            if self.transformer is not None:
                x = self.transformer[index](x, condition)
            if self.motion is not None:
                x = self.motion[index](x, condition.positions)
        if self.upsample is None:
            return x
        height, width = skips[-1].shape[-3:-1]
        return self.upsample(x, size=(height, width))


class SpatialTemporalResidual(nnx.Module):
    """A spatial residual block and, in a video network, a temporal convolution behind it."""

    def __init__(
        self, config: UNetConfig, inputs: int, outputs: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None, remat: str
    ):
        self.remat = remat
        groups = config.norm_num_groups
        self.spatial = ResidualBlock(
            inputs,
            outputs,
            groups=groups,
            epsilon=config.norm_eps,
            embedding=4 * config.block_out_channels[0],
            rngs=rngs,
            dtype=dtype,
        )
        self.temporal = TemporalConvolution(outputs, groups=groups, rngs=rngs, dtype=dtype) if config.temporal else None

    def __call__(self, x: Array, condition: _Condition) -> Array:
        def run(x, condition):
            x = self.spatial(x, condition.embedding)
            return x if self.temporal is None else self.temporal(x)

        return keeping(run, self.remat)(x, condition)


class SpatialTemporalTransformer(nnx.Module):
    """A spatial transformer block and, in a video network, an EST transformer behind it."""

    def __init__(
        self,
        config: UNetConfig,
        width: int,
        heads: int,
        *,
        shifted: bool,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None,
        attention: str,
        remat: str,
    ):
        self.remat = remat
        self.spatial = SpatialTransformer(
            width,
            heads,
            config.cross_attention_dim,
            groups=config.norm_num_groups,
            global_tokens=config.global_tokens,
            rngs=rngs,
            dtype=dtype,
            attention=attention,
        )
        self.space_time = (
            SpaceTimeTransformer(
                width,
                heads,
                window=config.window,
                shifted=shifted,
                multiplier=config.est_multiplier,
                motion=config.motion,
                rngs=rngs,
                dtype=dtype,
                attention=attention,
            )
            if config.temporal
            else None
        )

    def __call__(self, x: Array, condition: _Condition) -> Array:
        def run(x, condition):
            x = self.spatial(x, condition.text, condition.tokens)
            return x if self.space_time is None else self.space_time(x, condition.positions)

        return keeping(run, self.remat)(x, condition)
