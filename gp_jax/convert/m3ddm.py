"""M3DDM's denoiser as its published `diffusion_pytorch_model.bin` spells it.

It has `config.json` beside it. Checkpoints of M3DDM+'s training (Lightning) hold the same tensors behind `model.unet.`,
and no config: what shapes do not tell is then the published model's.
"""

from collections.abc import Mapping
from typing import Any

from gp_jax.convert.rules import CONV, LINEAR, NORM, POINTWISE, Leaf, Rule, Rules, nest

_BIAS = Leaf("bias", "bias")
# [O, I, 1, h, w], a convolution within frames; [O, I, 3], one over frames; [O, I, 1, 1, 1], a linear layer.
_WITHIN = (
    Leaf("weight", "kernel", lambda x: x[:, :, 0].transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)[:, :, None]),
    _BIAS,
)
_OVER = (Leaf("weight", "kernel", lambda x: x.transpose(2, 1, 0), lambda x: x.transpose(2, 1, 0)), _BIAS)
_POINT = (Leaf("weight", "kernel", lambda x: x[:, :, 0, 0, 0].T, lambda x: x.T[:, :, None, None, None]), _BIAS)
_BATCH_NORM = (
    *NORM,
    Leaf("running_mean", "mean"),
    Leaf("running_var", "variance"),
    Leaf("num_batches_tracked", "steps"),
)

_P3D = (Rule("spatial_conv", "spatial", CONV), Rule("temporal_conv", "temporal", _OVER))
_RESIDUAL = (
    Rule("norm1", "norm1", NORM),
    *nest("conv1", "conv1", _P3D),
    Rule("time_emb_proj", "time", LINEAR),
    Rule("fps_emb_proj", "rate", LINEAR),
    Rule("norm2", "norm2", NORM),
    *nest("conv2", "conv2", _P3D),
    Rule("conv_shortcut", "shortcut", _WITHIN),
)
_ATTENTION = (
    Rule("to_q", "query", LINEAR),
    Rule("to_k", "key", LINEAR),
    Rule("to_v", "value", LINEAR),
    Rule("to_out.0", "output", LINEAR),
)
_FEED_FORWARD = (
    Rule("ff.net.0.proj", "feed_forward.expand", LINEAR),
    Rule("ff.net.2", "feed_forward.contract", LINEAR),
)
_SPATIAL = (
    Rule("norm", "norm", NORM),
    Rule("proj_in", "project_in", POINTWISE),
    Rule("transformer_blocks.0.norm{k}", "norm{k}", NORM),
    *nest("transformer_blocks.0.attn1", "self_attention", _ATTENTION),
    *nest("transformer_blocks.0.attn2", "cross_attention", _ATTENTION),
    *nest("transformer_blocks.0", "", _FEED_FORWARD),
    Rule("proj_out", "project_out", POINTWISE),
)
_TEMPORAL = (
    Rule("norm2", "norm", NORM),
    Rule("proj_in2", "project_in", _POINT),
    Rule("temporal_position_embed_proj.linear_1", "place_embedding.linear1", LINEAR),
    Rule("temporal_position_embed_proj.linear_2", "place_embedding.linear2", LINEAR),
    Rule("transformer_blocks2.0.norm1", "norms.0", NORM),
    Rule("transformer_blocks2.0.norm2", "norms.1", NORM),
    Rule("transformer_blocks2.0.norm3", "norms.2", NORM),
    *nest("transformer_blocks2.0.attn1", "attention.0", _ATTENTION),
    *nest("transformer_blocks2.0.attn2", "attention.1", _ATTENTION),
    *nest("transformer_blocks2.0", "", _FEED_FORWARD),
    Rule("proj_out2", "project_out", _POINT),
)
_TRANSFORMER = (*nest("", "spatial", _SPATIAL), *nest("", "temporal", _TEMPORAL))
_NORMALIZED = (Rule("convolution", "convolution", CONV), Rule("normalization", "norm", _BATCH_NORM))

RULES: Rules = (
    Rule("conv_in", "conv_in", _WITHIN),
    Rule("time_embedding.linear_1", "time_embedding.linear1", LINEAR),
    Rule("time_embedding.linear_2", "time_embedding.linear2", LINEAR),
    Rule("fps_embedding.linear_1", "rate_embedding.linear1", LINEAR),
    Rule("fps_embedding.linear_2", "rate_embedding.linear2", LINEAR),
    *nest("down_blocks.{i}.resnets.{j}", "down.{i}.residual.{j}", _RESIDUAL),
    *nest("down_blocks.{i}.attentions.{j}", "down.{i}.transformer.{j}", _TRANSFORMER),
    Rule("down_blocks.{i}.downsamplers.0.conv", "down.{i}.downsample", _WITHIN),
    *nest("mid_block.resnets.{j}", "middle.residual.{j}", _RESIDUAL),
    *nest("mid_block.attentions.0", "middle.transformer", _TRANSFORMER),
    *nest("up_blocks.{i}.resnets.{j}", "up.{i}.residual.{j}", _RESIDUAL),
    *nest("up_blocks.{i}.attentions.{j}", "up.{i}.transformer.{j}", _TRANSFORMER),
    Rule("up_blocks.{i}.upsamplers.0.conv", "up.{i}.upsample.convolution", _WITHIN),
    Rule("conv_norm_out", "norm_out", NORM),
    *nest("conv_out", "conv_out", _P3D),
    *nest(
        "global_img_encoder.resnet_layer.{i}.layers.{j}.layer.{k}",
        "global_encoder.stages.{i}.{j}.layers.{k}",
        _NORMALIZED,
    ),
    *nest(
        "global_img_encoder.resnet_layer.{i}.layers.{j}.shortcut", "global_encoder.stages.{i}.{j}.shortcut", _NORMALIZED
    ),
    Rule("global_img_encoder.convolution", "global_encoder.convolution", CONV),
)


def published_json(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The config, from the shapes: of its fields, those that leave a trace in them."""
    shape = {name: tensor.shape for name, tensor in tensors.items()}
    widths, layers = [], 0
    while (name := f"down_blocks.{len(widths)}.resnets.0.conv1.spatial_conv.weight") in shape:
        widths.append(shape[name][0])
    while f"down_blocks.0.resnets.{layers}.norm1.weight" in shape:
        layers += 1
    return {
        "block_out_channels": widths,
        "layers_per_block": layers,
        "cross_attention_dim": shape["global_img_encoder.convolution.weight"][0],
    }
