"""AutoencoderKL as diffusers and as the original Stable Diffusion files (LDM) spell it.

diffusers writes the middle attention as `to_q`, in its older versions as `query`; LDM keeps 1x1 convolutions `q`, and
numbers the levels of the decoder from the finest, against the order in which they run.
"""

from collections.abc import Mapping
from typing import Any

from gp_jax.convert.rules import CONV, LINEAR, NORM, POINTWISE, Rule, Rules, nest
from gp_jax.models.autoencoder import AutoencoderConfig

_DIFFUSERS_RESIDUAL = (
    Rule("norm1", "norm1", NORM),
    Rule("conv1", "conv1", CONV),
    Rule("norm2", "norm2", NORM),
    Rule("conv2", "conv2", CONV),
    Rule("conv_shortcut", "shortcut", CONV),
)
_DIFFUSERS_MIDDLE = (
    *nest("resnets.{i}", "residual.{i}", _DIFFUSERS_RESIDUAL),
    Rule("attentions.0.group_norm", "norm", NORM),
    Rule("attentions.0.to_q", "query", LINEAR),
    Rule("attentions.0.to_k", "key", LINEAR),
    Rule("attentions.0.to_v", "value", LINEAR),
    Rule("attentions.0.to_out.0", "output", LINEAR),
)
_DIFFUSERS: Rules = (
    *(
        rule
        for part in ("encoder", "decoder")
        for rule in (
            Rule(f"{part}.conv_in", f"{part}.conv_in", CONV),
            *nest(f"{part}.mid_block", f"{part}.middle", _DIFFUSERS_MIDDLE),
            Rule(f"{part}.conv_norm_out", f"{part}.norm_out", NORM),
            Rule(f"{part}.conv_out", f"{part}.conv_out", CONV),
        )
    ),
    *nest("encoder.down_blocks.{i}.resnets.{j}", "encoder.down.{i}.residual.{j}", _DIFFUSERS_RESIDUAL),
    Rule("encoder.down_blocks.{i}.downsamplers.0.conv", "encoder.down.{i}.downsample", CONV),
    *nest("decoder.up_blocks.{i}.resnets.{j}", "decoder.up.{i}.residual.{j}", _DIFFUSERS_RESIDUAL),
    Rule("decoder.up_blocks.{i}.upsamplers.0.conv", "decoder.up.{i}.upsample.convolution", CONV),
    Rule("quant_conv", "to_moments", CONV),
    Rule("post_quant_conv", "from_latents", CONV),
)
DIFFUSERS_ALIASES = (
    (r"(mid_block\.attentions\.0)\.query\.", r"\1.to_q."),
    (r"(mid_block\.attentions\.0)\.key\.", r"\1.to_k."),
    (r"(mid_block\.attentions\.0)\.value\.", r"\1.to_v."),
    (r"(mid_block\.attentions\.0)\.proj_attn\.", r"\1.to_out.0."),
)

_LDM_RESIDUAL = (*_DIFFUSERS_RESIDUAL[:-1], Rule("nin_shortcut", "shortcut", CONV))
_LDM_MIDDLE = (
    *nest("block_1", "residual.0", _LDM_RESIDUAL),
    *nest("block_2", "residual.1", _LDM_RESIDUAL),
    Rule("attn_1.norm", "norm", NORM),
    Rule("attn_1.q", "query", POINTWISE),
    Rule("attn_1.k", "key", POINTWISE),
    Rule("attn_1.v", "value", POINTWISE),
    Rule("attn_1.proj_out", "output", POINTWISE),
)


def diffusers_rules(config: AutoencoderConfig) -> Rules:
    """The same table for all sizes."""
    return _DIFFUSERS


def ldm_rules(config: AutoencoderConfig) -> Rules:
    """The table depends on the number of levels, because the decoder counts them backwards."""
    rules = []
    for part in ("encoder", "decoder"):
        rules += [
            Rule(f"{part}.conv_in", f"{part}.conv_in", CONV),
            *nest(f"{part}.mid", f"{part}.middle", _LDM_MIDDLE),
            Rule(f"{part}.norm_out", f"{part}.norm_out", NORM),
            Rule(f"{part}.conv_out", f"{part}.conv_out", CONV),
        ]
    rules += nest("encoder.down.{i}.block.{j}", "encoder.down.{i}.residual.{j}", _LDM_RESIDUAL)
    rules.append(Rule("encoder.down.{i}.downsample.conv", "encoder.down.{i}.downsample", CONV))
    for level in range(len(config.block_out_channels)):
        theirs, ours = f"decoder.up.{len(config.block_out_channels) - 1 - level}", f"decoder.up.{level}"
        rules += nest(f"{theirs}.block.{{j}}", f"{ours}.residual.{{j}}", _LDM_RESIDUAL)
        rules.append(Rule(f"{theirs}.upsample.conv", f"{ours}.upsample.convolution", CONV))
    return (*rules, Rule("quant_conv", "to_moments", CONV), Rule("post_quant_conv", "from_latents", CONV))


def ldm_json(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The config of an LDM autoencoder, from its shapes."""
    shape = {name: tensor.shape for name, tensor in tensors.items()}
    widths = []
    while (name := f"encoder.down.{len(widths)}.block.0.conv1.weight") in shape:
        widths.append(shape[name][0])
    layers = 0
    while f"encoder.down.0.block.{layers}.conv1.weight" in shape:
        layers += 1
    return {
        "in_channels": shape["encoder.conv_in.weight"][1],
        "out_channels": shape["decoder.conv_out.weight"][0],
        "latent_channels": shape["post_quant_conv.weight"][0],
        "block_out_channels": widths,
        "layers_per_block": layers,
    }
