"""Opens a checkpoint, whatever it is, and says which components it holds.

    opened = open_source("stable-diffusion-2-inpainting/")
    [part.component for part in opened.parts]       # ["unet", "vae", "text"]

Folders are told by the file that describes them, weight files by the names of their tensors (formats.PIECES).
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gp_jax.checkpoint import reading_state
from gp_jax.checkpoint.components import COMPONENTS, CONFIG_FILE
from gp_jax.checkpoint.folder import SCHEDULER_FILE, SHIPPED
from gp_jax.checkpoint.settings import read_settings
from gp_jax.checkpoint.tensors import LazyTensor, listed
from gp_jax.convert import clip
from gp_jax.convert.families import refuse_pipeline, refuse_strangers
from gp_jax.convert.files import find_weights, open_weights
from gp_jax.convert.formats import FORMATS, IGNORED, PIECES, Format
from gp_jax.convert.rules import rename
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.errors import UserError
from gp_jax.files import read_json
from gp_jax.json_config import check_class, naming

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Part:
    """One network in a source, still in its own words."""

    component: str
    format: Format
    config: Json
    tensors: dict[str, LazyTensor]
    path: Path


@dataclasses.dataclass(frozen=True)
class Source:
    """What a path holds: networks, the scheduler's config, a tokenizer's folder, and what is left out."""

    format: str
    parts: list[Part]
    ignored: tuple[str, ...] = ()
    scheduler: Json | None = None
    tokenizer: Path | None = None
    config: Json | None = None
    """The `config.json` of a checkpoint of ours."""
    motion: Path | None = None
    """The motion modules in MOTIA's folder."""
    lost: Path | None = None
    """The checkpoint that training started from, which has the other networks, where it is not there any more."""

    def part(self, component: str) -> Part | None:
        """The network of that name, if it is there."""
        return next((part for part in self.parts if part.component == component), None)


def open_source(path: str | Path, *, averaged: bool = True) -> Source:
    """Recognises a file or folder by its content; raises UserError where it is nothing that is known here.

    A name that is neither may be that of a checkpoint in this package. Of a training state the moving average is taken,
    unless `averaged` is False.
    """
    path = Path(path)
    if not os.path.exists(path) and os.path.isdir(SHIPPED / path):
        path = SHIPPED / path
    if os.path.isfile(path):
        return _weights(path, None)
    if not os.path.isdir(path):
        raise UserError(f"{path} is neither a file nor a folder" if os.path.exists(path) else f"{path} does not exist")
    if state := reading_state.find_state(path):
        return _training_state(state, averaged)
    if not averaged:
        raise UserError(f"{path} is no training state, so it has no raw weights beside averaged ones")
    if any((path / name).is_dir() for name in MOTIA_FOLDERS):
        return _motia(path)
    for name, opener in _FOLDERS.items():
        if os.path.isfile(path / name):
            return opener(path, read_json(path / name))
    raise UserError(f"{path} is no checkpoint: it holds none of {', '.join(_FOLDERS)}, and no training state")


def _diffusers_pipeline(path: Path, index: Json) -> Source:
    """A diffusers folder: `model_index.json` gives (library, class) of each subfolder."""
    classes = {name: value[1] for name, value in index.items() if isinstance(value, list) and len(value) == 2}
    refuse_pipeline(path, {name: kind for name, kind in classes.items() if kind is not None})
    opened, ignored = [], []
    for name, class_name in classes.items():
        if class_name in _NETWORK_CLASSES and Path(name).name == name:
            opened.append(open_source(path / name))
        elif name not in ("tokenizer", "scheduler") and class_name is not None:
            ignored.append(f"{name}/ ({class_name})")
    parts = [part for source in opened for part in source.parts]
    components = [part.component for part in parts]
    if twice := [name for name in components if components.count(name) > 1]:
        raise UserError(f"{path} has more than one {twice[0]}, so it is of another family of models")
    return Source(
        "diffusers folder",
        parts,
        tuple(ignored) + tuple(name for source in opened for name in source.ignored),
        scheduler=_scheduler(path / SCHEDULER_FILE) if classes.get("scheduler") else None,
        tokenizer=path / "tokenizer" if classes.get("tokenizer") else None,
    )


def _motia(path: Path) -> Source:
    """MOTIA's folder: Stable Diffusion 1.5, an inpainting ControlNet, AnimateDiff's motion modules."""
    for name in MOTIA_FOLDERS:
        if not (path / name).is_dir():
            raise UserError(f"{path} is MOTIA's folder, and has no {name}/: fetch it whole")
    diffusion, steering, motion = (path / name for name in MOTIA_FOLDERS)
    opened, control = open_source(diffusion), open_source(steering).part("controlnet")
    if control is None:
        raise UserError(f"{steering} holds no ControlNet: fetch MOTIA's folder again")
    if lost := [name for name in ("unet", "vae", "text") if not opened.part(name)]:
        raise UserError(f"{diffusion} has no {lost[0]}: a whole Stable Diffusion 1.5 belongs there")
    files = sorted(file for file in motion.iterdir() if file.suffix in (".ckpt", ".safetensors"))
    if len(files) != 1:
        raise UserError(f"{motion} holds {len(files)} files of motion modules; one belongs there, mm_sd_v15_v2.ckpt")
    parts = [*opened.parts, control]
    return dataclasses.replace(opened, format="MOTIA's folder", parts=parts, motion=files[0])


def with_autoencoder(source: Source, path: str | Path) -> Source:
    """The same source with the autoencoder of another one, and its noise schedule where there was none.

    Args:
      source: one without an autoencoder.
      path: an autoencoder, or a diffusers folder of which `vae/` and `scheduler/` may be all there is.

    Raises:
      UserError: there are two autoencoders or none.
    """
    path = Path(path)
    if source.part("vae"):
        raise UserError(f"the source has an autoencoder of its own: leave {path} out")
    alone, scheduler = path / "vae", path / SCHEDULER_FILE
    other = open_source(alone if alone.is_dir() else path)
    if not (part := other.part("vae")):
        raise UserError(f"{path} holds no autoencoder: give the folder of a Stable Diffusion, or its vae/")
    found = _scheduler(scheduler) if scheduler.is_file() else other.scheduler
    return dataclasses.replace(source, parts=[*source.parts, part], scheduler=source.scheduler or found)


def _open_clip(path: Path, config: Json) -> Source:
    with naming(path / "open_clip_config.json"):
        configs = clip.open_clip_jsons(config)
    return _weights(find_weights(path), configs)


def _folder(path: Path, config: Json) -> Source:
    """A single component, or a checkpoint of ours with one folder for each."""
    folders = [path / name for name in COMPONENTS if os.path.isfile(path / name / CONFIG_FILE)]
    if not folders:
        check_class(config, _CLASSES, str(path / CONFIG_FILE))
        return _weights(find_weights(path), dict.fromkeys(COMPONENTS, config))
    with naming(path / CONFIG_FILE):
        read_settings(config)
    opened = [open_source(folder) for folder in folders]
    parts = [
        dataclasses.replace(part, component=folder.name)
        for folder, source in zip(folders, opened)
        for part in source.parts
    ]
    scheduler, tokenizer = path / SCHEDULER_FILE, path / "tokenizer"
    return Source(
        "gp_jax checkpoint",
        parts,
        tuple(name for source in opened for name in source.ignored),
        scheduler=_scheduler(scheduler) if scheduler.is_file() else None,
        tokenizer=tokenizer if tokenizer.is_dir() else None,
        config=config,
    )


def _scheduler(path: Path) -> Json:
    """A scheduler's config, from which sampling can be done here."""
    config = read_json(path)
    with naming(path):
        NoiseSchedule.from_config(config)
    return config


def _training_state(folder: Path, averaged: bool) -> Source:
    """What was trained, and beside it what of the checkpoint that training started from is of use still."""
    meta = reading_state.read_meta(folder)
    if meta.get("adapter"):
        raise UserError(
            f"{folder} is the state of a LoRA: the checkpoint that its training writes holds it in lora/, and merged"
        )
    parts = [
        Part(component, FORMATS["gp_jax"][component], meta["networks"][component], tensors, folder)
        for component, tensors in reading_state.read_networks(folder, averaged=averaged).items()
    ]
    origin, ignored, tokenizer = Path(meta["init_from"]) if meta["init_from"] else None, (), None
    if origin and origin.is_dir():
        first, superseded = open_source(origin), {*meta["networks"], *meta["discards"]}
        parts += [part for part in first.parts if part.component not in superseded]
        ignored, tokenizer = first.ignored, None if "tokenizer" in superseded else first.tokenizer
        origin = None
    return Source(
        f"training state of step {folder.name}",
        parts,
        ignored,
        scheduler=meta["scheduler"],
        tokenizer=tokenizer,
        config=meta["settings"],
        lost=origin,
    )


MOTIA_FOLDERS = "sd_blocks", "inpaint_blocks", "temporal_blocks"
_FOLDERS = {"model_index.json": _diffusers_pipeline, "open_clip_config.json": _open_clip, "config.json": _folder}
_CLASSES = ("UNet2DConditionModel", "UNet3DConditionModel", "AutoencoderKL", "GlobalTokens", "ControlNetModel")
_NETWORK_CLASSES = (
    "UNet2DConditionModel",
    "AutoencoderKL",
    "ControlNetModel",
    "CLIPTextModel",
    "CLIPTextModelWithProjection",
    "CLIPVisionModel",
    "CLIPVisionModelWithProjection",
)


def _weights(path: Path, configs: Mapping[str, Json] | None) -> Source:
    """The components in a weight file; `configs` by component, None where they are to be told from the shapes."""
    tensors, parts, formats = open_weights(path), [], []
    refuse_strangers(path, tensors)
    for piece in PIECES:
        if not any(re.fullmatch(piece.sign, name) for name in tensors):
            continue
        owned = {name: match[1] for name in tensors if (match := re.fullmatch(piece.owns, name))}
        own = {short: tensors.pop(name) for name, short in owned.items() if not IGNORED.fullmatch(short)}
        format = FORMATS[piece.format][piece.component]
        with naming(path):
            own = rename(format.aliases, own)
        if configs is None and format.infer is None:
            raise UserError(
                f"{path} needs its config: give the folder that has it, with config.json or open_clip_config.json"
            )
        config = _infer(format, own, path) if configs is None else configs[piece.component]
        parts.append(Part(piece.component, format, config, own, path))
        formats.append(piece.format)
    if any("motion_modules." in name for name in tensors):
        raise UserError(
            f"{path} holds motion modules, which extend a network: gp-jax convert NETWORK DEST --motion {path}"
        )
    if not parts:
        raise UserError(
            f"{path} is of no known format; its tensors begin with {', '.join([*tensors][:3]) or 'nothing'}"
        )
    if unknown := sorted(name for name in tensors if not IGNORED.fullmatch(name)):
        raise UserError(f"{path} holds tensors that belong to nothing known:\n  {listed(unknown)}")
    return Source(_NAMES[formats[0]], parts, tuple(sorted(tensors)))


def _infer(format: Format, tensors: dict[str, LazyTensor], path: Path) -> Json:
    assert format.infer is not None
    try:
        return format.infer(tensors)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{path}: the size of the network can't be told from its tensors ({error})") from None


_NAMES = {
    "ldm": "single Stable Diffusion file (LDM)",
    "ldm_open_clip": "single Stable Diffusion file (LDM)",
    "diffusers": "diffusers or transformers network",
    "open_clip": "open_clip model",
    "m3ddm": "M3DDM's denoiser",
    "m3ddm_lightning": "M3DDM's denoiser, in a checkpoint of Lightning",
    "gp_jax": "gp_jax network",
}
