"""The components of a checkpoint: which there are, what each is built from, and their folders.

unet/config.json          what the network's class is built from
unet/model.safetensors    its parameters

save_module(unet, "checkpoint/unet", config.to_json(), dtype=jnp.bfloat16)
unet = load_module(UNet, UNetConfig, "checkpoint/unet")
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flax import nnx
from jax.typing import DTypeLike

from gp_jax.checkpoint.adapters import Adapter, beside, merged, ranks
from gp_jax.checkpoint.parameters import Module, Place, abstract, flatten, load_into
from gp_jax.checkpoint.settings import M3DDMSettings, MOTIASettings, Settings
from gp_jax.checkpoint.tensors import Tensors, read_tensors, write_tensors
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.errors import UserError
from gp_jax.files import write_json
from gp_jax.json_config import read_config
from gp_jax.models.autoencoder import AutoencoderConfig, AutoencoderKL
from gp_jax.models.clip import TextConfig, TextTower, VisionConfig, VisionTower
from gp_jax.models.controlnet import ControlNet, ControlNetConfig
from gp_jax.models.global_tokens import GlobalTokens, GlobalTokensConfig
from gp_jax.models.low_rank import with_low_rank
from gp_jax.models.m3ddm.config import M3DDMConfig
from gp_jax.models.m3ddm.network import M3DDM
from gp_jax.models.unet import UNet, UNetConfig

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

# By the name of their folder in a checkpoint: the network's class, and its config's.
COMPONENTS: dict[str, tuple[type[nnx.Module], type]] = {
    "unet": (UNet, UNetConfig),
    "interpolation_unet": (UNet, UNetConfig),
    "vae": (AutoencoderKL, AutoencoderConfig),
    "global_tokens": (GlobalTokens, GlobalTokensConfig),
    "clip": (VisionTower, VisionConfig),
    "text": (TextTower, TextConfig),
    "m3ddm": (M3DDM, M3DDMConfig),
    "controlnet": (ControlNet, ControlNetConfig),
}
# Denoisers, and the method of whose checkpoints each is a part.
DENOISERS = {"unet": "globalpaint", "interpolation_unet": "globalpaint", "m3ddm": "m3ddm"}
# Denoisers of other methods that a method runs too, in a form of its own.
_BORROWED = {"motia": ("unet",)}
# The autoencoder in whose latents M3DDM was trained: Stable Diffusion 1's.
_M3DDM_SCALING = 0.18215


def save_module(
    module: nnx.Module, folder: str | os.PathLike, config: Mapping[str, Any], dtype: DTypeLike | None = None
) -> None:
    """Writes `config.json` and `model.safetensors`; a reader sees the old files or the new ones, never half a file.

    Args:
      module: the network; its arrays may lie on any mesh of this process.
      folder: made where it does not exist.
      config: what the network was built from.
      dtype: of the floating-point parameters in the file; None keeps theirs.
    """
    write_tensors(Path(folder, WEIGHTS_FILE), flatten(module), dtype)
    write_json(Path(folder, CONFIG_FILE), config)


def load_module(
    cls: type[Module],
    config_cls: type,
    folder: str | os.PathLike,
    *,
    param_dtype: DTypeLike | None = None,
    place: Place | None = None,
    adapter: Adapter = MappingProxyType({}),
    fuse: bool = True,
    **options: Any,
) -> Module:
    """Builds the network that `save_module` wrote.

    Args:
      cls: the network's class, called as `cls(config, rngs=..., **options)`.
      config_cls: a class with `from_json`.
      folder: of the component.
      param_dtype: of the parameters; None keeps the file's.
      place: parameters by name -> their shardings, such as `functools.partial(parameter_shardings, mesh=mesh)`.
      adapter: what is added to some kernels.
      fuse: whether it is merged into them, or stays beside them (models/low_rank.py).
      **options: such as `dtype`, in which the network computes.

    Raises:
      UserError: a file is missing or broken, or does not fit the network.
    """
    config, path = read_config(config_cls.from_json, Path(folder, CONFIG_FILE)), Path(folder, WEIGHTS_FILE)
    tensors: Tensors = read_tensors(path)
    build: Any = cls
    if adapter and fuse:
        tensors = merged(tensors, adapter)
    elif adapter:
        tensors, build, options = (
            beside(tensors, adapter),
            with_low_rank,
            {"build": cls, "ranks": ranks(adapter), **options},
        )
    module = abstract(build, config, **options)
    load_into(module, tensors, param_dtype=param_dtype, place=place, source=str(path))
    return module


def read_configs(folder: Path) -> dict[str, Any]:
    """The configs of the components that a checkpoint folder has, by their names."""
    there = [part for part in COMPONENTS if (folder / part).is_dir()]
    return {part: read_config(COMPONENTS[part][1].from_json, folder / part / CONFIG_FILE) for part in there}


def check_fit(
    where: Path,
    configs: Mapping[str, Any],
    settings: Settings | M3DDMSettings | MOTIASettings | None = None,
    schedule: NoiseSchedule | None = None,
) -> None:
    """Raises UserError where parts of a checkpoint do not go together; those that are not there yet go with all.

    Args:
      where: the checkpoint, for the message.
      configs: by component.
      settings, schedule: of the checkpoint.
    """
    for name, method in DENOISERS.items():
        if settings is None or name not in configs or name in _BORROWED.get(settings.method, ()):
            continue
        if settings.method != method:
            raise UserError(
                f"{where} is a checkpoint of {settings.method}, and {name}/ belongs to {method}: "
                "convert it into a folder of its own"
            )
    vae, text, vision, extractor = (configs.get(name) for name in ("vae", "text", "clip", "global_tokens"))
    unets = {name: configs[name] for name in ("unet", "interpolation_unet") if name in configs}
    for name, unet in unets.items():
        width = unet.cross_attention_dim
        channels = unet.out_channels if vae is None else vae.latent_channels
        if channels != unet.out_channels:
            raise UserError(
                f"{where / name} makes latents of {unet.out_channels} channels, and vae/ has {channels}: "
                "they are of different models"
            )
        if unet.in_channels != 2 * channels + 1 and not isinstance(settings, MOTIASettings):
            raise UserError(
                f"{where / name} has {unet.in_channels} input channels where inpainting has {2 * channels + 1}: "
                "use the inpainting variant of this model"
            )
        if isinstance(settings, Settings) and unet.motion_modules and settings.segment_frames > unet.motion_positions:
            raise UserError(
                f"{where}: segment_frames is {settings.segment_frames}, and the motion modules of {name}/ know "
                f"{unet.motion_positions} places (motion_positions)"
            )
        others = {
            "unet": unets.get("unet", unet).cross_attention_dim,
            "text": text.hidden_size if text else width,
            "global_tokens": extractor.output_width if extractor and unet.global_tokens else width,
        }
        for other, size in others.items():
            if size != width:
                raise UserError(
                    f"{where / name} attends to vectors of {width} channels, and {other}/ is made for {size}: "
                    "they are of different models"
                )
    if vision and extractor and extractor.feature_width != vision.hidden_size:
        raise UserError(
            f"{where / 'global_tokens'} reads features of {extractor.feature_width} channels, and clip/ makes "
            f"{vision.hidden_size}: they are of different models"
        )
    if "controlnet" in configs and "unet" in configs:
        _check_controlnet(where, configs["controlnet"], configs["unet"])
    if "m3ddm" in configs:
        _check_m3ddm(where, configs["m3ddm"], vae, schedule)
    if isinstance(settings, MOTIASettings):
        _check_motia(where, configs, schedule)
    elif settings and schedule:
        schedule.positions(settings.steps)


def _check_controlnet(where: Path, controlnet: ControlNetConfig, unet: UNetConfig) -> None:
    """Raises UserError where the residuals of a ControlNet have no place in a UNet, or it reads other text."""
    for key in ("block_out_channels", "layers_per_block", "cross_attention_dim"):
        if (there := getattr(controlnet, key)) != (own := getattr(unet, key)):
            raise UserError(
                f"{where}: controlnet/ has {key}={there}, and unet/ has {own}: they are of different models"
            )


def _check_motia(where: Path, configs: Mapping[str, Any], schedule: NoiseSchedule | None) -> None:
    """Raises UserError where networks of MOTIA are not what `gp-jax convert` makes of its folder."""
    unet, controlnet, vae = (configs.get(name) for name in ("unet", "controlnet", "vae"))
    if unet and (unet.in_channels != unet.out_channels or unet.temporal or not unet.motion_modules):
        raise UserError(
            f"{where}: MOTIA's unet/ is a plain Stable Diffusion with motion modules and nothing else: "
            "convert its published folder again"
        )
    if controlnet and vae and controlnet.shrinks != vae.downsampling:
        raise UserError(
            f"{where}: controlnet/ makes {controlnet.shrinks} pixels one, and vae/ {vae.downsampling}: "
            "they are of different models"
        )
    if schedule and (schedule.prediction_type != "epsilon" or schedule.shared_noise):
        raise UserError(
            f"{where}: MOTIA predicts noise, and scheduler/ is for networks that predict {schedule.prediction_type}"
        )


def _check_m3ddm(
    where: Path, network: M3DDMConfig, vae: AutoencoderConfig | None, schedule: NoiseSchedule | None
) -> None:
    """Raises UserError where M3DDM's denoiser would be given latents or noise that it was not trained with."""
    if vae and (vae.latent_channels, vae.scaling_factor) != (network.out_channels, _M3DDM_SCALING):
        raise UserError(
            f"{where}: M3DDM works on {network.out_channels} latent channels scaled by {_M3DDM_SCALING}, and vae/ has "
            f"{vae.latent_channels} scaled by {vae.scaling_factor}: give the autoencoder of Stable Diffusion 1.5"
        )
    if schedule and (schedule.prediction_type != "epsilon" or schedule.shared_noise):
        raise UserError(
            f"{where}: M3DDM predicts noise, and scheduler/ is for networks that predict {schedule.prediction_type}: "
            "give the one of Stable Diffusion 1.5"
        )
