"""AutoencoderKL: pixels to latents and back, one frame at a time.

The autoencoder of Stable Diffusion (Rombach et al. 2022, arXiv 2112.10752), built from the `config.json` of a
diffusers folder.
Two additions, for the embedded model, which has to be fast on a CPU and to learn in minutes. With `patch_size` p the
network works on p x p patches folded into channels (space to depth); p = 1 is the original. With `linear_latents` the
latents are a linear map of the pixels of their cell, such as its principal components, and the decoder corrects what a
linear map back makes of them and their neighbours: the encoder costs nothing, distances of latents are those of pixels,
and no latent knows of pixels beyond its cell.

Latents come unscaled; whoever diffuses them multiplies by `config.scaling_factor`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from gp_jax.errors import UserError
from gp_jax.json_config import Foreign, read_fields, within, write_fields
from gp_jax.models.attention import attend
from gp_jax.models.layers import Convolution, GroupNorm, ResidualBlock, Upsample, conv3x3

Array = jax.Array
Pixels = TypeVar("Pixels", jax.Array, np.ndarray)
_EPSILON = 1e-6
_LOWEST = -30.0
# Of products of float32: left to themselves, a TPU computes them in bfloat16 and a GPU in TF32.
_PRECISION = "highest"


AUTOENCODER_KL = Foreign(
    classes=("AutoencoderKL",),
    defaults={"block_out_channels": (64,), "layers_per_block": 1},
    fixed={
        "act_fn": ("silu", "swish"),
        "latents_mean": (None,),
        "latents_std": (None,),
        "mid_block_add_attention": (True,),
        "shift_factor": (None, 0),
        "use_post_quant_conv": (True,),
        "use_quant_conv": (True,),
    },
    ignored=("force_upcast", "sample_size"),
)


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """The keys of diffusers' `AutoencoderKL` config that change the network, and `patch_size` and `linear_latents`.

    `carried`: see json_config.
    """

    in_channels: int = within(3, 1, 64)
    out_channels: int = within(3, 1, 64)
    block_out_channels: tuple[int, ...] = within((128, 256, 512, 512), 1, 8192)
    layers_per_block: int = within(2, 1, 8)
    latent_channels: int = within(4, 1, 1024)
    norm_num_groups: int = within(32, 1, 1024)
    scaling_factor: float = within(0.18215, 1e-6, 1e6)
    patch_size: int = within(1, 1, 64)
    linear_latents: bool = False
    carried: str = "{}"

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> "AutoencoderConfig":
        """Reads a diffusers `config.json`; raises UserError on an option that this network does not have."""
        widths = config.get("block_out_channels", cls.block_out_channels)
        blocks = _blocks(len(widths) if isinstance(widths, list | tuple) else 0)
        fixed = {**AUTOENCODER_KL.fixed, **{key: (value,) for key, value in blocks.items()}}
        made = read_fields(cls, config, dataclasses.replace(AUTOENCODER_KL, fixed=fixed), "autoencoder config")
        for width in made.block_out_channels:
            if width % made.norm_num_groups:
                raise UserError(
                    f"autoencoder config: block_out_channels holds {width}, "
                    f"which norm_num_groups={made.norm_num_groups} does not divide"
                )
        if made.linear_latents and made.latent_channels > made.cell:
            raise UserError(
                f"autoencoder config: latent_channels is {made.latent_channels}, and linear_latents are components of "
                f"cells of {made.cell} numbers: choose no more than that"
            )
        return made

    def to_json(self) -> dict[str, Any]:
        """The `config.json` of this network, readable by diffusers where our two keys have their defaults."""
        blocks = _blocks(len(self.block_out_channels))
        return {"_class_name": "AutoencoderKL", "act_fn": "silu", **blocks, **write_fields(self)}

    @property
    def downsampling(self) -> int:
        """Pixels per latent along each side."""
        return self.patch_size * 2 ** (len(self.block_out_channels) - 1)

    @property
    def cell(self) -> int:
        """Numbers of the pixels of a latent."""
        return self.in_channels * self.downsampling**2


class AutoencoderKL(nnx.Module):
    """Encoder, decoder, and the 1x1 convolutions on either side of the latents."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.config = config
        latent = config.latent_channels
        if config.linear_latents:
            self.encoder = nnx.Linear(config.cell, latent, dtype=dtype, rngs=rngs)
            self.inverse = conv3x3(latent, config.cell, dtype=dtype, rngs=rngs)
        else:
            self.encoder = Encoder(config, rngs=rngs, dtype=dtype)
            self.to_moments = nnx.Conv(2 * latent, 2 * latent, (1, 1), dtype=dtype, rngs=rngs)
        self.from_latents = nnx.Conv(latent, latent, (1, 1), dtype=dtype, rngs=rngs)
        self.decoder = Decoder(config, rngs=rngs, dtype=dtype)

    def encode(self, pixels: Array) -> tuple[Array, Array]:
        """Mean and log-variance of the latents.

        Args:
          pixels: [N, H, W, 3] in [-1, 1], H and W multiples of `config.downsampling`.

        Returns:
          Two arrays [N, h, w, C]; the log-variance is clipped to [-30, 20], and -30 for linear latents.
        """
        with jax.default_matmul_precision(_PRECISION):
            if self.config.linear_latents:
                mean = self.encoder(fold_patches(pixels, self.config.downsampling))
                return mean, jnp.full_like(mean, _LOWEST)
            moments = self.to_moments(self.encoder(fold_patches(pixels, self.config.patch_size)))
        mean, log_variance = jnp.split(moments, 2, axis=-1)
        return mean, jnp.clip(log_variance, _LOWEST, 20.0)

    def decode(self, latents: Array) -> Array:
        """[N, h, w, C] -> [N, H, W, 3], about [-1, 1], not clipped."""
        with jax.default_matmul_precision(_PRECISION):
            pixels = unfold_patches(self.decoder(self.from_latents(latents)), self.config.patch_size)
            if self.config.linear_latents:
                return pixels + unfold_patches(self.inverse(latents), self.config.downsampling)
            return pixels


def fold_patches(pixels: Pixels, size: int) -> Pixels:
    """[N, H, W, C] -> [N, H / size, W / size, size * size * C], each patch row by row."""
    n, height, width, channels = pixels.shape
    x = pixels.reshape(n, height // size, size, width // size, size, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, height // size, width // size, size * size * channels)


def unfold_patches(patches: Array, size: int) -> Array:
    """Inverse of `fold_patches`."""
    n, height, width, _ = patches.shape
    x = patches.reshape(n, height, width, size, size, -1).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, height * size, width * size, -1)


class Encoder(nnx.Module):
    """Pixels (or patches) to the moments of the latents."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs, dtype: DTypeLike | None):
        widths = config.block_out_channels
        self.conv_in = conv3x3(config.in_channels * config.patch_size**2, widths[0], rngs=rngs, dtype=dtype)
        self.down = nnx.List(
            DownBlock(config, inputs, width, last=width_index == len(widths) - 1, rngs=rngs, dtype=dtype)
            for width_index, (inputs, width) in enumerate(zip((widths[0], *widths), widths))
        )
        self.middle = MiddleBlock(config, rngs=rngs, dtype=dtype)
        self.norm_out = GroupNorm(widths[-1], config.norm_num_groups, _EPSILON, rngs=rngs, dtype=dtype)
        self.conv_out = conv3x3(widths[-1], 2 * config.latent_channels, rngs=rngs, dtype=dtype)

    def __call__(self, x: Array) -> Array:
        x = self.conv_in(x)
        for block in self.down:
            x = block(x)
        return self.conv_out(nnx.silu(self.norm_out(self.middle(x))))


class Decoder(nnx.Module):
    """Latents to pixels (or patches)."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs, dtype: DTypeLike | None):
        widths = config.block_out_channels[::-1]
        self.conv_in = conv3x3(config.latent_channels, widths[0], rngs=rngs, dtype=dtype)
        self.middle = MiddleBlock(config, rngs=rngs, dtype=dtype)
        self.up = nnx.List(
            UpBlock(config, inputs, width, last=width_index == len(widths) - 1, rngs=rngs, dtype=dtype)
            for width_index, (inputs, width) in enumerate(zip((widths[0], *widths), widths))
        )
        self.norm_out = GroupNorm(widths[-1], config.norm_num_groups, _EPSILON, rngs=rngs, dtype=dtype)
        self.conv_out = conv3x3(widths[-1], config.out_channels * config.patch_size**2, rngs=rngs, dtype=dtype)

    def __call__(self, x: Array) -> Array:
        x = self.middle(self.conv_in(x))
        for block in self.up:
            x = block(x)
        return self.conv_out(nnx.silu(self.norm_out(x)))


class DownBlock(nnx.Module):
    """Residual blocks, then a strided convolution (none in the last level)."""

    def __init__(self, config: AutoencoderConfig, inputs: int, outputs: int, *, last: bool, rngs, dtype):
        self.residual = _residual_blocks(config, inputs, outputs, config.layers_per_block, rngs, dtype)
        # Padded by hand below: the original pads at the bottom and at the right only.
        self.downsample = (
            None if last else Convolution(outputs, outputs, (3, 3), strides=2, padding="VALID", dtype=dtype, rngs=rngs)
        )

    def __call__(self, x: Array) -> Array:
        for block in self.residual:
            x = block(x)
        if self.downsample is None:
            return x
        return self.downsample(jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))))


class UpBlock(nnx.Module):
    """Residual blocks, then an upsampling (none in the last level)."""

    def __init__(self, config: AutoencoderConfig, inputs: int, outputs: int, *, last: bool, rngs, dtype):
        self.residual = _residual_blocks(config, inputs, outputs, config.layers_per_block + 1, rngs, dtype)
        self.upsample = None if last else Upsample(outputs, rngs=rngs, dtype=dtype)

    def __call__(self, x: Array) -> Array:
        for block in self.residual:
            x = block(x)
        return x if self.upsample is None else self.upsample(x)


class MiddleBlock(nnx.Module):
    """Residual block, attention over all positions with one head, residual block."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs, dtype: DTypeLike | None):
        width = config.block_out_channels[-1]
        self.residual = _residual_blocks(config, width, width, 2, rngs, dtype)
        self.norm = GroupNorm(width, config.norm_num_groups, _EPSILON, rngs=rngs, dtype=dtype)
        self.query = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.key = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.value = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.output = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = self.residual[0](x)
        n, height, width, channels = x.shape
        tokens = self.norm(x).reshape(n, 1, height * width, 1, channels)
        out = attend(self.query(tokens), self.key(tokens), self.value(tokens))
        return self.residual[1](x + self.output(out).reshape(x.shape))


def _blocks(levels: int) -> dict[str, list[str]]:
    """What a config says of the levels: they are all alike."""
    return {"down_block_types": ["DownEncoderBlock2D"] * levels, "up_block_types": ["UpDecoderBlock2D"] * levels}


def _residual_blocks(config, inputs, outputs, count, rngs, dtype) -> nnx.List:
    groups = config.norm_num_groups
    return nnx.List(
        ResidualBlock(inputs if i == 0 else outputs, outputs, groups=groups, epsilon=_EPSILON, rngs=rngs, dtype=dtype)
        for i in range(count)
    )
