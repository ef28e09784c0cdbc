"""The blocks of the UNet, which other networks of its layout are made of too (controlnet.py).

A level is a list of residual blocks, each with a transformer behind it where the config says so; in a video network
temporal modules of `est.py` and `motion.py` stand behind either. `BlockFactory` makes them from a config:

    make = BlockFactory(config, rngs, dtype, "einsum", "none")
    blocks, widths = make.way_down()
    x, skips = blocks[0](x, Condition(embedding, text, tokens, positions))              # x [B, T, h, w, C]
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from gp_jax.models.est import SpaceTimeTransformer, TemporalConvolution
from gp_jax.models.layers import ResidualBlock, Upsample, conv3x3, sinusoidal
from gp_jax.models.motion import MotionModule
from gp_jax.models.remat import keeping
from gp_jax.models.transformer import SpatialTransformer
from gp_jax.models.unet_config import ATTENTION_BLOCKS, UNetConfig

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Condition:
    """What every block may look at."""

    embedding: Array
    text: Array
    tokens: Array | None
    positions: Array
    insertion: Array | None = None


@dataclasses.dataclass(frozen=True)
class BlockFactory:
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

    def way_down(self) -> tuple[nnx.List, list[int]]:
        """The `DownBlock`s of all levels, and the width of all that they leave, the first convolution's before them."""
        config, blocks = self.config, nnx.List()
        widths, last = config.block_out_channels, len(config.block_out_channels) - 1
        skips = [widths[0]]
        for level, width in enumerate(widths):
            inputs = [skips[-1]] + [width] * (config.layers_per_block - 1)
            attended = ATTENTION_BLOCKS[config.down_block_types[level]]
            blocks.append(DownBlock(self, inputs, width, level, attended, last=level == last))
            skips += [width] * (config.layers_per_block + (level < last))
        return blocks, skips

    def motion(self, width: int, count: int, attended: bool) -> nnx.List | None:
        """The motion modules of a level that are not within its transformers."""
        if attended or self.config.motion is None or not self.config.motion_everywhere:
            return None
        options = {"rngs": self.rngs, "dtype": self.dtype, "attention": self.attention}
        return nnx.List(MotionModule(width, **self.config.motion, **options) for _ in range(count))


class DownBlock(nnx.Module):
    """One level on the way down. Returns its output and what it leaves for the way up."""

    def __init__(self, make: BlockFactory, inputs: list[int], width: int, level: int, attended: bool, *, last: bool):
        self.residual = nnx.List(make.residual(size, width) for size in inputs)
        self.transformer = nnx.List(make.transformer(width, level) for _ in inputs) if attended else None
        self.motion, self.remat = make.motion(width, len(inputs), attended), make.remat
        self.downsample = None if last else conv3x3(width, width, stride=2, rngs=make.rngs, dtype=make.dtype)

    def __call__(self, x: Array, condition: Condition) -> tuple[Array, list[Array]]:
        made = []
        for index, residual in enumerate(self.residual):
            x = residual(x, condition)
            if self.transformer is not None:
                x = self.transformer[index](x, condition)
            if self.motion is not None:
                x = keeping(self.motion[index], self.remat)(x, condition.positions, condition.insertion)
            made.append(x)
        if self.downsample is not None:
            x = self.downsample(x)
            made.append(x)
        return x, made


class MiddleBlock(nnx.Module):
    """Residual, transformer, residual at the lowest level."""

    def __init__(self, make: BlockFactory, width: int, level: int):
        self.residual = nnx.List(make.residual(width, width) for _ in range(2))
        self.transformer = make.transformer(width, level)

    def __call__(self, x: Array, condition: Condition) -> Array:
        x = self.transformer(self.residual[0](x, condition), condition)
        return self.residual[1](x, condition)


class UpBlock(nnx.Module):
    """One level on the way up; takes its skips off the end of the list."""

    def __init__(self, make: BlockFactory, inputs: list[int], width: int, level: int, attended: bool, *, last: bool):
        self.residual = nnx.List(make.residual(size, width) for size in inputs)
        self.transformer = nnx.List(make.transformer(width, level) for _ in inputs) if attended else None
        self.motion, self.remat = make.motion(width, len(inputs), attended), make.remat
        self.upsample = None if last else Upsample(width, rngs=make.rngs, dtype=make.dtype)

    def __call__(self, x: Array, skips: list[Array], condition: Condition) -> Array:
        for index, residual in enumerate(self.residual):
            x = residual(jnp.concatenate([x, skips.pop()], axis=-1), condition)
            if self.transformer is not None:
                x = self.transformer[index](x, condition)
            if self.motion is not None:
                x = keeping(self.motion[index], self.remat)(x, condition.positions, condition.insertion)
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
            joint=config.norm_joint,
            rngs=rngs,
            dtype=dtype,
        )
        self.temporal = TemporalConvolution(outputs, groups=groups, rngs=rngs, dtype=dtype) if config.temporal else None

    def __call__(self, x: Array, condition: Condition) -> Array:
        def run(x, condition):
            x = self.spatial(x, condition.embedding)
            return x if self.temporal is None else self.temporal(x)

        return keeping(run, self.remat)(x, condition)


class SpatialTemporalTransformer(nnx.Module):
    """A spatial transformer block and, in a video network, an EST transformer or a motion module behind it."""

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
        self.motion = (
            None
            if config.motion is None or config.temporal
            else MotionModule(width, **config.motion, rngs=rngs, dtype=dtype, attention=attention)
        )

    def __call__(self, x: Array, condition: Condition) -> Array:
        def run(x, condition):
            x = self.spatial(x, condition.text, condition.tokens)
            if self.motion is not None:
                x = self.motion(x, condition.positions, condition.insertion)
            return x if self.space_time is None else self.space_time(x, condition.positions)

        return keeping(run, self.remat)(x, condition)


def scalar_embedding(config: UNetConfig, values: Array) -> Array:
    """[B] timesteps or strides -> [B, C] float32 sinusoids, which an `EmbeddingMLP` takes."""
    options = {"cosine_first": config.flip_sin_to_cos, "shift": config.freq_shift}
    return sinusoidal(values, config.block_out_channels[0], **options)
