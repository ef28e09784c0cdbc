"""Every option of the other libraries' classes is known here: read, refused by name, or of no matter.

Their signatures are asked, so that a new release with a new option fails here and not in somebody's picture.
"""

import dataclasses
import inspect

import diffusers
import open_clip
import pytest
import transformers

from gp_jax.convert import clip as open_clip_configs
from gp_jax.convert.motion import MOTION_ADAPTER, Adapter
from gp_jax.diffusion.schedules import SCHEDULER, SCHEDULERS, NoiseSchedule
from gp_jax.errors import UserError
from gp_jax.json_config import read_fields
from gp_jax.models import autoencoder, clip, unet_config


def options(cls):
    """Names and defaults of what a class is built from."""
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return {parameter.name: parameter.default for parameter in parameters}


def read_unet(config):
    return unet_config.UNetConfig.from_json(config)


BLOCKS = ("down_block_types", "up_block_types")
VAE = dataclasses.replace(autoencoder.AUTOENCODER_KL, ignored=(*autoencoder.AUTOENCODER_KL.ignored, *BLOCKS))
NO_DEFAULT = (inspect.Parameter.empty, dataclasses.MISSING)
# Of each config: the class that writes it, ours, what is known of it, and how it is read.
CONFIGS = {
    "unet": (diffusers.UNet2DConditionModel, unet_config.UNetConfig, unet_config.UNET_2D_CONDITION, read_unet),
    "vae": (diffusers.AutoencoderKL, autoencoder.AutoencoderConfig, VAE, autoencoder.AutoencoderConfig.from_json),
    "vision": (transformers.CLIPVisionConfig, clip.VisionConfig, clip.CLIP_VISION, clip.VisionConfig.from_json),
    "text": (transformers.CLIPTextConfig, clip.TextConfig, clip.CLIP_TEXT, clip.TextConfig.from_json),
    "motion": (
        diffusers.MotionAdapter,
        Adapter,
        MOTION_ADAPTER,
        lambda config: read_fields(Adapter, config, MOTION_ADAPTER, "adapter"),
    ),
    "open_clip vision": (
        open_clip.CLIPVisionCfg,
        open_clip_configs.OpenClipVision,
        open_clip_configs.OPEN_CLIP_VISION_CFG,
        lambda config: read_fields(
            open_clip_configs.OpenClipVision, config, open_clip_configs.OPEN_CLIP_VISION_CFG, "vision"
        ),
    ),
    "open_clip text": (
        open_clip.CLIPTextCfg,
        open_clip_configs.OpenClipText,
        open_clip_configs.OPEN_CLIP_TEXT_CFG,
        lambda config: read_fields(
            open_clip_configs.OpenClipText, config, open_clip_configs.OPEN_CLIP_TEXT_CFG, "text"
        ),
    ),
    "open_clip": (
        open_clip.CLIP,
        open_clip_configs.OpenClipModel,
        open_clip_configs.OPEN_CLIP_MODEL,
        lambda config: read_fields(
            open_clip_configs.OpenClipModel, {"embed_dim": 8, **config}, open_clip_configs.OPEN_CLIP_MODEL, "model"
        ),
    ),
    **{name: (getattr(diffusers, name), NoiseSchedule, SCHEDULER, NoiseSchedule.from_config) for name in SCHEDULERS},
}
FIXED = [(name, key) for name, (cls, _, known, _) in CONFIGS.items() for key in known.fixed if key in options(cls)]
# What stands beside a class' name so that its defaults can be read: DDIM and DDPM clip unless they are told not to.
NAMED = {name: {"_class_name": name, "clip_sample": False} for name in SCHEDULERS} | {
    name: {"_class_name": CONFIGS[name][0].__name__} for name in ("unet", "vae", "motion")
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_option_is_known(name):
    cls, ours, known, _ = CONFIGS[name]
    fields = {field.name for field in dataclasses.fields(ours)}
    unknown = options(cls).keys() - fields - known.fixed.keys() - set(known.ignored) - set(clip.COMMENTS)
    assert not unknown


@pytest.mark.parametrize("name", CONFIGS)
def test_missing_keys_have_the_defaults_of_their_class(name):
    cls, ours, known, read = CONFIGS[name]
    config = read(NAMED.get(name, {}))
    for key, value in options(cls).items():
        if key in {field.name for field in dataclasses.fields(ours)} and value not in NO_DEFAULT:
            assert getattr(config, key) == value, key
        elif key in known.fixed and not (name in SCHEDULERS and key == "clip_sample"):
            assert value in known.fixed[key], key


@pytest.mark.parametrize("name, key", FIXED, ids=str)
def test_options_that_would_change_the_result_are_refused_by_name(name, key):
    read = CONFIGS[name][3]
    for value in ("something", 7, True, [1, 2], {"a": 1}):
        if value not in CONFIGS[name][2].fixed[key]:
            with pytest.raises(UserError, match=key):
                read({**NAMED.get(name, {}), key: value})


@pytest.mark.parametrize("name", CONFIGS)
def test_options_of_no_matter_are_read_whatever_they_say(name):
    cls, _, known, read = CONFIGS[name]
    plain = read(NAMED.get(name, {}))
    for key in set(known.ignored) & options(cls).keys() - {*BLOCKS, "text_cfg", "vision_cfg"}:
        changed = read({**NAMED.get(name, {}), key: 3})
        assert {**dataclasses.asdict(changed), "carried": ""} == {**dataclasses.asdict(plain), "carried": ""}
