"""What M3DDM's denoiser is built from: its published `config.json`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from gp_jax.errors import UserError
from gp_jax.json_config import Foreign, one_for_all, read_fields, within, write_fields
from gp_jax.models.unet_config import UNET_2D_CONDITION

UNET_3D_CONDITION = Foreign(
    classes=("UNet3DConditionModel",),
    fixed={
        **UNET_2D_CONDITION.fixed,
        "flip_sin_to_cos": (True,),
        "freq_shift": (0,),
        "mid_block_type": ("UNetMidBlock3DCrossAttn", "UNetMidBlock2DCrossAttn"),
        "use_linear_projection": (False,),
    },
    ignored=("sample_size", "upcast_attention"),
)
_BY_LEVEL = ("attention_head_dim", "layers_per_block", "cross_attention_dim")


@dataclasses.dataclass(frozen=True)
class M3DDMConfig:
    """The keys of the published `config.json` that change the network; the defaults are the published model's.

    `attention_head_dim` is the number of heads, as in the diffusers that it was made with. `carried`: see json_config.
    """

    in_channels: int = within(9, 9, 9)
    out_channels: int = within(4, 4, 4)
    block_out_channels: tuple[int, ...] = within((320, 640, 1280, 1280), 2, 8192)
    layers_per_block: int = within(2, 1, 8)
    attention_head_dim: int = within(8, 1, 1024)
    cross_attention_dim: int = within(320, 1, 8192)
    norm_num_groups: int = within(32, 1, 1024)
    norm_eps: float = within(1e-5, 1e-12, 1)
    carried: str = "{}"

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> "M3DDMConfig":
        """Reads a published `config.json`; raises UserError on an option that this network does not have."""
        widths = config.get("block_out_channels", cls.block_out_channels)
        levels = len(widths) if isinstance(widths, list | tuple) else 0
        alike = {key: one_for_all(config[key], levels) for key in _BY_LEVEL if key in config}
        fixed = {**UNET_3D_CONDITION.fixed, **{key: (value,) for key, value in _blocks(levels).items()}}
        foreign = dataclasses.replace(UNET_3D_CONDITION, fixed=fixed)
        made = read_fields(cls, {**config, **alike}, foreign, "M3DDM config")
        for width in made.block_out_channels:
            for key in ("norm_num_groups", "attention_head_dim"):
                if width % getattr(made, key):
                    raise UserError(
                        f"M3DDM config: block_out_channels holds {width}, which {key}={getattr(made, key)} does not "
                        "divide"
                    )
        if made.block_out_channels[0] % 2:
            raise UserError(f"M3DDM config: block_out_channels begins with {made.block_out_channels[0]}, which is odd")
        return made

    def to_json(self) -> dict[str, Any]:
        """The `config.json` of this network, as it is published."""
        blocks = _blocks(len(self.block_out_channels))
        return {"_class_name": "UNet3DConditionModel", "act_fn": "silu", **blocks, **write_fields(self)}

    @property
    def downsampling(self) -> int:
        """Latents along a side come in multiples of it."""
        return 2 ** (len(self.block_out_channels) - 1)


def _blocks(levels: int) -> dict[str, list[str]]:
    """What a config says of the levels: all have transformers but the lowest."""
    attended = max(levels - 1, 0)
    return {
        "down_block_types": ["CrossAttnDownBlock3D"] * attended + ["DownBlockP3D"],
        "up_block_types": ["UpBlockP3D"] + ["CrossAttnUpBlock3D"] * attended,
    }
