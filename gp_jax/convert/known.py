"""The networks that this package is built around, as configs: what `gp-jax convert --describe` counts without any file.

    stable-diffusion-2-inpainting   the default: OpenCLIP ViT-H/14 for text (its penultimate layer) and for features
    stable-diffusion-inpainting     version 1.5: OpenAI's CLIP ViT-L/14 for both
    control_v11p_sd15_inpaint       the ControlNet that makes version 1.5 an inpainting model
    m3ddm                           M3DDM, in the latents of Stable Diffusion 1.5
    motia                           MOTIA: Stable Diffusion 1.5, that ControlNet and mm_sd_v15_v2

Sources: the `config.json` files of these models' diffusers folders.
"""

import dataclasses
from pathlib import Path
from typing import Any

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.components import COMPONENTS, CONFIG_FILE
from gp_jax.convert.formats import FORMATS
from gp_jax.convert.motion import PUBLISHED
from gp_jax.convert.report import Report
from gp_jax.convert.rules import covered
from gp_jax.convert.translate import Network, extractor
from gp_jax.json_config import read_config
from gp_jax.models.autoencoder import AutoencoderConfig
from gp_jax.models.clip import TextConfig, VisionConfig
from gp_jax.models.controlnet import ControlNetConfig
from gp_jax.models.m3ddm.config import M3DDMConfig
from gp_jax.models.unet import UNetConfig

_VIT_H = VisionConfig(
    hidden_size=1280,
    intermediate_size=5120,
    num_hidden_layers=32,
    num_attention_heads=16,
    patch_size=14,
    hidden_act="gelu",
    projection_dim=1024,
)
_VIT_L = VisionConfig(
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=24,
    num_attention_heads=16,
    patch_size=14,
    projection_dim=768,
)
_SD1_TEXT = TextConfig(49408, 768, 3072, 12, 12, projection_dim=None)
_SD1_UNET = UNetConfig(attention_head_dim=8, cross_attention_dim=768, use_linear_projection=False)

KNOWN: dict[str, dict[str, Any]] = {
    "stable-diffusion-2-inpainting": {
        "unet": UNetConfig(),
        "vae": AutoencoderConfig(),
        "text": TextConfig(49408, 1024, 4096, 23, 16, hidden_act="gelu", projection_dim=None),
        "clip": _VIT_H,
        "global_tokens": extractor(UNetConfig(), _VIT_H),
    },
    "stable-diffusion-inpainting": {
        "unet": _SD1_UNET,
        "vae": AutoencoderConfig(),
        "text": _SD1_TEXT,
        "clip": _VIT_L,
        "global_tokens": extractor(_SD1_UNET, _VIT_L),
    },
    "control_v11p_sd15_inpaint": {"controlnet": ControlNetConfig()},
    "m3ddm": {"m3ddm": M3DDMConfig(), "vae": AutoencoderConfig()},
    "motia": {
        "unet": dataclasses.replace(
            _SD1_UNET,
            in_channels=4,
            temporal=False,
            window=None,
            global_tokens=False,
            norm_joint=True,
            motion_modules=True,
            motion_everywhere=True,
            **PUBLISHED,
        ),
        "controlnet": ControlNetConfig(norm_joint=True),
        "vae": AutoencoderConfig(),
        "text": _SD1_TEXT,
    },
}


def describe_known() -> list[Report]:
    """Parameters of each known model and of each checkpoint of this package: of its image model, and what is new."""
    shipped = Path(__file__).parent.parent / "checkpoints"
    models = KNOWN | {
        folder.name: {
            name: read_config(config_cls.from_json, folder / name / CONFIG_FILE)
            for name, (_, config_cls) in COMPONENTS.items()
            if (folder / name / CONFIG_FILE).is_file()
        }
        for folder in sorted(file.parent for file in shipped.glob(f"*/{CONFIG_FILE}"))
    }
    return [
        Report.of(name, [_network(component, config) for component, config in configs.items()])
        for name, configs in models.items()
    ]


def _network(component: str, config: Any) -> Network:
    cls, _ = COMPONENTS[component]
    shapes = parameters.shapes(cls, config)
    format = (FORMATS["diffusers"] | FORMATS["m3ddm"]).get(component.removeprefix("interpolation_"))
    known = covered(format.rules(config), shapes) if format else set()
    return Network(
        component,
        config,
        {name: shape for name, shape in shapes.items() if name in known},
        {name: shape for name, shape in shapes.items() if name not in known},
    )
