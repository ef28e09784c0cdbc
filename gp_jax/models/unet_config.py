"""What the UNet is built from.

The `config.json` of a diffusers `UNet2DConditionModel` plus keys of ours:

  temporal       True: EST modules (est.py) after the spatial blocks
  window         [t, h, w] of their 3D windowed attention; null: temporal layers only
  est_multiplier hidden width of their feed-forward, in widths of the level
  motion_modules True: the temporal attention within EST is AnimateDiff's motion module (motion.py), and without EST
                 (`temporal` False) these modules are all that the image network is extended by; `motion_heads`,
                 `motion_groups` and `motion_frame_norm` describe them, `motion_positions` is the longest segment they
                 know; `motion_everywhere`: also behind the residual blocks of levels without transformers
  global_tokens  True: each spatial transformer also attends to global tokens, through keys and values of its own
  norm_joint     True: the norms of residual blocks and the last one take all frames of a segment together
  masked_fill    what the masked video shows where nothing was observed: a name in `conditioning.FILLS`
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from gp_jax.errors import UserError
from gp_jax.json_config import Foreign, one_for_all, one_of, read_fields, within, write_fields

# Whether their levels have transformers.
ATTENTION_BLOCKS = {"CrossAttnDownBlock2D": True, "DownBlock2D": False, "CrossAttnUpBlock2D": True, "UpBlock2D": False}


UNET_2D_CONDITION = Foreign(
    classes=("UNet2DConditionModel",),
    defaults={"in_channels": 4, "attention_head_dim": 8, "cross_attention_dim": 1280, "use_linear_projection": False},
    fixed={
        "act_fn": ("silu", "swish"),
        "addition_embed_type": (None,),
        "attention_type": ("default",),
        "center_input_sample": (False,),
        "class_embed_type": (None,),
        "class_embeddings_concat": (False,),
        "conv_in_kernel": (3,),
        "conv_out_kernel": (3,),
        "cross_attention_norm": (None,),
        "downsample_padding": (1,),
        "dual_cross_attention": (False,),
        "encoder_hid_dim": (None,),
        "encoder_hid_dim_type": (None,),
        "mid_block_only_cross_attention": (None, False),
        "mid_block_scale_factor": (1,),
        "mid_block_type": ("UNetMidBlock2DCrossAttn",),
        "num_attention_heads": (None,),
        "num_class_embeds": (None,),
        "only_cross_attention": (False,),
        "resnet_out_scale_factor": (1,),
        "resnet_skip_time_act": (False,),
        "resnet_time_scale_shift": ("default",),
        "reverse_transformer_layers_per_block": (None,),
        "time_cond_proj_dim": (None,),
        "time_embedding_act_fn": (None,),
        "time_embedding_dim": (None,),
        "time_embedding_type": ("positional",),
        "timestep_post_act": (None,),
        "transformer_layers_per_block": (1,),
    },
    ignored=(
        "addition_embed_type_num_heads",  # these three belong to embeddings that are refused above
        "addition_time_embed_dim",
        "projection_class_embeddings_input_dim",
        "dropout",
        "sample_size",
        "upcast_attention",  # ours computes its logits in float32 always
    ),
)
# What diffusers takes by level, and this network has once.
_BY_LEVEL = (
    "attention_head_dim",
    "cross_attention_dim",
    "layers_per_block",
    "only_cross_attention",
    "transformer_layers_per_block",
)


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """The keys of diffusers' `UNet2DConditionModel` config that change the network, and ours.

    The defaults are those of Stable Diffusion 2 inpainting. `carried`: see json_config.
    """

    in_channels: int = within(9, 1, 4096)
    out_channels: int = within(4, 1, 4096)
    block_out_channels: tuple[int, ...] = within((320, 640, 1280, 1280), 1, 8192)
    down_block_types: tuple[str, ...] = one_of(("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), ATTENTION_BLOCKS)
    up_block_types: tuple[str, ...] = one_of(("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3, ATTENTION_BLOCKS)
    layers_per_block: int = within(2, 1, 8)
    # As in diffusers, whose name is a historical mistake: the number of heads, one for all levels or one per level.
    attention_head_dim: int | tuple[int, ...] = within((5, 10, 20, 20), 1, 1024)
    cross_attention_dim: int = within(1024, 1, 8192)
    use_linear_projection: bool = True
    norm_num_groups: int = within(32, 1, 1024)
    norm_eps: float = within(1e-5, 1e-12, 1)
    flip_sin_to_cos: bool = True
    freq_shift: int = within(0, 0, 1)
    temporal: bool = True
    window: tuple[int, int, int] | None = within((8, 8, 8), 1, 64)
    global_tokens: bool = True
    est_multiplier: int = within(4, 1, 8)
    motion_modules: bool = False
    motion_heads: int = within(8, 1, 1024)
    motion_groups: int = within(32, 1, 1024)
    motion_positions: int = within(32, 1, 4096)
    motion_frame_norm: bool = False
    motion_everywhere: bool = False
    norm_joint: bool = False
    masked_fill: str = one_of("grey", ("grey", "edge"))
    carried: str = "{}"

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> "UNetConfig":
        """Reads a diffusers `config.json`; raises UserError on an option that this network does not have.

        A plain diffusers config has none of our keys and gives the video network with their defaults.
        """
        widths = config.get("block_out_channels", cls.block_out_channels)
        levels = len(widths) if isinstance(widths, list | tuple) else 0
        alike = {key: one_for_all(config[key], levels) for key in _BY_LEVEL if key in config}
        made = read_fields(cls, {**config, **alike}, UNET_2D_CONDITION, "UNet config")
        made._check()
        return made

    def _check(self) -> None:
        """Raises UserError where fields do not go together."""
        levels = len(self.block_out_channels)
        for key in ("down_block_types", "up_block_types", "attention_head_dim"):
            value = getattr(self, key)
            if not isinstance(value, int) and len(value) != levels:
                raise UserError(f"UNet config: {key} has {len(value)} entries, block_out_channels has {levels}")
        for kind, blocks in (("Down", self.down_block_types), ("Up", self.up_block_types)):
            if alien := [block for block in blocks if kind not in block]:
                raise UserError(f"UNet config: {kind.lower()}_block_types holds {alien[0]}")
        if odd := [width for width in self.block_out_channels if width % 2]:
            raise UserError(f"UNet config: block_out_channels holds {odd[0]}, which is odd")
        parts = {
            "norm_num_groups": [self.norm_num_groups] * levels,
            "attention_head_dim": map(self.heads, range(levels)),
        }
        if self.motion_modules:
            parts |= {"motion_groups": [self.motion_groups] * levels, "motion_heads": [self.motion_heads] * levels}
        for key, counts in parts.items():
            for width, count in zip(self.block_out_channels, counts):
                if width % count:
                    raise UserError(
                        f"UNet config: block_out_channels holds {width}, which {key}={count} does not divide"
                    )

    def to_json(self) -> dict[str, Any]:
        """The `config.json` of this network."""
        return {"_class_name": "UNet2DConditionModel", **write_fields(self)}

    @property
    def motion(self) -> dict[str, Any] | None:
        """The arguments of the motion modules; None: there are none."""
        options = {"heads": self.motion_heads, "groups": self.motion_groups, "frame_norm": self.motion_frame_norm}
        return options if self.motion_modules else None

    def heads(self, level: int) -> int:
        """Attention heads at a level."""
        heads = self.attention_head_dim
        return heads if isinstance(heads, int) else heads[level]
