"""Which formats there are, and how each is told from the tensors it holds.

`FORMATS[name][component]` says how a component is spelled in a format. `PIECES` recognises them: a file may hold
several, such as the UNet, the autoencoder and the text tower of a single-file Stable Diffusion. A new format is a table
of rules, an entry in FORMATS and a line in PIECES.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gp_jax.checkpoint.components import COMPONENTS
from gp_jax.convert import autoencoder, clip, controlnet, m3ddm, motion, unet
from gp_jax.convert.rules import ARRAY, Rule, Rules
from gp_jax.models.autoencoder import AutoencoderConfig
from gp_jax.models.controlnet import ControlNetConfig
from gp_jax.models.unet import UNetConfig


@dataclasses.dataclass(frozen=True)
class Format:
    """How one component is spelled in one format."""

    rules: Callable[[Any], Rules]
    """The table, for a config of ours."""
    config: Callable[[Any], dict[str, Any]] = lambda config: config.to_json()
    """The format's own config, for a config of ours."""
    infer: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    """The config from the tensors, where the format comes without one."""
    granted: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of ours that the format does not know, with the only value that it can stand for."""
    describable: Callable[[Any], Any] = lambda config: config
    """What of a config of ours the format is meant to keep; the rest is left out, and reported."""
    aliases: tuple[tuple[str, str], ...] = ()
    """Other spellings, for `rules.rename`."""
    buffers: Callable[[Any, Mapping[str, Any]], dict[str, Any]] = lambda config, tensors: {}
    """Tensors of the format that our network computes, for a config of ours and the format's other tensors."""


def _same(rules: Rules) -> Callable[[Any], Rules]:
    return lambda config: rules


# Of the modules that make a video network of an image network, which no other format has.
_MOTION = ("motion_modules", "motion_positions", "motion_everywhere", *motion.PUBLISHED)
_VIDEO = ("temporal", "window", "global_tokens", "est_multiplier", "norm_joint", *_MOTION)
_UNET_GRANTED = {"masked_fill": "grey"}
_VAE_GRANTED = {"patch_size": 1, "linear_latents": False}


def _image_network(config: UNetConfig) -> UNetConfig:
    defaults = {field.name: field.default for field in dataclasses.fields(UNetConfig)}
    plain = {key: defaults[key] for key in _VIDEO} | {"temporal": False, "window": None, "global_tokens": False}
    return dataclasses.replace(config, **plain)


def _diffusers_unet_json(config: UNetConfig) -> dict[str, Any]:
    ours = (*_VIDEO, *_UNET_GRANTED)
    return {key: value for key, value in config.to_json().items() if key not in ours}


def _frame_by_frame(config: ControlNetConfig) -> ControlNetConfig:
    return dataclasses.replace(config, norm_joint=False)


def _diffusers_controlnet_json(config: ControlNetConfig) -> dict[str, Any]:
    return {key: value for key, value in config.to_json().items() if key != "norm_joint"}


def _diffusers_vae_json(config: AutoencoderConfig) -> dict[str, Any]:
    return {key: value for key, value in config.to_json().items() if key not in _VAE_GRANTED}


def _motion_modules(config: UNetConfig) -> dict[str, Any]:
    """What AnimateDiff's files, which come without a config, are taken for."""
    return {**config.to_json(), **motion.PUBLISHED}


_TRANSFORMERS_CLIP = Format(
    _same(clip.TRANSFORMERS_VISION),
    aliases=((r"^(?=(embeddings|encoder|pre_layrnorm|post_layernorm)\.)", "vision_model."),),
)
_TRANSFORMERS_TEXT = Format(
    _same(clip.TRANSFORMERS_TEXT),
    config=clip.transformers_text_json,
    describable=clip.without_skipped,
    aliases=((r"^(?=(embeddings|encoder|final_layer_norm)\.)", "text_model."),),
)
FORMATS: dict[str, dict[str, Format]] = {
    "gp_jax": dict.fromkeys(COMPONENTS, Format(_same((Rule("{path}", "{path}", ARRAY),)))),
    "diffusers": {
        "unet": Format(
            unet.diffusers_rules, config=_diffusers_unet_json, granted=_UNET_GRANTED, describable=_image_network
        ),
        "vae": Format(
            autoencoder.diffusers_rules,
            config=_diffusers_vae_json,
            granted=_VAE_GRANTED,
            aliases=autoencoder.DIFFUSERS_ALIASES,
        ),
        "controlnet": Format(
            controlnet.diffusers_rules, config=_diffusers_controlnet_json, describable=_frame_by_frame
        ),
        "clip": _TRANSFORMERS_CLIP,
        "text": _TRANSFORMERS_TEXT,
    },
    "ldm": {
        "unet": Format(unet.ldm_rules, infer=unet.ldm_json, granted=_UNET_GRANTED, describable=_image_network),
        "controlnet": Format(controlnet.ldm_rules, infer=controlnet.ldm_json, describable=_frame_by_frame),
        "vae": Format(autoencoder.ldm_rules, infer=autoencoder.ldm_json, granted=_VAE_GRANTED),
        "text": Format(_same(clip.TRANSFORMERS_TEXT), infer=clip.ldm_text_json, describable=clip.with_end_token),
    },
    # Stable Diffusion 2's single files, which differ in the text tower alone.
    "ldm_open_clip": {
        "text": Format(_same(clip.OPEN_CLIP_TEXT), infer=clip.ldm_open_clip_text_json, describable=clip.with_end_token)
    },
    "animatediff": {"unet": Format(_same(motion.RULES), config=_motion_modules, buffers=motion.position_encodings)},
    "m3ddm": {"m3ddm": Format(_same(m3ddm.RULES))},
    "m3ddm_lightning": {"m3ddm": Format(_same(m3ddm.RULES), infer=m3ddm.published_json)},
    "open_clip": {
        "clip": Format(_same(clip.OPEN_CLIP_VISION)),
        "text": Format(_same(clip.OPEN_CLIP_TEXT), describable=clip.with_end_token, aliases=((r"^text\.", ""),)),
    },
}


class Piece(NamedTuple):
    """A component within a file: there when a name matches `sign`; it owns what matches `owns`, by its group."""

    format: str
    component: str
    sign: str
    owns: str


PIECES = (
    Piece("ldm", "unet", r"model\.diffusion_model\.input_blocks\.0\.0\.weight", r"model\.diffusion_model\.(.+)"),
    Piece("ldm", "vae", r"first_stage_model\.encoder\.conv_in\.weight", r"first_stage_model\.(.+)"),
    Piece("ldm", "vae", r"encoder\.mid\.block_1\.conv1\.weight", r"(.+)"),
    Piece("ldm", "text", r"cond_stage_model\.transformer\.text_model\..+", r"cond_stage_model\.transformer\.(.+)"),
    Piece("ldm_open_clip", "text", r"cond_stage_model\.model\.ln_final\.weight", r"cond_stage_model\.model\.(.+)"),
    Piece(
        "ldm",
        "controlnet",
        r"(control_model\.)?input_hint_block\.0\.weight",
        r"(?:control_model\.)?((?:input_blocks|time_embed|zero_convs|input_hint_block|middle_block(?:_out)?)\..+)",
    ),
    # M3DDM's and ControlNet's before diffusers' UNet, whose names are among their own.
    Piece("m3ddm_lightning", "m3ddm", r"model\.unet\.fps_embedding\.linear_1\.weight", r"model\.unet\.(.+)"),
    Piece("m3ddm", "m3ddm", r"fps_embedding\.linear_1\.weight", r"(.+)"),
    Piece("diffusers", "controlnet", r"controlnet_cond_embedding\.conv_in\.weight", r"(.+)"),
    Piece("diffusers", "unet", r"down_blocks\.0\.resnets\.0\.time_emb_proj\.weight", r"(.+)"),
    Piece("diffusers", "vae", r"encoder\.mid_block\.resnets\.0\.conv1\.weight", r"(.+)"),
    Piece(
        "diffusers", "clip", r"vision_model\.embeddings\.class_embedding", r"((?:vision_model|visual_projection)\..+)"
    ),
    Piece("diffusers", "clip", r"embeddings\.class_embedding", r"(.+)"),
    Piece("diffusers", "text", r"text_model\.embeddings\.token_embedding\.weight", r"(text_(?:model|projection)\..+)"),
    Piece("diffusers", "text", r"embeddings\.token_embedding\.weight", r"(.+)"),
    Piece("open_clip", "clip", r"visual\.class_embedding", r"(visual\..+)"),
    Piece(
        "open_clip",
        "text",
        r"(text\.)?token_embedding\.weight",
        r"((?:text\.)?(?:token_embedding|positional_embedding|transformer|ln_final|text_projection)(?:\..+)?)",
    ),
    Piece("gp_jax", "controlnet", r"picture\.conv_in\.kernel", r"(.+)"),
    Piece("gp_jax", "unet", r"down\.0\.residual\.0\.spatial\.conv1\.kernel", r"(.+)"),
    Piece("gp_jax", "m3ddm", r"down\.0\.residual\.0\.conv1\.spatial\.kernel", r"(.+)"),
    Piece("gp_jax", "vae", r"from_latents\.kernel", r"(.+)"),
    Piece("gp_jax", "clip", r"class_embedding", r"(.+)"),
    Piece("gp_jax", "text", r"token_embedding\.embedding", r"(.+)"),
    Piece("gp_jax", "global_tokens", r"queries", r"(.+)"),
)

# Tensors that no network of ours has a use for, by their whole name; a report lists them as ignored.
IGNORED = re.compile(
    r"(.+\.)?(position_ids|logit_scale|attn_mask)"
    r"|model_ema\..+"  # the trainer's average; `model.` is what inference uses
    r"|(betas|alphas_cumprod(_prev)?|sqrt_.+|log_one_minus_.+|posterior_.+|logvar|lvlb_weights|scale_factor)"
    r"|(first_stage_model\.)?loss\..+"  # the autoencoder's discriminator
    r"|global_step"
)
