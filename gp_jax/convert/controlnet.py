"""Stable Diffusion's ControlNet as diffusers and as the original files (LDM, `control_model.`) spell it.

Its way down is a UNet's, with a UNet's names; around it stand the picture's convolutions and those that end in zeros.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from gp_jax.convert import unet
from gp_jax.convert.rules import CONV, POINTWISE, Rule, Rules
from gp_jax.models.controlnet import ControlNetConfig


def diffusers_rules(config: ControlNetConfig) -> Rules:
    """The table for a diffusers `ControlNetModel`."""
    return (
        *_way_down(unet.diffusers_rules(config.unet)),
        Rule("controlnet_cond_embedding.conv_in", "picture.conv_in", CONV),
        Rule("controlnet_cond_embedding.blocks.{i}", "picture.blocks.{i}", CONV),
        Rule("controlnet_cond_embedding.conv_out", "picture.conv_out", CONV),
        Rule("controlnet_down_blocks.{i}", "down_out.{i}", POINTWISE),
        Rule("controlnet_mid_block", "middle_out", POINTWISE),
    )


def ldm_rules(config: ControlNetConfig) -> Rules:
    """The table for an LDM file's `control_model.`, prefix taken off."""
    count = 2 * (len(config.conditioning_embedding_out_channels) - 1)
    return (
        *_way_down(unet.ldm_rules(config.unet)),
        Rule("input_hint_block.0", "picture.conv_in", CONV),
        *(Rule(f"input_hint_block.{2 + 2 * i}", f"picture.blocks.{i}", CONV) for i in range(count)),
        Rule(f"input_hint_block.{2 + 2 * count}", "picture.conv_out", CONV),
        Rule("zero_convs.{i}.0", "down_out.{i}", POINTWISE),
        Rule("middle_block_out.0", "middle_out", POINTWISE),
    )


def ldm_json(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The config of an LDM ControlNet, from its shapes; see `unet.ldm_json`."""
    hint = [f"input_hint_block.{n}.weight" for n in range(0, 100, 2)]
    there = [tensors[name].shape for name in hint if name in tensors]
    return {
        **unet.ldm_encoder_json(tensors),
        "conditioning_channels": there[0][1],
        "conditioning_embedding_out_channels": [there[0][0], *(shape[0] for shape in there[2:-1:2])],
    }


def _way_down(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    return tuple(rule for rule in rules if not rule.ours.startswith(("up.", "norm_out", "conv_out")))
