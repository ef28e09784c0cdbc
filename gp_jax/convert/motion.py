"""AnimateDiff's motion modules, as its files and diffusers' adapters spell them.

file                        modules   middle   positions   parameters
mm_sd_v14, mm_sd_v15             20       no          24      417.1 M
mm_sd_v15_v2                     21      yes          32      453.2 M
v3_sd15_mm                       20       no          32      417.1 M
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from gp_jax.convert.rules import LINEAR, NORM, Rule, Rules, nest
from gp_jax.json_config import Foreign, within
from gp_jax.models.motion import interleaved
from gp_jax.models.unet_config import UNetConfig

MOTION_ADAPTER = Foreign(
    classes=("MotionAdapter",),
    fixed={
        "conv_in_channels": (None,),
        "motion_mid_block_layers_per_block": (1,),
        "motion_transformer_layers_per_block": (1,),
        "motion_transformer_layers_per_mid_block": (1,),
    },
    ignored=("block_out_channels", "motion_layers_per_block", "use_motion_mid_block"),  # the tensors tell
)


@dataclasses.dataclass(frozen=True)
class Adapter:
    """The keys of diffusers' `MotionAdapter` config that shapes do not tell, with its defaults."""

    motion_num_attention_heads: int = within(8, 1, 1024)
    motion_norm_num_groups: int = within(32, 1, 1024)
    motion_max_seq_length: int = within(32, 1, 4096)


_ATTENTION = (
    Rule("to_q", "query", LINEAR),
    Rule("to_k", "key", LINEAR),
    Rule("to_v", "value", LINEAR),
    Rule("to_out.0", "output", LINEAR),
)
_MODULE = (
    Rule("norm", "norm", NORM),
    Rule("proj_in", "project_in", LINEAR),
    *nest("transformer_blocks.0.attention_blocks.{k}", "attention.{k}", _ATTENTION),
    Rule("transformer_blocks.0.norms.{k}", "attention.{k}.norm", NORM),
    Rule("transformer_blocks.0.ff.net.0.proj", "feed_forward.expand", LINEAR),
    Rule("transformer_blocks.0.ff.net.2", "feed_forward.contract", LINEAR),
    Rule("transformer_blocks.0.ff_norm", "feed_forward_norm", NORM),
    Rule("proj_out", "project_out", LINEAR),
)
# What all of AnimateDiff's own files have, by fields of our UNet's config; they come without one.
PUBLISHED = {"motion_heads": 8, "motion_groups": 32, "motion_frame_norm": True}
RULES: Rules = tuple(
    rule
    for theirs, ours in (
        ("down_blocks.{i}.motion_modules.{j}", "down.{i}.transformer.{j}.space_time.temporal"),
        ("down_blocks.{i}.motion_modules.{j}", "down.{i}.motion.{j}"),  # of levels without transformers
        ("down_blocks.{i}.motion_modules.{j}", "down.{i}.transformer.{j}.motion"),  # of networks without EST
        ("mid_block.motion_modules.0", "middle.transformer.space_time.temporal"),
        ("mid_block.motion_modules.0", "middle.transformer.motion"),
        ("up_blocks.{i}.motion_modules.{j}", "up.{i}.transformer.{j}.space_time.temporal"),
        ("up_blocks.{i}.motion_modules.{j}", "up.{i}.motion.{j}"),
        ("up_blocks.{i}.motion_modules.{j}", "up.{i}.transformer.{j}.motion"),
    )
    for rule in nest(f"{theirs}.temporal_transformer", ours, _MODULE)
)
# Training leaves `module.`; diffusers' `MotionAdapter` has names of its own.
ALIASES = (
    (r"^module\.", ""),
    (r"(motion_modules\.\d+)\.(?!temporal_transformer)", r"\1.temporal_transformer."),
    (r"\.attn1\.", ".attention_blocks.0."),
    (r"\.attn2\.", ".attention_blocks.1."),
    (r"(transformer_blocks\.0)\.norm1\.", r"\1.norms.0."),
    (r"(transformer_blocks\.0)\.norm2\.", r"\1.norms.1."),
    (r"(transformer_blocks\.0)\.norm3\.", r"\1.ff_norm."),
)


def position_encodings(config: UNetConfig, tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The `pos_encoder.pe` [1, positions, channels] of each attention, by the names of AnimateDiff's `tensors`.

    They are buffers there, so that its files hold them; their length is all that tells how many frames are known.
    """
    return {
        name.replace("to_q.weight", "pos_encoder.pe"): np.asarray(
            interleaved(np.arange(config.motion_positions), tensor.shape[1])
        )[None]
        for name, tensor in tensors.items()
        if name.endswith(".to_q.weight")
    }
