"""The Stable Diffusion UNet as diffusers and as the original files (LDM) spell it.

diffusers names levels and blocks, as we do. LDM counts through: `input_blocks.0` is the first convolution, then comes
one block per residual block (`.0`, with its transformer as `.1`) and one per downsampling; `output_blocks` likewise,
with the upsampling as the last entry of a level's last block. The transformers' outer projections are 1x1 convolutions
in SD1, linear layers in SD2.
"""

from collections.abc import Mapping
from typing import Any

from gp_jax.convert.rules import CONV, LINEAR, NORM, POINTWISE, Rule, Rules, nest
from gp_jax.errors import UserError
from gp_jax.json_config import short
from gp_jax.models.unet import UNetConfig

_DIFFUSERS_RESIDUAL = (
    Rule("norm1", "norm1", NORM),
    Rule("conv1", "conv1", CONV),
    Rule("time_emb_proj", "embedding", LINEAR),
    Rule("norm2", "norm2", NORM),
    Rule("conv2", "conv2", CONV),
    Rule("conv_shortcut", "shortcut", CONV),
)
_LDM_RESIDUAL = (
    Rule("in_layers.0", "norm1", NORM),
    Rule("in_layers.2", "conv1", CONV),
    Rule("emb_layers.1", "embedding", LINEAR),
    Rule("out_layers.0", "norm2", NORM),
    Rule("out_layers.3", "conv2", CONV),
    Rule("skip_connection", "shortcut", CONV),
)
_ATTENTION = (
    Rule("to_q", "query", LINEAR),
    Rule("to_k", "key", LINEAR),
    Rule("to_v", "value", LINEAR),
    Rule("to_out.0", "output", LINEAR),
)
_TRANSFORMER = (
    Rule("norm", "norm", NORM),
    Rule("transformer_blocks.0.norm1", "norm1", NORM),
    *nest("transformer_blocks.0.attn1", "self_attention", _ATTENTION),
    Rule("transformer_blocks.0.norm2", "norm2", NORM),
    *nest("transformer_blocks.0.attn2", "cross_attention", _ATTENTION),
    Rule("transformer_blocks.0.norm3", "norm3", NORM),
    Rule("transformer_blocks.0.ff.net.0.proj", "feed_forward.expand", LINEAR),
    Rule("transformer_blocks.0.ff.net.2", "feed_forward.contract", LINEAR),
)


def diffusers_rules(config: UNetConfig) -> Rules:
    """The table for a diffusers `UNet2DConditionModel`."""
    transformer = _transformer(config)
    return (
        Rule("conv_in", "conv_in", CONV),
        Rule("time_embedding.linear_1", "time_embedding.linear1", LINEAR),
        Rule("time_embedding.linear_2", "time_embedding.linear2", LINEAR),
        *nest("down_blocks.{i}.resnets.{j}", "down.{i}.residual.{j}.spatial", _DIFFUSERS_RESIDUAL),
        *nest("down_blocks.{i}.attentions.{j}", "down.{i}.transformer.{j}.spatial", transformer),
        Rule("down_blocks.{i}.downsamplers.0.conv", "down.{i}.downsample", CONV),
        *nest("mid_block.resnets.{j}", "middle.residual.{j}.spatial", _DIFFUSERS_RESIDUAL),
        *nest("mid_block.attentions.0", "middle.transformer.spatial", transformer),
        *nest("up_blocks.{i}.resnets.{j}", "up.{i}.residual.{j}.spatial", _DIFFUSERS_RESIDUAL),
        *nest("up_blocks.{i}.attentions.{j}", "up.{i}.transformer.{j}.spatial", transformer),
        Rule("up_blocks.{i}.upsamplers.0.conv", "up.{i}.upsample.convolution", CONV),
        Rule("conv_norm_out", "norm_out", NORM),
        Rule("conv_out", "conv_out", CONV),
    )


def ldm_rules(config: UNetConfig) -> Rules:
    """The table for an LDM file's `model.diffusion_model.`, prefix taken off."""
    transformer, levels = _transformer(config), len(config.block_out_channels)
    rules = [
        Rule("input_blocks.0.0", "conv_in", CONV),
        Rule("time_embed.0", "time_embedding.linear1", LINEAR),
        Rule("time_embed.2", "time_embedding.linear2", LINEAR),
        *nest("middle_block.0", "middle.residual.0.spatial", _LDM_RESIDUAL),
        *nest("middle_block.1", "middle.transformer.spatial", transformer),
        *nest("middle_block.2", "middle.residual.1.spatial", _LDM_RESIDUAL),
        Rule("out.0", "norm_out", NORM),
        Rule("out.2", "conv_out", CONV),
    ]
    per_level = config.layers_per_block + 1
    for level in range(levels):
        for j in range(config.layers_per_block):
            block = f"input_blocks.{1 + level * per_level + j}"
            rules += nest(f"{block}.0", f"down.{level}.residual.{j}.spatial", _LDM_RESIDUAL)
            rules += nest(f"{block}.1", f"down.{level}.transformer.{j}.spatial", transformer)
        rules.append(Rule(f"input_blocks.{(level + 1) * per_level}.0.op", f"down.{level}.downsample", CONV))
        for j in range(per_level):
            block = f"output_blocks.{level * per_level + j}"
            rules += nest(f"{block}.0", f"up.{level}.residual.{j}.spatial", _LDM_RESIDUAL)
            rules += nest(f"{block}.1", f"up.{level}.transformer.{j}.spatial", transformer)
        last, place = (level + 1) * per_level - 1, 2 if config.up_block_types[level] == "CrossAttnUpBlock2D" else 1
        rules.append(Rule(f"output_blocks.{last}.{place}.conv", f"up.{level}.upsample.convolution", CONV))
    return tuple(rules)


def sample_area(sample_size: Any) -> int:
    """Pixels of a frame with latents of a diffusers config's `sample_size`, a side or height and width."""
    sides = list(sample_size) if isinstance(sample_size, list | tuple) else [sample_size] * 2
    if len(sides) != 2 or not all(type(side) is int and 1 <= side <= 256 for side in sides):
        raise UserError(
            f"UNet config: sample_size is {short(sample_size)}; it must be one or two numbers from 1 to 256"
        )
    return 64 * sides[0] * sides[1]


def ldm_json(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The config of an LDM UNet, from its shapes."""
    way_down = ldm_encoder_json(tensors)
    up = ["CrossAttnUpBlock2D" if "Cross" in kind else "UpBlock2D" for kind in reversed(way_down["down_block_types"])]
    return {**way_down, "out_channels": tensors["out.2.weight"].shape[0], "up_block_types": up}


def ldm_encoder_json(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """What the way down tells, from its shapes.

    The number of heads leaves no trace in them: Stable Diffusion 1 has 8 in each level, and convolutions as input
    projections; Stable Diffusion 2 has heads of 64 channels, and linear layers.
    """
    shape = {name: tensor.shape for name, tensor in tensors.items()}
    widths, attended, layers, n = [], [], 0, 1
    while (name := f"input_blocks.{n}.0.in_layers.2.weight") in shape:
        widths.append(shape[name][0])
        attended.append(f"input_blocks.{n}.1.norm.weight" in shape)
        while f"input_blocks.{n}.0.in_layers.2.weight" in shape:
            layers, n = layers + 1, n + 1
        n += 1  # the downsampling
    linear = len(shape["middle_block.1.proj_in.weight"]) == 2
    return {
        "in_channels": shape["input_blocks.0.0.weight"][1],
        "block_out_channels": widths,
        "down_block_types": ["CrossAttnDownBlock2D" if yes else "DownBlock2D" for yes in attended],
        "layers_per_block": layers // max(len(widths), 1),
        "attention_head_dim": [width // 64 for width in widths] if linear else 8,
        "cross_attention_dim": shape["middle_block.1.transformer_blocks.0.attn2.to_k.weight"][1],
        "use_linear_projection": linear,
    }


def _transformer(config: UNetConfig) -> Rules:
    projection = LINEAR if config.use_linear_projection else POINTWISE
    return (*_TRANSFORMER, Rule("proj_in", "project_in", projection), Rule("proj_out", "project_out", projection))
