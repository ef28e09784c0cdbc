"""Opens a checkpoint, whatever it is, and says which components it holds.

    opened = open_source("stable-diffusion-2-inpainting/")
    [part.component for part in opened.parts]       # ["unet", "vae", "text"]

Folders are told by the file that describes them, weight files by the names of their tensors (formats.PIECES).
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gp_jax.convert import clip, training_state
from gp_jax.convert.files import find_weights, open_weights
from gp_jax.convert.formats import COMPONENTS, FORMATS, IGNORED, PIECES, Format
from gp_jax.convert.rules import rename
from gp_jax.errors import UserError
from gp_jax.files import read_json
from gp_jax.weights import LazyTensor

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

    def part(self, component: str) -> Part | None:
        """The network of that name, if it is there."""
        return next((part for part in self.parts if part.component == component), None)


def open_source(path: str | Path, *, averaged: bool = True) -> Source:
    """Recognises a file or folder by its content; raises UserError where it is nothing that is known here.

    Of a training state the moving average is taken, unless `averaged` is False.
    """
    path = Path(path)
    if path.is_file():
        return _weights(path, None)
    if not path.is_dir():
        raise UserError(f"{path} does not exist")
    if state := training_state.find_state(path):
        return _training_state(state, averaged)
    if not averaged:
        raise UserError(f"{path} is no training state, so it has no raw weights beside averaged ones")
    for name, opener in _FOLDERS.items():
        if (path / name).is_file():
            return opener(path, read_json(path / name))
    raise UserError(f"{path} is no checkpoint: it holds none of {', '.join(_FOLDERS)}, and no training state")


def _diffusers_pipeline(path: Path, index: Json) -> Source:
    """A diffusers folder: `model_index.json` gives (library, class) of each subfolder."""
    classes = {name: value[1] for name, value in index.items() if isinstance(value, list) and len(value) == 2}
    opened, ignored = [], []
    for name, class_name in classes.items():
        if class_name in _NETWORK_CLASSES:
            opened.append(open_source(path / name))
        elif name not in ("tokenizer", "scheduler") and class_name is not None:
            ignored.append(f"{name}/ ({class_name})")
    return Source(
        "diffusers folder",
        [part for source in opened for part in source.parts],
        tuple(ignored) + tuple(name for source in opened for name in source.ignored),
        scheduler=read_json(path / "scheduler" / "scheduler_config.json") if "scheduler" in classes else None,
        tokenizer=path / "tokenizer" if "tokenizer" in classes else None,
    )


def _open_clip(path: Path, config: Json) -> Source:
    model = config.get("model_cfg", {})
    if not all(isinstance(model.get(key), dict) for key in ("vision_cfg", "text_cfg")):
        raise UserError(f"{path / 'open_clip_config.json'} has no model_cfg with vision_cfg and text_cfg")
    configs = {"clip": clip.open_clip_vision_json(model), "text": clip.open_clip_text_json(model)}
    return _weights(find_weights(path), configs)


def _folder(path: Path, config: Json) -> Source:
    """A single component, or a checkpoint of ours with one folder for each."""
    folders = [path / name for name in COMPONENTS if (path / name / "config.json").is_file()]
    if not folders:
        return _weights(find_weights(path), dict.fromkeys(COMPONENTS, config))
    opened = [open_source(folder) for folder in folders]
    parts = [
        dataclasses.replace(part, component=folder.name)
        for folder, source in zip(folders, opened)
        for part in source.parts
    ]
    scheduler, tokenizer = path / "scheduler" / "scheduler_config.json", path / "tokenizer"
    return Source(
        "gp_jax checkpoint",
        parts,
        tuple(name for source in opened for name in source.ignored),
        scheduler=read_json(scheduler) if scheduler.is_file() else None,
        tokenizer=tokenizer if tokenizer.is_dir() else None,
        config=config,
    )


def _training_state(folder: Path, averaged: bool) -> Source:
    """What was trained, and beside it what of the checkpoint that training started from is of use still."""
    meta = training_state.read_meta(folder)
    parts = [
        Part(component, FORMATS["gp_jax"][component], meta["networks"][component], tensors, folder)
        for component, tensors in training_state.read_networks(folder, averaged=averaged).items()
    ]
    origin, ignored, tokenizer = Path(meta["init_from"]), (), None
    if meta["init_from"] and origin.is_dir():
        first, superseded = open_source(origin), {*meta["networks"], *meta["discards"]}
        parts += [part for part in first.parts if part.component not in superseded]
        ignored, tokenizer = first.ignored, first.tokenizer
    elif meta["init_from"]:
        ignored = (f"whatever else is in {origin}, where training started: it is not there",)
    return Source(
        f"training state of step {folder.name}",
        parts,
        ignored,
        scheduler=meta["scheduler"],
        tokenizer=tokenizer,
        config=meta["settings"],
    )


_FOLDERS = {"model_index.json": _diffusers_pipeline, "open_clip_config.json": _open_clip, "config.json": _folder}
_NETWORK_CLASSES = (
    "UNet2DConditionModel",
    "AutoencoderKL",
    "CLIPTextModel",
    "CLIPTextModelWithProjection",
    "CLIPVisionModel",
    "CLIPVisionModelWithProjection",
)


def _weights(path: Path, configs: Mapping[str, Json] | None) -> Source:
    """The components in a weight file; `configs` by component, None where they are to be told from the shapes."""
    tensors, parts, formats = open_weights(path), [], []
    for piece in PIECES:
        if not any(re.fullmatch(piece.sign, name) for name in tensors):
            continue
        owned = {name: match[1] for name in tensors if (match := re.fullmatch(piece.owns, name))}
        own = {short: tensors.pop(name) for name, short in owned.items() if not IGNORED.fullmatch(short)}
        format = FORMATS[piece.format][piece.component]
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
        raise UserError(f"{path} holds tensors that belong to nothing known:\n  " + "\n  ".join(unknown))
    return Source(_NAMES[formats[0]], parts, tuple(sorted(tensors)))


def _infer(format: Format, tensors: dict[str, LazyTensor], path: Path) -> Json:
    try:
        return format.infer(tensors)
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(f"{path}: the size of the network can't be told from its tensors ({error})") from None


_NAMES = {
    "ldm": "single Stable Diffusion file (LDM)",
    "ldm_open_clip": "single Stable Diffusion file (LDM)",
    "diffusers": "diffusers or transformers network",
    "open_clip": "open_clip model",
    "gp_jax": "gp_jax network",
}
