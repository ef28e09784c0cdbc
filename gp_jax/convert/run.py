"""`load` and `convert`: open a source, find every tensor's place, and put it there."""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any

from flax import nnx
from jax.typing import DTypeLike

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.components import COMPONENTS
from gp_jax.checkpoint.settings import M3DDMSettings, MOTIASettings, read_settings
from gp_jax.convert.animatediff import add_motion, assembled
from gp_jax.convert.report import Report
from gp_jax.convert.sources import Source, open_source, with_autoencoder
from gp_jax.convert.translate import Network, translate, widened
from gp_jax.convert.unet import sample_area
from gp_jax.convert.writers import WRITERS
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.errors import UserError
from gp_jax.files import reserved
from gp_jax.seeds import check_seed

# What Stable Diffusion up to version 2 was trained with (v1-inference.yaml, v2-inference.yaml of its repositories).
_SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
# What networks that were distilled want, by the class of their scheduler.
_DISTILLED = {"LCMScheduler": "lcm", "TCDScheduler": "tcd"}


def load(
    path: str | Path,
    *,
    motion: str | Path | None = None,
    param_dtype: DTypeLike | None = None,
    seed: int = 0,
) -> tuple[nnx.Module | dict[str, nnx.Module], Report]:
    """Networks from any checkpoint that is known here.

    Args:
      path: a file or folder, in any format of `formats.FORMATS`.
      motion: AnimateDiff's motion modules, for the temporal attention of the UNet.
      param_dtype: of the parameters; None keeps the file's, and makes new ones in float32.
      seed: for modules that the file does not have.

    Returns:
      The network, or, where the source holds several, a dictionary by component; and what was done.

    Raises:
      UserError: not a checkpoint, or one that does not fit to the last tensor.
    """
    opened = open_source(path)
    networks, ignored = _translate(opened, None, motion)
    modules = {}
    for network in networks:
        cls, _ = COMPONENTS[network.component]
        modules[network.component] = module = parameters.abstract(cls, network.config)
        parameters.load_into(module, network.complete(seed), param_dtype=param_dtype, source=str(path))
    report = Report.of(f"{path}: {opened.format}", networks, ignored)
    return (next(iter(modules.values())) if len(modules) == 1 else modules), report


def convert(
    source: str | Path,
    dest: str | Path,
    *,
    to: str = "gp_jax",
    dtype: DTypeLike | None = None,
    only: Collection[str] | None = None,
    averaged: bool = True,
    motion: str | Path | None = None,
    tokenizer: str | Path | None = None,
    vae: str | Path | None = None,
    prediction_type: str | None = None,
    seed: int = 0,
) -> Report:
    """Writes a checkpoint in another format, one tensor in memory at a time.

    Args:
      source: a file or folder, in any format of `formats.FORMATS`.
      dest: what to write. With `to="gp_jax"` it may be a checkpoint that exists: components are added to it.
      to: a name of `writers.WRITERS`.
      dtype: of the floating-point tensors written; None keeps the source's.
      only: components to take; None: all.
      averaged: of a training state the moving average of the weights, not the weights as they are.
      motion: AnimateDiff's motion modules, for the temporal attention of the UNet.
      tokenizer: a folder with `vocab.json` and `merges.txt`, for sources that have none.
      vae: an autoencoder, or the folder of a Stable Diffusion that has one, for sources that have none.
      prediction_type: for single files, which do not say it: `epsilon` or `v_prediction`.
      seed: for modules that the source does not have.

    Raises:
      UserError: the source is not a checkpoint or does not fit to the last tensor, or the target can't be written.
    """
    if tokenizer and not any(Path(tokenizer, name).is_file() for name in ("vocab.json", "tokenizer.json")):
        raise UserError(f"{tokenizer} is no tokenizer: it has neither vocab.json nor tokenizer.json")
    if vae is not None and only and "vae" not in only:
        raise UserError(f"{vae} is an autoencoder, and --only takes none: name vae there too, or leave --vae out")
    opened = open_source(source, averaged=averaged)
    if vae is not None:
        opened = with_autoencoder(opened, vae)
    networks, ignored = _translate(opened, only, motion, to)
    options: dict[str, Any] = {
        "scheduler": _scheduler(opened, prediction_type),
        "tokenizer": Path(tokenizer) if tokenizer else opened.tokenizer,
        "settings": _settings(opened).to_json(),
        "dtype": dtype,
        "seed": check_seed(seed),
    }
    with reserved(dest):
        written = WRITERS[to](Path(dest), networks, **options)
    report = Report.of(f"{source}: {opened.format}", written, ignored)
    lacking = []
    if "text" in report.loaded and options["tokenizer"] is None:
        lacking.append("text: there is no tokenizer, without which the checkpoint cannot run; give it by --tokenizer")
    if "m3ddm" in report.loaded and "vae" not in report.loaded:
        lacking.append("m3ddm: there is no autoencoder, without which the checkpoint cannot run; give it by --vae")
    if to == "gp_jax":
        report = dataclasses.replace(report, notes=(*report.notes, *lacking))
    return report


def describe(source: str | Path, *, only: Collection[str] | None = None, motion: str | Path | None = None) -> Report:
    """What `convert` would do, without doing it."""
    opened = open_source(source)
    return Report.of(f"{source}: {opened.format}", *_translate(opened, only, motion))


def _translate(
    opened: Source, only: Collection[str] | None, motion: str | Path | None, to: str = "gp_jax"
) -> tuple[list[Network], tuple[str, ...]]:
    """The networks wanted, and the names that are of no use."""
    there = [part.component for part in opened.parts]
    if opened.lost and not (only and set(only) <= set(there)):
        raise UserError(
            f"training started from {opened.lost}, which is not there: put it back, or convert what was trained alone "
            f"by --only {','.join(there)}"
        )
    if only and (lost := sorted(set(only) - set(there))):
        raise UserError(f"the source has no {', '.join(lost)}; it has {', '.join(there)}")
    networks = {part.component: translate(part) for part in opened.parts if not only or part.component in only}
    if to == "gp_jax" and _settings(opened).method != MOTIASettings.method:  # which reads latents alone
        networks = {component: widened(network) for component, network in networks.items()}
    if opened.motion is not None:
        if motion is not None:
            raise UserError(f"MOTIA's folder has motion modules of its own: leave {motion} out")
        networks = assembled(networks, opened.motion)
    if motion is not None:
        if "unet" not in networks:
            raise UserError("motion modules extend a UNet, and the source has none")
        networks["unet"] = add_motion(networks["unet"], motion)
    return list(networks.values()), opened.ignored


def _settings(opened: Source) -> Any:
    """What the pipeline has to know of the network: the pixels and frames that it is used to."""
    if opened.config:
        return read_settings(opened.config)
    if opened.part("m3ddm"):
        return M3DDMSettings()
    unet = opened.part("unet")
    size = unet.config.get("sample_size") if unet else None
    area = sample_area(64 if size is None else size)
    if opened.motion:
        return MOTIASettings(area)
    settings = {"format": "gp_jax", "method": "globalpaint", "native_area": area, "segment_frames": 16}
    sampler = _DISTILLED.get((opened.scheduler or {}).get("_class_name", ""))
    return read_settings(settings | ({"sampler": sampler, "steps": 4, "text_guidance": 1.0} if sampler else {}))


def _scheduler(opened: Source, prediction_type: str | None) -> dict[str, Any] | None:
    """The scheduler's config; raises UserError where it contradicts `prediction_type`."""
    config = _known_scheduler(opened, prediction_type)
    if prediction_type and config and (known := NoiseSchedule.from_config(config).prediction_type) != prediction_type:
        raise UserError(f"the source is known to predict {known}: leave --prediction-type {prediction_type} out")
    return config


def _known_scheduler(opened: Source, prediction_type: str | None) -> dict[str, Any] | None:
    """The source's, or its family's. Weights do not tell it: a plain Stable Diffusion 2 may predict noise or v."""
    unet = opened.part("unet")
    if opened.motion:
        # What motion modules were trained with, whatever Stable Diffusion's folder says of the image network.
        return {**_SCHEDULER, "beta_schedule": "linear", "set_alpha_to_one": True, "prediction_type": "epsilon"}
    if opened.scheduler is None and opened.part("m3ddm"):
        return {**_SCHEDULER, "prediction_type": "epsilon"}
    if opened.scheduler is not None or unet is None:
        return opened.scheduler
    if prediction_type is None and unet.config.get("in_channels", 4) == 4 and unet.config.get("use_linear_projection"):
        raise UserError(
            "a plain Stable Diffusion 2 file does not say what it predicts: give --prediction-type epsilon "
            "(the 512 pixel models) or v_prediction (the 768 pixel models)"
        )
    return {**_SCHEDULER, "prediction_type": prediction_type or "epsilon"}
