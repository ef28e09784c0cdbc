"""A checkpoint folder as networks in memory.

    config.json                 of which method it is, native area, frames per segment, how to sample: settings.py

GlobalPaint's holds

    unet/                       the key-frame network
    interpolation_unet/         the interpolation network; without it, `unet` does that work too
    vae/  scheduler/            the autoencoder; the noise schedule, as diffusers writes it
    clip/  global_tokens/       vision tower and extractor; without either there are no global tokens
    text/  tokenizer/           text tower and CLIP's tokenizer; without them there are no prompts

M3DDM's `m3ddm/`, `vae/` and `scheduler/`, and MOTIA's `unet/`, `controlnet/`, `vae/`, `text/`, `tokenizer/` and
`scheduler/`. A name without a folder of that name stands for a checkpoint of this
package, such as `tiny`.
"""

import dataclasses
import functools
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike

from gp_jax.checkpoint.adapters import Adapter, apart, merged
from gp_jax.checkpoint.components import COMPONENTS, CONFIG_FILE, WEIGHTS_FILE, check_fit, load_module, read_configs
from gp_jax.checkpoint.parameters import flatten
from gp_jax.checkpoint.settings import Settings, read_settings
from gp_jax.checkpoint.tensors import Tensors, write_tensors
from gp_jax.checkpoint.text import copy_tokenizer, embed_text, load_tokenizer
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.errors import UserError
from gp_jax.files import replacing_folder, write_json
from gp_jax.json_config import read_config, short
from gp_jax.models.attention import check_kernel
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.models.clip import TextTower, VisionTower
from gp_jax.models.controlnet import ControlNet
from gp_jax.models.global_tokens import GlobalTokens
from gp_jax.models.m3ddm.network import M3DDM
from gp_jax.models.unet import UNet
from gp_jax.parallel import parameter_shardings

SHIPPED = Path(__file__).parent.parent / "checkpoints"
SCHEDULER_FILE = Path("scheduler", "scheduler_config.json")


@dataclasses.dataclass
class Checkpoint:
    """All that a checkpoint folder holds; networks that it lacks are None."""

    settings: Settings
    schedule: NoiseSchedule
    unet: UNet
    interpolation_unet: UNet
    vae: AutoencoderKL
    vision: VisionTower | None
    extractor: GlobalTokens | None
    text: TextTower | None
    tokenizer: Any | None
    lora: str = ""  # what was added to the networks, for people

    def embed(self, prompt: str) -> np.ndarray:
        """[1, L, D] text embedding, cut off at the length that the tower reads; the null prompt is the empty one.

        Raises:
          UserError: there is a prompt, but no text tower.
        """
        if self.text is None:
            if prompt:
                raise UserError("this checkpoint cannot read a prompt, having no text/ folder: leave the prompt out")
            return np.zeros((1, 1, self.unet.config.cross_attention_dim), np.float32)
        return embed_text(self.text, self.tokenizer, prompt)

    def save(self, folder: str | Path, dtype: DTypeLike | None = None) -> None:
        """Writes a folder, whole or not at all; see `OutpaintPipeline.save_pretrained`."""
        modules = {
            "unet": self.unet,
            "interpolation_unet": None if self.interpolation_unet is self.unet else self.interpolation_unet,
            "vae": self.vae,
            "global_tokens": self.extractor,
            "clip": self.vision,
            "text": self.text,
        }
        parts = {
            name: (module.config.to_json(), merged(*apart(flatten(module))))
            for name, module in modules.items()
            if module
        }
        with replacing_folder(folder, overwrite=False) as building:
            write_parts(building, parts, self.settings.to_json(), self.schedule.to_config(), dtype=dtype)
            if self.tokenizer is not None:
                self.tokenizer.save_pretrained(building / "tokenizer")


def write_parts(
    folder: Path,
    parts: Mapping[str, tuple[Mapping[str, Any], Tensors]],
    settings: Mapping[str, Any] | None,
    scheduler: Mapping[str, Any] | None,
    *,
    tokenizer: Path | None = None,
    dtype: DTypeLike | None = None,
) -> None:
    """Writes files of a checkpoint; every writer of one goes through here, within `replacing_folder`.

    Args:
      folder: of the checkpoint.
      parts: by name in `COMPONENTS`, the config and the tensors; one tensor at a time is in memory.
      settings: its `config.json`; None leaves the one that is there.
      scheduler: likewise.
      tokenizer: a folder of which the tokenizer's files are copied.
      dtype: of the floating-point tensors in the files; None keeps theirs.
    """
    for name, (config, tensors) in parts.items():
        write_tensors(folder / name / WEIGHTS_FILE, tensors, dtype)
        write_json(folder / name / CONFIG_FILE, config)
    if scheduler is not None:
        write_json(folder / SCHEDULER_FILE, scheduler)
    if tokenizer is not None:
        copy_tokenizer(tokenizer, folder / "tokenizer")
    if settings is not None:
        write_json(folder / CONFIG_FILE, settings)


def load_checkpoint(
    name_or_folder: str | Path,
    mesh: Mesh | None = None,
    dtype: DTypeLike | None = None,
    attention: str | None = None,
    components: Mapping[str, Any] = MappingProxyType({}),
    adapters: Mapping[str, Adapter] = MappingProxyType({}),
    fuse: bool = True,
    lora: str = "",
) -> Checkpoint:
    """Reads a checkpoint folder of GlobalPaint; arguments and errors as for `load_parts`.

    `lora` says what the adapters are.
    """
    needed = "unet", "vae"
    parts = load_parts(name_or_folder, "globalpaint", needed, mesh, dtype, attention, components, adapters, fuse)
    networks = parts.networks
    return Checkpoint(
        settings=parts.settings,
        schedule=parts.schedule,
        unet=networks["unet"],
        interpolation_unet=networks.get("interpolation_unet", networks["unet"]),
        vae=networks["vae"],
        vision=networks.get("clip"),
        extractor=networks.get("global_tokens"),
        text=networks.get("text"),
        tokenizer=parts.tokenizer,
        lora=lora,
    )


@dataclasses.dataclass(frozen=True)
class Parts:
    """What lies in a checkpoint folder of any method.

    Attributes:
      settings: of the class that `settings.SETTINGS` has for the method.
      schedule: of the noise.
      networks: by component, of the classes that `COMPONENTS` has.
      tokenizer: of the text tower, if there is one.
    """

    settings: Any
    schedule: NoiseSchedule
    networks: dict[str, Any]
    tokenizer: Any | None


def load_parts(
    name_or_folder: str | Path,
    method: str,
    needed: Collection[str],
    mesh: Mesh | None = None,
    dtype: DTypeLike | None = None,
    attention: str | None = None,
    components: Mapping[str, Any] = MappingProxyType({}),
    adapters: Mapping[str, Adapter] = MappingProxyType({}),
    fuse: bool = True,
) -> Parts:
    """Reads a checkpoint folder.

    Args:
      name_or_folder: a folder, or the name of a checkpoint of this package.
      method: a name of `settings.SETTINGS`.
      needed: components without which nothing can be made.
      mesh: the devices over which parameters are spread; None for one device.
      dtype: in which all but the autoencoder computes and is held; by default float32 on CPUs, bfloat16 elsewhere.
        The autoencoder stays float32: bfloat16 has fewer levels than a pixel.
      attention: one of `attention.NAMES`, the kernel of the denoising networks; None for `auto`.
      components: networks that take the place of the folder's, by name in `COMPONENTS`.
      adapters: by component, what is added to kernels of the folder's networks.
      fuse: whether they are merged, or stay beside the kernels.

    Raises:
      UserError: there is no such checkpoint, component, kernel or floating-point type, or the checkpoint is
        incomplete, damaged, of another method or another kind.
    """
    folder = find_checkpoint(name_or_folder)
    settings = read_config(read_settings, folder / CONFIG_FILE)
    if settings.method != method:
        raise UserError(f"{folder} is a checkpoint of {settings.method}: run it by --method {settings.method}")
    if unknown := sorted(components.keys() - COMPONENTS.keys()):
        raise UserError(f"a checkpoint has no component {unknown[0]!r}: choose of {', '.join(COMPONENTS)}")
    if given := sorted(components.keys() & adapters.keys()):
        raise UserError(f"a LoRA is for the checkpoint's own {given[0]}, and another one was given in its place")
    if attention is not None:
        check_kernel(attention, mesh.devices.flat[0].platform if mesh else jax.default_backend())
    dtype = dtype or (jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)
    _check_floating(dtype)
    configs = read_configs(folder) | {part: module.config for part, module in components.items()}
    schedule = read_config(NoiseSchedule.from_config, folder / SCHEDULER_FILE)
    if lost := [part for part in needed if part not in configs]:
        raise UserError(f"{folder} has no {lost[0]}/, without which nothing can be made: convert the whole model again")
    check_fit(folder, configs, settings, schedule)
    tokenizer = load_tokenizer(folder / "tokenizer", configs["text"]) if "text" in configs else None
    place = functools.partial(parameter_shardings, mesh=mesh) if mesh is not None else None

    def load(part: str) -> Any:
        cls, config = COMPONENTS[part]
        held = jnp.float32 if part == "vae" else dtype
        if part in components:
            return components[part]
        kernel = {"attention": attention} if attention and cls in (UNet, M3DDM, ControlNet) else {}
        options = {"param_dtype": held, "place": place, "dtype": held, **kernel}
        return load_module(cls, config, folder / part, adapter=adapters.get(part, {}), fuse=fuse, **options)

    return Parts(settings, schedule, {part: load(part) for part in configs}, tokenizer)


def _check_floating(dtype: Any) -> None:
    try:
        if jnp.issubdtype(jnp.dtype(dtype), jnp.floating):
            return
    except TypeError:  # there is no such type
        pass
    raise UserError(f"networks compute in a floating-point type, float32 or bfloat16, not in {short(dtype)}")


def find_checkpoint(name_or_folder: str | Path) -> Path:
    """The folder of a checkpoint; raises UserError, naming what exists, where there is none."""
    for folder in (Path(name_or_folder), SHIPPED / name_or_folder):
        if (folder / CONFIG_FILE).is_file():
            return folder
    shipped = ", ".join(sorted(file.parent.name for file in SHIPPED.glob(f"*/{CONFIG_FILE}"))) or "none"
    if Path(name_or_folder, "model_index.json").is_file():
        raise UserError(
            f"{name_or_folder} is a folder of diffusers: bring it into this package's layout by "
            f"`gp-jax convert {name_or_folder} my_model/`, and give my_model/"
        )
    if Path(name_or_folder).is_dir():
        raise UserError(f"the folder {name_or_folder} is no checkpoint of gp_jax: it has no {CONFIG_FILE}")
    raise UserError(f"there is no checkpoint {name_or_folder}: give a folder, or one of this package's: {shipped}")
