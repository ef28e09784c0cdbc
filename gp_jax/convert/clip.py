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
from gp_jax.models.clip import TextConfig, VisionConfig

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


def open_clip_vision_json(model: Mapping[str, Any]) -> dict[str, Any]:
    """Our vision config from the `model_cfg` of an `open_clip_config.json`; UserError on another architecture."""
    vision = _only(model["vision_cfg"], {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"})
    width = vision["width"]
    return {
        **_tower_json(model, vision, width // vision.get("head_width", 64)),
        "image_size": vision["image_size"],
        "patch_size": vision["patch_size"],
    }


def open_clip_text_json(model: Mapping[str, Any]) -> dict[str, Any]:
    """Our text config from the same."""
    text = _only(model["text_cfg"], {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"})
    vocabulary = text.get("vocab_size", 49408)
    return {
        **_tower_json(model, text, text["heads"]),
        "vocab_size": vocabulary,
        "max_position_embeddings": text.get("context_length", 77),
        "eos_token_id": vocabulary - 1,
    }


def transformers_text_json(config: TextConfig) -> dict[str, Any]:
    """The config of a transformers text tower, where skipped layers, and the projection behind them, are cut off."""
    if config.skip_layers:
        kept = config.num_hidden_layers - config.skip_layers
        config = dataclasses.replace(config, num_hidden_layers=kept, skip_layers=0, projection_dim=None)
    return {key: value for key, value in config.to_json().items() if key != "skip_layers"}


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


def _tower_json(model: Mapping[str, Any], tower: Mapping[str, Any], heads: int) -> dict[str, Any]:
    return {
        "hidden_size": tower["width"],
        "intermediate_size": int(tower["width"] * tower.get("mlp_ratio", 4.0)),
        "num_hidden_layers": tower["layers"],
        "num_attention_heads": heads,
        "hidden_act": "quick_gelu" if model.get("quick_gelu") else "gelu",
        "projection_dim": model["embed_dim"],
    }


def _mlp_ratio(tower: VisionConfig | TextConfig) -> float:
    """So that open_clip's `int(width * ratio)` is our width, whatever the rounding."""
    whole, rest = divmod(tower.intermediate_size, tower.hidden_size)
    return (tower.intermediate_size + 0.25) / tower.hidden_size if rest else float(whole)


def _only(tower: Mapping[str, Any], known: set[str]) -> Mapping[str, Any]:
    """Every key that is not known may mean another network (attention pooling, another trunk, ...)."""
    if unknown := sorted(key for key in tower.keys() - known if tower[key]):
        raise UserError(f"open_clip config: {unknown[0]}={tower[unknown[0]]!r} is not supported")
    return tower
