"""Where converted networks go: a checkpoint of ours, or another format's files.

All of it appears at once, or nothing (gp_jax/files.py).
"""

import math
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jax.typing import DTypeLike

from gp_jax.checkpoint.components import COMPONENTS, CONFIG_FILE, DENOISERS, check_fit
from gp_jax.checkpoint.folder import SCHEDULER_FILE, write_parts
from gp_jax.checkpoint.settings import read_settings
from gp_jax.checkpoint.tensors import write_tensors
from gp_jax.checkpoint.text import load_tokenizer
from gp_jax.convert import clip
from gp_jax.convert.formats import FORMATS
from gp_jax.convert.sources import MOTIA_FOLDERS
from gp_jax.convert.translate import Network, exported, extractor, fields_of, fresh, refuse_lost, to_foreign
from gp_jax.convert.unet import sample_area
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.errors import UserError
from gp_jax.files import read_json, replacing_folder, write_json
from gp_jax.json_config import read_config

# Where CLIP's training starts (Radford et al. 2021, section 2.5): open_clip's files must have one, we keep none.
_LOGIT_SCALE = math.log(1 / 0.07)


def write_checkpoint(
    dest: Path,
    networks: list[Network],
    *,
    scheduler: dict[str, Any] | None,
    tokenizer: Path | None,
    settings: dict[str, Any],
    dtype: DTypeLike | None = None,
    seed: int = 0,
) -> list[Network]:
    """A checkpoint of ours; into one that exists, components that it does not have are added.

    Settings and scheduler come with its first denoiser; before that they are those of whatever came first.
    A checkpoint with a UNet that takes global tokens and a vision tower gets a fresh extractor between the two.
    """
    there = _configs(dest)
    if taken := sorted(there.keys() & {network.component for network in networks}):
        raise UserError(
            f"{dest} has {', '.join(taken)} already; convert into another folder, or leave it out with --only"
        )
    configs = there | {network.component: network.config for network in networks}
    if {"unet", "clip"} <= configs.keys() and "global_tokens" not in configs and configs["unet"].global_tokens:
        networks = [*networks, fresh("global_tokens", extractor(configs["unet"], configs["clip"]))]
    stays = bool(there) and (not DENOISERS.keys().isdisjoint(there) or DENOISERS.keys().isdisjoint(configs))
    kept = stays and (dest / SCHEDULER_FILE).is_file()
    _check_checkpoint(
        dest,
        configs,
        read_json(dest / SCHEDULER_FILE) if kept else scheduler,
        tokenizer,
        read_json(dest / CONFIG_FILE) if stays else settings,
    )
    if kept and scheduler is not None:
        _check_trained_alike(dest, DENOISERS.keys() & (configs.keys() - there.keys()), scheduler)
    with _adding_to(dest) if there else replacing_folder(dest, overwrite=False) as folder:
        write_parts(
            folder,
            {one.component: (one.config.to_json(), one.complete(seed, dtype)) for one in networks},
            None if stays else settings,
            None if kept else scheduler,
            tokenizer=None if (dest / "tokenizer").exists() else tokenizer,
            dtype=dtype,
        )
    return networks


def write_diffusers(
    dest: Path,
    networks: list[Network],
    *,
    scheduler: dict[str, Any] | None,
    tokenizer: Path | None,
    settings: dict[str, Any],
    dtype: DTypeLike | None = None,
    **_: Any,
) -> list[Network]:
    """A diffusers folder, its towers as transformers writes them."""
    _check_places("diffusers", networks)
    configs = {network.component: network.config for network in networks}
    inpainting = "unet" not in configs or configs["unet"].in_channels != configs["unet"].out_channels
    index: dict[str, Any] = {
        "_class_name": f"StableDiffusion{'ControlNet' * ('controlnet' in configs)}{'Inpaint' * inpainting}Pipeline",
        "_diffusers_version": "0.30.0",
        "safety_checker": [None, None],
    }
    done = []
    with replacing_folder(dest, overwrite=False) as folder:
        for network in networks:
            if network.component not in _DIFFUSERS_FOLDERS:
                done.append(exported(network, ()))
                continue
            name, library, file = _DIFFUSERS_FOLDERS[network.component]
            config, tensors, kept = to_foreign(network.component, network.config, network.tensors, "diffusers")
            class_name = config.get("_class_name") or config["architectures"][0]
            if network.component == "unet" and not _fits(config.get("sample_size"), settings["native_area"]):
                config["sample_size"] = math.isqrt(settings["native_area"]) // 8
            write_tensors(folder / name / file, tensors, dtype)
            write_json(folder / name / CONFIG_FILE, config)
            index[name] = [library, class_name]
            done.append(exported(network, kept))
        write_parts(folder, {}, None, scheduler, tokenizer=tokenizer)
        if scheduler is not None:
            index["scheduler"] = ["diffusers", scheduler.get("_class_name", "DDIMScheduler")]
        if tokenizer is not None:
            index["tokenizer"] = ["transformers", "CLIPTokenizer"]
        write_json(folder / "model_index.json", index)
    return done


def write_ldm(dest: Path, networks: list[Network], *, dtype: DTypeLike | None = None, **_: Any) -> list[Network]:
    """A single Stable Diffusion file."""
    _check_places("ldm", networks)
    return _write_single(dest, networks, _ldm_place, dtype)


def write_animatediff(
    dest: Path, networks: list[Network], *, dtype: DTypeLike | None = None, **_: Any
) -> list[Network]:
    """The motion modules of the key-frame network, in a single file."""
    if not any(network.component == "unet" and network.config.motion_modules for network in networks):
        raise UserError("there are no motion modules here; they come with `gp-jax convert --motion FILE`")
    return _write_single(dest, networks, lambda network: {"unet": ("animatediff", "")}.get(network.component), dtype)


def _write_single(
    dest: Path,
    networks: list[Network],
    place: Callable[[Network], tuple[str, str] | None],
    dtype: DTypeLike | None,
) -> list[Network]:
    """All networks that have a `place`, a format and a prefix for their names, in one file."""
    if dest.suffix != ".safetensors":
        raise UserError(f"a single file must end in .safetensors, {dest} does not")
    if dest.exists():
        raise UserError(f"{dest} exists already")
    everything, done = {}, []
    for network in networks:
        if (placed := place(network)) is None:
            done.append(exported(network, ()))
            continue
        format, prefix = placed
        _, tensors, kept = to_foreign(network.component, network.config, network.tensors, format)
        everything |= {prefix + name: tensor for name, tensor in tensors.items()}
        done.append(exported(network, kept))
    write_tensors(dest, everything, dtype, overwrite=False)
    return done


def write_open_clip(dest: Path, networks: list[Network], *, dtype: DTypeLike | None = None, **_: Any) -> list[Network]:
    """An open_clip folder: both towers in one file."""
    towers = {network.component: network.config for network in networks if network.component in ("clip", "text")}
    config = clip.open_clip_json(towers.get("clip"), towers.get("text"))
    for component, fields in clip.open_clip_jsons(config).items():
        there = COMPONENTS[component][1].from_json(fields)
        kept = FORMATS["open_clip"][component].describable(towers[component])
        refuse_lost("open_clip", component, kept, fields_of(there))
    tensors, done = {"logit_scale": np.array(_LOGIT_SCALE, np.float32)}, []
    for network in networks:
        kept = ()
        if network.component in towers:
            _, own, kept = to_foreign(network.component, network.config, network.tensors, "open_clip")
            tensors |= own
        done.append(exported(network, kept))
    with replacing_folder(dest, overwrite=False) as folder:
        write_tensors(folder / "open_clip_model.safetensors", tensors, dtype)
        write_json(folder / "open_clip_config.json", config)
    return done


def write_m3ddm(dest: Path, networks: list[Network], *, dtype: DTypeLike | None = None, **_: Any) -> list[Network]:
    """M3DDM's denoiser, as it is published."""
    if not any(network.component == "m3ddm" for network in networks):
        raise UserError("there is no M3DDM here to be written as it is published")
    done = []
    with replacing_folder(dest, overwrite=False) as folder:
        for network in networks:
            kept = ()
            if network.component == "m3ddm":
                config, tensors, kept = to_foreign(network.component, network.config, network.tensors, "m3ddm")
                write_tensors(folder / "diffusion_pytorch_model.safetensors", tensors, dtype)
                write_json(folder / CONFIG_FILE, config)
            done.append(exported(network, kept))
    return done


def write_motia(dest: Path, networks: list[Network], *, dtype: DTypeLike | None = None, **others: Any) -> list[Network]:
    """MOTIA's folder as it is published, its motion modules in a safetensors file."""
    found = {network.component: network for network in networks}
    if lost := [name for name in ("unet", "controlnet", "vae", "text") if name not in found]:
        raise UserError(f"there is no {lost[0]} here, which belongs to MOTIA's folder as it is published")
    diffusion, steering, motion = MOTIA_FOLDERS
    control = found.pop("controlnet")
    with replacing_folder(dest, overwrite=False) as folder:
        done = {
            one.component: one for one in write_diffusers(folder / diffusion, [*found.values()], dtype=dtype, **others)
        }
        config, tensors, kept = to_foreign("controlnet", control.config, control.tensors, "diffusers")
        write_tensors(folder / steering / "diffusion_pytorch_model.safetensors", tensors, dtype)
        write_json(folder / steering / CONFIG_FILE, config)
        (folder / motion).mkdir()
        moved, *_ = write_animatediff(folder / motion / "mm_sd_v15_v2.safetensors", [found["unet"]], dtype=dtype)
    unet = exported(found["unet"], done["unet"].tensors.keys() | moved.tensors.keys())
    return [*(done | {"unet": unet}).values(), exported(control, kept)]


WRITERS: dict[str, Callable[..., list[Network]]] = {
    "gp_jax": write_checkpoint,
    "diffusers": write_diffusers,
    "ldm": write_ldm,
    "animatediff": write_animatediff,
    "open_clip": write_open_clip,
    "m3ddm": write_m3ddm,
    "motia": write_motia,
}

# Component: (folder, library, weight file).
_DIFFUSERS_FOLDERS = {
    "unet": ("unet", "diffusers", "diffusion_pytorch_model.safetensors"),
    "vae": ("vae", "diffusers", "diffusion_pytorch_model.safetensors"),
    "controlnet": ("controlnet", "diffusers", "diffusion_pytorch_model.safetensors"),
    "text": ("text_encoder", "transformers", "model.safetensors"),
    "clip": ("image_encoder", "transformers", "model.safetensors"),
}


def _check_places(format: str, networks: list[Network]) -> None:
    """Raises UserError where nothing would be written, no network having a place in the format."""
    components = [network.component for network in networks]
    if FORMATS[format].keys().isdisjoint(components):
        raise UserError(f"{format} has no place for {', '.join(components)}")


def _ldm_place(network: Network) -> tuple[str, str] | None:
    if network.component == "text":
        if network.config.skip_layers == 1:
            return "ldm_open_clip", "cond_stage_model.model."
        if network.config.hidden_act == "quick_gelu":
            return "ldm", "cond_stage_model.transformer."
        raise UserError("this text tower's last layer was cut off (diffusers does that); a single file needs it")
    prefixes = {"unet": "model.diffusion_model.", "controlnet": "control_model.", "vae": "first_stage_model."}
    prefix = prefixes.get(network.component)
    return None if prefix is None else ("ldm", prefix)


def _configs(dest: Path) -> dict[str, Any]:
    """The configs of a checkpoint that exists, by component."""
    return {
        name: read_config(config_cls.from_json, dest / name / CONFIG_FILE)
        for name, (_, config_cls) in COMPONENTS.items()
        if (dest / name / CONFIG_FILE).is_file() and (dest / CONFIG_FILE).is_file()
    }


def _check_checkpoint(
    dest: Path,
    configs: dict[str, Any],
    scheduler: dict[str, Any] | None,
    tokenizer: Path | None,
    settings: dict[str, Any],
) -> None:
    """Raises UserError where a checkpoint would be written that cannot be loaded, its missing parts aside."""
    schedule = None if scheduler is None else NoiseSchedule.from_config(scheduler)
    check_fit(dest, configs, read_settings(settings), schedule)
    folder = dest / "tokenizer" if (dest / "tokenizer").exists() else tokenizer
    if "text" in configs and folder is not None:
        load_tokenizer(folder, configs["text"])


def _check_trained_alike(dest: Path, added: Collection[str], scheduler: dict[str, Any]) -> None:
    """Raises UserError where denoisers are added that were trained with another noise schedule than the one there."""
    own = read_config(NoiseSchedule.from_config, dest / SCHEDULER_FILE)
    if added and (lost := own.unlike(NoiseSchedule.from_config(scheduler))):
        raise UserError(
            f"{dest / 'scheduler'} has {lost} as {', '.join(sorted(added))} needs: convert into a folder of its own"
        )


def _fits(sample_size: Any, native_area: int) -> bool:
    return sample_size is not None and sample_area(sample_size) == native_area


@contextmanager
def _adding_to(dest: Path) -> Iterator[Path]:
    """A folder that takes the place of the checkpoint `dest`, and has all that is in it already."""
    with replacing_folder(dest) as folder:
        shutil.copytree(dest, folder, copy_function=_link, symlinks=True, dirs_exist_ok=True)
        yield folder


def _link(source: str, target: str) -> None:
    """Gives a file a second name, or copies it where that cannot be: nobody changes it, and it may be large."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
