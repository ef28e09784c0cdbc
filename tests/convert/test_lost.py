"""Written in another format and read back, a network is the same, or it is refused by the name of what would be lost.

Every field of every config is changed in its turn.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.components import COMPONENTS
from gp_jax.convert import clip, to_foreign
from gp_jax.convert.formats import FORMATS
from gp_jax.convert.sources import Part
from gp_jax.convert.translate import Network, translate
from gp_jax.convert.writers import write_animatediff, write_open_clip
from gp_jax.errors import UserError
from gp_jax.models.autoencoder import AutoencoderConfig
from gp_jax.models.clip import TextConfig, VisionConfig
from gp_jax.models.unet import UNetConfig

IMAGE = {"temporal": False, "window": None, "global_tokens": False}
SD2 = UNetConfig(
    block_out_channels=(64, 128),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    attention_head_dim=(1, 2),
    cross_attention_dim=16,
    **IMAGE,
)
VAE = AutoencoderConfig(block_out_channels=(32, 64), layers_per_block=1)
VISION = VisionConfig(32, 64, 2, 4, image_size=28, patch_size=14, hidden_act="gelu", projection_dim=8)
TEXT = TextConfig(50, 64, 96, 2, 1, 9, projection_dim=None, eos_token_id=49)
UNET_CHANGES = {
    "in_channels": 4,
    "out_channels": 3,
    "block_out_channels": (64, 192),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 2,
    "attention_head_dim": (2, 4),
    "cross_attention_dim": 24,
    "use_linear_projection": False,
    "norm_num_groups": 16,
    "norm_eps": 1e-6,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "masked_fill": "edge",
    "carried": '{"dropout": 0.1, "sample_size": [64, 96], "upcast_attention": true}',
}
VAE_CHANGES = {
    "in_channels": 1,
    "out_channels": 4,
    "block_out_channels": (32, 96),
    "layers_per_block": 2,
    "latent_channels": 8,
    "norm_num_groups": 16,
    "scaling_factor": 0.13025,
    "patch_size": 2,
    "linear_latents": True,
    "carried": '{"force_upcast": false, "sample_size": 512}',
}
TEXT_CHANGES = {
    "vocab_size": 60,
    "hidden_size": 128,
    "intermediate_size": 100,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 11,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "projection_dim": 8,
    "eos_token_id": 7,
    "skip_layers": 1,
    "carried": '{"bos_token_id": 48, "pad_token_id": 0}',
}
VISION_CHANGES = {
    "hidden_size": 64,
    "intermediate_size": 70,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 42,
    "patch_size": 7,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-6,
    "projection_dim": 12,
    "carried": '{"initializer_range": 0.5}',
}
# What a change takes along: a single file takes heads, and where words end, from the widths.
ALONG = {
    "use_linear_projection": "attention_head_dim",
    "block_out_channels": "attention_head_dim",
    "down_block_types": "up_block_types",
    "hidden_size": "num_attention_heads",
    "vocab_size": "eos_token_id",
}
NETWORKS = {
    "unet": (SD2, UNET_CHANGES),
    "vae": (VAE, VAE_CHANGES),
    "text": (TEXT, TEXT_CHANGES),
    "clip": (VISION, VISION_CHANGES),
}
CASES = [
    (format, component, field)
    for format, components in {"diffusers": NETWORKS, "ldm": ("unet", "vae", "text"), "open_clip": ("clip",)}.items()
    for component in components
    for field in NETWORKS[component][1]
]


def changed(component, field):
    config, changes = NETWORKS[component]
    return dataclasses.replace(config, **{field: changes[field]})


def network(component, config):
    shapes = parameters.shapes(COMPONENTS[component][0], config)
    return {name: np.zeros(shape.shape, np.float16) for name, shape in shapes.items()}


def there_and_back(format, component, config):
    """The config that is read from what `config` is written as."""
    spelling = FORMATS[format][component]
    json, tensors, _ = to_foreign(component, config, network(component, config), format)
    part = Part(component, spelling, spelling.infer(tensors) if spelling.infer else json, tensors, Path("x/y"))
    read = translate(part).config
    return dataclasses.replace(read, **IMAGE) if component == "unet" else read


def test_every_field_is_changed():
    video = {"temporal", "window", "global_tokens", "est_multiplier", "norm_joint"}
    for config, changes in NETWORKS.values():
        fields = {field.name for field in dataclasses.fields(config)} - {"num_channels"}  # which can't be changed
        assert {name for name in fields - video if not name.startswith("motion_")} == changes.keys()


@pytest.mark.parametrize("component", NETWORKS)
def test_what_is_common_is_kept(component):
    config, _ = NETWORKS[component]
    for format in ("diffusers", "ldm"):
        if component in FORMATS[format]:
            assert there_and_back(format, component, config) == config


@pytest.mark.parametrize("format, component, field", CASES)
def test_nothing_is_lost_in_silence(format, component, field):
    config = changed(component, field)
    try:
        read = there_and_back(format, component, config)
    except UserError as error:
        assert ALONG.get(field, field) in str(error), error
        assert format != "diffusers" or field in ("masked_fill", "patch_size", "linear_latents")
        return
    if field == "skip_layers":  # diffusers' folders have them cut off
        config = clip.without_skipped(config)
    if format != "diffusers" and field == "carried":  # what only matters to others
        read = dataclasses.replace(read, carried=config.carried)
    assert read == config


@pytest.mark.parametrize("change", [{"layer_norm_eps": 1e-6}, {"eos_token_id": 3}, {"skip_layers": 1}], ids=str)
def test_open_clip_has_one_text_tower(tmp_path, change):
    config = dataclasses.replace(TEXT, hidden_act="gelu", projection_dim=8)
    towers = [Network("clip", VISION, network("clip", VISION), {})]
    text = Network("text", config, network("text", config), {})
    write_open_clip(tmp_path / "good", [*towers, text])
    config = dataclasses.replace(config, **change)
    with pytest.raises(UserError, match=next(iter(change))):
        write_open_clip(tmp_path / "bad", [*towers, dataclasses.replace(text, config=config)])
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize(
    "change",
    [{"motion_heads": 4}, {"motion_groups": 16}, {"motion_frame_norm": False}],
    ids=str,
)
def test_files_of_animatediff_are_of_one_kind(tmp_path, change):
    published = {"motion_modules": True, "motion_frame_norm": True, "temporal": True}
    config = dataclasses.replace(SD2, **published)
    write_animatediff(tmp_path / "good.safetensors", [Network("unet", config, network("unet", config), {})])
    config = dataclasses.replace(config, **change)
    with pytest.raises(UserError, match=next(iter(change))):
        write_animatediff(tmp_path / "bad.safetensors", [Network("unet", config, network("unet", config), {})])
