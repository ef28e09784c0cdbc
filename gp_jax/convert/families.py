"""Families of models that are no part of this one, told in a sentence instead of a list of tensors.

The first line that matches any tensor's name wins; more special families stand first.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gp_jax.errors import UserError
from gp_jax.json_config import short

_SD = "Stable Diffusion 1 or 2 is needed"
_ROOT = r"(model\.diffusion_model\.|transformer\.|model\.)?"
_FAMILIES = (
    (r".*(lora_[AB]|lora_(down|up)|lora\.(down|up)|_lora\.|lora_linear|hada_w|lokr_w|lora_mid|dora_scale)\b.*"
     r"|lora_(unet|te\d?|transformer)_.*", "a LoRA, which changes a model and is none: outpaint takes it by --lora"),
    (r"controlnet_(blocks|x_embedder|single_blocks|mode_embedder)\..*", f"a ControlNet of a transformer; {_SD}"),
    (r"(image_proj|ip_adapter)\..*", "an IP-Adapter, which extends a model and is none"),
    (r"adapter\.body\..*|body\.\d+\.in_conv\..*", "a T2I-Adapter, which steers a model and is none"),
    (r"string_to_param.*|emb_params|clip_[lg]|<.*>", "a textual inversion, which is a word and no model"),
    (r".*\.(time_stack|time_mixer|temporal_transformer_blocks|spatial_res_block)\..*",
     f"Stable Video Diffusion or alike, another video model; {_SD}"),
    (r".*\.(temp_convs|temp_attentions)\..*|transformer_in\..*", f"a text-to-video UNet, another video model; {_SD}"),
    (rf"{_ROOT}(joint_blocks|transformer_blocks\.\d+\.attn\.add_[qk]_proj)\..*",
     f"Stable Diffusion 3 or Flux, a transformer; {_SD}"),
    (rf"{_ROOT}(double_blocks|single_blocks|double_stream_blocks|single_transformer_blocks)\..*",
     f"Flux or alike, a transformer; {_SD}"),
    (rf"{_ROOT}blocks\.\d+\.(self_attn|cross_attn|attn1|attn|ffn)\..*", f"a diffusion transformer; {_SD}"),
    (rf"{_ROOT}transformer_blocks\.\d+\.(attn1|attn|ff|norm1|scale_shift_table)\b.*|{_ROOT}adaln_single\..*",
     f"a diffusion transformer; {_SD}"),
    (r"conditioner\.embedders\..*|(.*\.)?(add_embedding|label_emb)\..*",
     f"SDXL, or another model with more conditions than text; {_SD}"),
    (r"(prior|down)\.0\.\d+\.effnet.*|effnet_mapper\..*|clip_txt_mapper\..*", f"Stable Cascade; {_SD}"),
    (r"encoder\.block\.\d+\.layer\..*|(.*\.)?(SelfAttention|EncDecAttention)\..*", "a T5 language model"),
    (r"model\.layers\.\d+\..*|(.*\.)?(lm_head|bert|roberta)\..*", "a language model"),
    (r"(.*\.)?taesd_.*|(encoder|decoder)\.layers\.\d+\.conv\..*", "a tiny autoencoder; the full one is needed"),
)  # fmt: skip
_COMPILED = [(re.compile(pattern), family) for pattern, family in _FAMILIES]


def refuse_strangers(path: Path, names: Collection[str]) -> None:
    """Raises UserError where tensors of these names belong to another family of models."""
    for pattern, family in _COMPILED:
        if found := next(filter(pattern.fullmatch, names), None):
            raise UserError(f"{path} is {family} (it holds {short(found)})")


def refuse_pipeline(path: Path, classes: Mapping[str, Any]) -> None:
    """Raises UserError where the components of a diffusers folder, name to class, are of another family."""
    if not classes:
        raise UserError(f"{path / 'model_index.json'} names no component; fetch the model again")
    if "text_encoder_2" in classes or "transformer" in classes:
        raise UserError(f"{path} is a model of two text encoders or a transformer, as SDXL, SD3 and Flux are; {_SD}")
    for name, known in _KNOWN.items():
        if (kind := classes.get(name)) is not None and kind not in known:
            raise UserError(f"{path / name} is of the class {short(kind)}, which is not supported, only {known[0]}")


_KNOWN = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel", "CLIPTextModelWithProjection"),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
