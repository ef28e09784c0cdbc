"""CLIP's towers as transformers and as open_clip spell them.

transformers writes `text_model.encoder.layers.0.self_attn.q_proj.weight`; a bare tower saved by its version 5 leaves
`text_model.` out. open_clip writes `transformer.resblocks.0.attn.in_proj_weight`, query, key and value in one, and puts
`visual.` before the vision tower; the text tower has no prefix in most models, `text.` in some.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from gp_jax.convert.rules import ARRAY, CONV, EMBEDDING, LINEAR, MATRIX, NORM, PACKED_ATTENTION, Rule, Rules, nest
from gp_jax.errors import UserError
from gp_jax.json_config import Foreign, one_for_all, read_fields, short, within
from gp_jax.models.clip import MEAN, STD, TextConfig, VisionConfig

_LAYER = (
    Rule("layer_norm1", "norm1", NORM),
    Rule("self_attn.q_proj", "query", LINEAR),
    Rule("self_attn.k_proj", "key", LINEAR),
    Rule("self_attn.v_proj", "value", LINEAR),
    Rule("self_attn.out_proj", "output", LINEAR),
    Rule("layer_norm2", "norm2", NORM),
    Rule("mlp.fc1", "expand", LINEAR),
    Rule("mlp.fc2", "contract", LINEAR),
)
TRANSFORMERS_VISION: Rules = (
    Rule("vision_model.embeddings.class_embedding", "class_embedding", ARRAY),
    Rule("vision_model.embeddings.position_embedding.weight", "position_embedding", ARRAY),
    Rule("vision_model.embeddings.patch_embedding", "patch_embedding", CONV),
    Rule("vision_model.pre_layrnorm", "pre_norm", NORM),
    *nest("vision_model.encoder.layers.{i}", "layers.{i}", _LAYER),
    Rule("vision_model.post_layernorm", "final_norm", NORM),
    Rule("visual_projection", "projection", LINEAR),
)
TRANSFORMERS_TEXT: Rules = (
    Rule("text_model.embeddings.token_embedding", "token_embedding", EMBEDDING),
    Rule("text_model.embeddings.position_embedding.weight", "position_embedding", ARRAY),
    *nest("text_model.encoder.layers.{i}", "layers.{i}", _LAYER),
    Rule("text_model.final_layer_norm", "final_norm", NORM),
    Rule("text_projection", "projection", LINEAR),
)

_RESBLOCK = (
    Rule("ln_1", "norm1", NORM),
    Rule("attn", "", PACKED_ATTENTION),
    Rule("attn.out_proj", "output", LINEAR),
    Rule("ln_2", "norm2", NORM),
    Rule("mlp.c_fc", "expand", LINEAR),
    Rule("mlp.c_proj", "contract", LINEAR),
)
OPEN_CLIP_VISION: Rules = (
    Rule("visual.class_embedding", "class_embedding", ARRAY),
    Rule("visual.positional_embedding", "position_embedding", ARRAY),
    Rule("visual.conv1", "patch_embedding", CONV),
    Rule("visual.ln_pre", "pre_norm", NORM),
    *nest("visual.transformer.resblocks.{i}", "layers.{i}", _RESBLOCK),
    Rule("visual.ln_post", "final_norm", NORM),
    Rule("visual.proj", "projection", MATRIX),
)
OPEN_CLIP_TEXT: Rules = (
    Rule("token_embedding", "token_embedding", EMBEDDING),
    Rule("positional_embedding", "position_embedding", ARRAY),
    *nest("transformer.resblocks.{i}", "layers.{i}", _RESBLOCK),
    Rule("ln_final", "final_norm", NORM),
    Rule("text_projection", "projection", MATRIX),
)


# Of both towers in open_clip: other blocks than those of CLIP.
_OPEN_CLIP_FIXED = {
    "act_kwargs": (None, {}),
    "block_type": (None,),
    "final_ln_after_pool": (False,),
    "ls_init_value": (None,),
    "norm_kwargs": (None, {}),
    "qk_norm": (False,),
    "scale_attn": (False,),
    "scale_attn_inner": (False,),
    "scale_fc": (False,),
    "scale_heads": (False,),
    "scaled_cosine_attn": (False,),
}
OPEN_CLIP_MODEL = Foreign(
    fixed={"multimodal_cfg": (None,)},
    ignored=(
        *("cast_dtype", "custom_text", "init_logit_bias", "init_logit_scale", "nonscalar_logit_scale", "output_dict"),
        *("text_cfg", "vision_cfg"),
    ),
)
OPEN_CLIP_VISION_CFG = Foreign(
    fixed={
        **_OPEN_CLIP_FIXED,
        "attentional_pool": (False,),
        "no_ln_pre": (False,),
        "pool_type": ("tok",),
        "pos_embed_type": ("learnable",),
        "timm_model_name": (None,),
    },
    ignored=(
        *("attn_pooler_heads", "attn_pooler_queries", "output_tokens", "patch_dropout"),
        *("timm_drop", "timm_drop_path", "timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias"),
    ),
)
OPEN_CLIP_TEXT_CFG = Foreign(
    fixed={
        **_OPEN_CLIP_FIXED,
        "embed_cls": (False,),
        "hf_model_name": (None,),
        "hf_tokenizer_name": (None,),
        "no_causal_mask": (False,),
        "pool_type": ("argmax",),
        "proj_bias": (False,),
        "proj_type": ("linear",),
        "tokenizer_kwargs": (None, {}),
        "tokenizer_mode": (None,),
    },
    ignored=("eos_id", "hf_model_pretrained", "hf_pooler_type", "hf_proj_type", "output_tokens", "pad_id"),
)


@dataclasses.dataclass(frozen=True)
class OpenClipModel:
    """What the `model_cfg` of an `open_clip_config.json` says of both towers."""

    embed_dim: int = within(dataclasses.MISSING, 1, 8192)
    quick_gelu: bool = False


@dataclasses.dataclass(frozen=True)
class OpenClipVision:
    """`CLIPVisionCfg` of open_clip, with its defaults."""

    layers: int = within(12, 1, 128)
    width: int = within(768, 1, 8192)
    head_width: int = within(64, 1, 8192)
    mlp_ratio: float = within(4.0, 0.01, 100)
    patch_size: int = within(16, 1, 1024)
    image_size: int = within(224, 1, 1024)


@dataclasses.dataclass(frozen=True)
class OpenClipText:
    """`CLIPTextCfg` of open_clip, with its defaults."""

    context_length: int = within(77, 1, 4096)
    vocab_size: int = within(49408, 1, 2**20)
    width: int = within(512, 1, 8192)
    heads: int = within(8, 1, 1024)
    layers: int = within(12, 1, 128)
    mlp_ratio: float = within(4.0, 0.01, 100)


def open_clip_jsons(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Our configs of both towers from an `open_clip_config.json`; UserError on another architecture."""
    model, preprocess = config.get("model_cfg") or {}, config.get("preprocess_cfg") or {}
    parts: list[Any] = [model.get(key) for key in ("vision_cfg", "text_cfg")] if isinstance(model, Mapping) else []
    if not parts or not all(isinstance(part, Mapping) for part in (*parts, preprocess)):
        raise UserError("open_clip config: it has no model_cfg with vision_cfg and text_cfg")
    for key, ours in (("mean", MEAN), ("std", STD)):
        if preprocess.get(key) not in (None, list(ours)):
            raise UserError(f"open_clip config: {key}={short(preprocess[key])} is not supported, only {list(ours)}")
    sizes = {key: one_for_all(parts[0][key], 2) for key in ("image_size", "patch_size") if key in parts[0]}
    whole = read_fields(OpenClipModel, model, OPEN_CLIP_MODEL, "open_clip config")
    vision = read_fields(OpenClipVision, {**parts[0], **sizes}, OPEN_CLIP_VISION_CFG, "open_clip vision_cfg")
    text = read_fields(OpenClipText, parts[1], OPEN_CLIP_TEXT_CFG, "open_clip text_cfg")
    return {
        "clip": {
            **_tower_json(whole, vision, max(1, vision.width // vision.head_width)),
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
        },
        "text": {
            **_tower_json(whole, text, text.heads),
            "vocab_size": text.vocab_size,
            "max_position_embeddings": text.context_length,
            "eos_token_id": text.vocab_size - 1,
        },
    }


def without_skipped(config: TextConfig) -> TextConfig:
    """The tower whose skipped layers, and the projection behind them, are cut off: what diffusers makes of it."""
    if not config.skip_layers:
        return config
    kept = config.num_hidden_layers - config.skip_layers
    return dataclasses.replace(config, num_hidden_layers=kept, skip_layers=0, projection_dim=None)


def with_end_token(config: TextConfig) -> TextConfig:
    """The same tower, which says where its vocabulary ends also where its config is an old one and says 2."""
    return dataclasses.replace(config, eos_token_id=config.vocab_size - 1) if config.eos_token_id == 2 else config


def transformers_text_json(config: TextConfig) -> dict[str, Any]:
    """The config of a transformers text tower."""
    return {key: value for key, value in without_skipped(config).to_json().items() if key != "skip_layers"}


def ldm_text_json(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The text tower of Stable Diffusion 1 single files, from its shapes: OpenAI's CLIP, heads of 64 channels."""
    vocabulary, width = tensors["text_model.embeddings.token_embedding.weight"].shape
    return {
        **_ldm_text(tensors, vocabulary, width, r"text_model\.encoder\.layers\.(\d+)\.mlp\.fc1\.weight"),
        "max_position_embeddings": tensors["text_model.embeddings.position_embedding.weight"].shape[0],
        "hidden_act": "quick_gelu",
        "projection_dim": None,
    }


def ldm_open_clip_text_json(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The text tower of Stable Diffusion 2 single files: OpenCLIP's, of whose layers the last is not used."""
    vocabulary, width = tensors["token_embedding.weight"].shape
    projection = tensors.get("text_projection")
    return {
        **_ldm_text(tensors, vocabulary, width, r"transformer\.resblocks\.(\d+)\.mlp\.c_fc\.weight"),
        "max_position_embeddings": tensors["positional_embedding"].shape[0],
        "hidden_act": "gelu",
        "projection_dim": None if projection is None else projection.shape[1],
        "skip_layers": 1,
    }


def open_clip_json(vision: VisionConfig | None, text: TextConfig | None) -> dict[str, Any]:
    """The `open_clip_config.json` of two towers; raises UserError where one is missing, for open_clip has no halves."""
    if vision is None or text is None or vision.projection_dim is None or vision.projection_dim != text.projection_dim:
        raise UserError(
            "open_clip needs a vision and a text tower (clip/ and text/) with projections of the same width"
        )
    return {
        "model_cfg": {
            "embed_dim": vision.projection_dim,
            "quick_gelu": vision.hidden_act == "quick_gelu",
            "vision_cfg": {
                "image_size": vision.image_size,
                "layers": vision.num_hidden_layers,
                "width": vision.hidden_size,
                "head_width": vision.hidden_size // vision.num_attention_heads,
                "patch_size": vision.patch_size,
                "mlp_ratio": _mlp_ratio(vision),
            },
            "text_cfg": {
                "context_length": text.max_position_embeddings,
                "vocab_size": text.vocab_size,
                "width": text.hidden_size,
                "heads": text.num_attention_heads,
                "layers": text.num_hidden_layers,
                "mlp_ratio": _mlp_ratio(text),
            },
        }
    }


def _ldm_text(tensors: Mapping[str, Any], vocabulary: int, width: int, layer: str) -> dict[str, Any]:
    hidden = {
        int(match[1]): tensor.shape[0] for name, tensor in tensors.items() if (match := re.fullmatch(layer, name))
    }
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": hidden[0],
        "num_hidden_layers": len(hidden),
        "num_attention_heads": width // 64,
        "eos_token_id": vocabulary - 1,
    }


def _tower_json(model: OpenClipModel, tower: OpenClipVision | OpenClipText, heads: int) -> dict[str, Any]:
    return {
        "hidden_size": tower.width,
        "intermediate_size": int(tower.width * tower.mlp_ratio),
        "num_hidden_layers": tower.layers,
        "num_attention_heads": heads,
        "hidden_act": "quick_gelu" if model.quick_gelu else "gelu",
        "projection_dim": model.embed_dim,
    }


def _mlp_ratio(tower: VisionConfig | TextConfig) -> float:
    """So that open_clip's `int(width * ratio)` is our width, whatever the rounding."""
    whole, rest = divmod(tower.intermediate_size, tower.hidden_size)
    return (tower.intermediate_size + 0.25) / tower.hidden_size if rest else float(whole)
