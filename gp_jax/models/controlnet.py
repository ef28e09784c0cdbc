"""ControlNet (Zhang et al. 2023, arXiv 2302.05543): a copy of a UNet's way down, which sees a picture too.

The picture, such as what of a frame is observed, goes through convolutions of its own to the size of the latents and is
added to them. Then come the UNet's blocks down to the middle, each of whose results passes a 1x1 convolution that
starts at zero, and is added in the UNet to what it has there:

    residuals = controlnet(latents, timesteps, text, picture)        # latents alone: no mask, no masked video
    prediction = unet(sample, timesteps, text, residuals=residuals)

Frames are images to it: like an image UNet it knows nothing of time. The inpainting ControlNet of Stable Diffusion 1.5
(control_v11p_sd15_inpaint) takes RGB in [0, 1], and -1 where nothing was observed.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from gp_jax.json_config import Foreign, one_of, read_fields, within, write_fields
from gp_jax.models.attention import AUTO
from gp_jax.models.layers import EmbeddingMLP, conv3x3, zero_linear
from gp_jax.models.unet_blocks import BlockFactory, Condition, MiddleBlock, scalar_embedding
from gp_jax.models.unet_config import ATTENTION_BLOCKS, UNET_2D_CONDITION, UNetConfig
from gp_jax.parallel import constrain

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class ControlNetConfig:
    """The keys of diffusers' `ControlNetModel` config that change the network, and `norm_joint` (unet_config.py).

    The defaults are those of Stable Diffusion 1.5's. `carried`: see json_config.
    """

    in_channels: int = within(4, 1, 4096)
    conditioning_channels: int = within(3, 1, 4096)
    conditioning_embedding_out_channels: tuple[int, ...] = within((16, 32, 96, 256), 1, 8192)
    block_out_channels: tuple[int, ...] = within((320, 640, 1280, 1280), 1, 8192)
    down_block_types: tuple[str, ...] = one_of(("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), ATTENTION_BLOCKS)
    layers_per_block: int = within(2, 1, 8)
    attention_head_dim: int | tuple[int, ...] = within(8, 1, 1024)
    cross_attention_dim: int = within(768, 1, 8192)
    use_linear_projection: bool = False
    norm_num_groups: int = within(32, 1, 1024)
    norm_eps: float = within(1e-5, 1e-12, 1)
    flip_sin_to_cos: bool = True
    freq_shift: int = within(0, 0, 1)
    norm_joint: bool = False
    carried: str = "{}"

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> "ControlNetConfig":
        """Reads a diffusers `config.json`; raises UserError on an option that this network does not have."""
        made = read_fields(cls, config, _CONTROL_NET, "ControlNet config")
        UNetConfig.from_json(made.unet.to_json())  # refuses what does not go together
        return made

    def to_json(self) -> dict[str, Any]:
        """The `config.json` of this network."""
        return {"_class_name": "ControlNetModel", **write_fields(self)}

    @property
    def shrinks(self) -> int:
        """Pixels of the picture that become one of the latents, along a side."""
        return 2 ** (len(self.conditioning_embedding_out_channels) - 1)

    @property
    def unet(self) -> UNetConfig:
        """Of the image UNet whose way down this is."""
        shared = {field.name for field in dataclasses.fields(UNetConfig)} - {"carried"}
        own = {name: value for name, value in dataclasses.asdict(self).items() if name in shared}
        up = tuple(_UP[kind] for kind in reversed(self.down_block_types))
        return UNetConfig(**own, up_block_types=up, temporal=False, window=None, global_tokens=False)


_UP = {"CrossAttnDownBlock2D": "CrossAttnUpBlock2D", "DownBlock2D": "UpBlock2D"}
_CONTROL_NET = Foreign(
    classes=("ControlNetModel",),
    fixed={
        **UNET_2D_CONDITION.fixed,
        "controlnet_conditioning_channel_order": ("rgb",),
        "global_pool_conditions": (False,),
    },
    ignored=UNET_2D_CONDITION.ignored,
)


class ControlNet(nnx.Module):
    """See the module's docstring. Fresh, it adds nothing.

    `attention` is one of `attention.NAMES`, `remat` a policy of `remat.REMAT`; `dtype` is that of compute.
    """

    def __init__(
        self,
        config: ControlNetConfig,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
        attention: str = AUTO,
        remat: str = "none",
    ):
        self.config, self.dtype = config, dtype
        width = config.block_out_channels[0]
        make = BlockFactory(config.unet, rngs, dtype, attention, remat)
        self.conv_in = conv3x3(config.in_channels, width, rngs=rngs, dtype=dtype)
        self.time_embedding = EmbeddingMLP(width, 4 * width, rngs=rngs, dtype=dtype)
        self.picture = PictureEmbedding(config, width, rngs=rngs, dtype=dtype)
        self.down, widths = make.way_down()
        self.middle = MiddleBlock(make, config.block_out_channels[-1], len(config.block_out_channels) - 1)
        self.down_out = nnx.List(zero_linear(size, size, rngs=rngs, dtype=dtype) for size in widths)
        self.middle_out = zero_linear(widths[-1], widths[-1], rngs=rngs, dtype=dtype)

    def __call__(
        self, sample: Array, timesteps: Array, text: Array, picture: Array, scale: float | Array = 1.0
    ) -> tuple[list[Array], Array]:
        """What a UNet is to add, for a batch of segments.

        Args:
          sample: [B, T, h, w, Cin] noisy latents.
          timesteps: [B], 0 to 999.
          text: [B, L, D] text embedding.
          picture: [B, T, H, W, 3] what steers each frame; the size of the latents times `config.shrinks`, 8
            for Stable Diffusion's.
          scale: weight of the residuals.

        Returns:
          Residuals of all that the way down leaves, from the first convolution on, and of the middle, each
          [B, T, h', w', C], in the compute dtype. `UNet.__call__` takes the pair.
        """
        x = constrain(sample.astype(self.dtype or sample.dtype), "batch", "frame", None, None, None)
        embedding = self.time_embedding(scalar_embedding(self.config.unet, timesteps).astype(x.dtype))
        condition = Condition(embedding, text.astype(x.dtype), None, positions=jnp.zeros(x.shape[:2]))
        x = self.conv_in(x) + self.picture(picture.astype(x.dtype))
        left = [x]
        for block in self.down:
            x, made = block(x, condition)
            left += made
        x = self.middle(x, condition)
        return [scale * out(y) for out, y in zip(self.down_out, left, strict=True)], scale * self.middle_out(x)


class PictureEmbedding(nnx.Module):
    """Convolutions from a picture to the width and size of the UNet's first features; the last one starts at zero."""

    def __init__(self, config: ControlNetConfig, width: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None):
        widths = config.conditioning_embedding_out_channels
        self.conv_in = conv3x3(config.conditioning_channels, widths[0], rngs=rngs, dtype=dtype)
        self.blocks = nnx.List()
        for here, below in itertools.pairwise(widths):
            self.blocks.append(conv3x3(here, here, rngs=rngs, dtype=dtype))
            self.blocks.append(conv3x3(here, below, stride=2, rngs=rngs, dtype=dtype))
        self.conv_out = conv3x3(widths[-1], width, zero=True, rngs=rngs, dtype=dtype)

    def __call__(self, x: Array) -> Array:
        """[..., H, W, 3] -> [..., h, w, C]."""
        for convolution in (self.conv_in, *self.blocks):
            x = nnx.silu(convolution(x))
        return self.conv_out(x)
