"""A small MOTIA as it is published, its weights random throughout."""

from pathlib import Path

import diffusers
import torch

from gp_jax.convert import convert
from gp_jax.files import read_json, write_json
from tests.convert import references
from tests.convert.references import randomised
from tests.convert.test_motion import adapter, original

UNET = references.UNETS["sd1-plain"] | {"layers_per_block": 1, "sample_size": 4}
_SHARED = {key: value for key, value in UNET.items() if key not in ("up_block_types", "sample_size", "in_channels")}


def networks():
    """UNet, ControlNet and motion modules, as diffusers has them."""
    steering = diffusers.ControlNetModel(**_SHARED, conditioning_embedding_out_channels=(8, 16, 24))
    return randomised(diffusers.UNet2DConditionModel(**UNET)), randomised(steering), adapter(True, unet=UNET)


def write_published(folder: Path) -> Path:
    """The published folder; Stable Diffusion's scheduler is another one than MOTIA's."""
    unet, steering, motion = networks()
    words = references.tokenizer(folder.with_name(f"{folder.name}-words"))
    diffusers.StableDiffusionPipeline(
        vae=references.vae(),
        text_encoder=references.text_tower(tokens=len(words)),
        tokenizer=words,
        unet=unet,
        scheduler=diffusers.PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "sd_blocks")
    steering.save_pretrained(folder / "inpaint_blocks")
    (folder / "temporal_blocks").mkdir()
    torch.save(original(motion.state_dict()), folder / "temporal_blocks" / "mm_sd_v15_v2.ckpt")
    return folder


def write(folder: Path, **settings) -> Path:
    """A checkpoint folder; `settings` replace those that conversion writes."""
    convert(write_published(folder.with_name("published-motia")), folder)
    write_json(folder / "config.json", read_json(folder / "config.json") | settings)
    return folder
