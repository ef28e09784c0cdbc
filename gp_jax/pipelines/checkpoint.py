"""A checkpoint folder as networks in memory.

    config.json                 native area, frames per segment, how to sample: `Settings`
    unet/                       the key-frame network
    interpolation_unet/         the interpolation network; without it, `unet` does that work too
    vae/  scheduler/            the autoencoder; the noise schedule, as diffusers writes it
    clip/  global_tokens/       vision tower and extractor; without either there are no global tokens
    text/  tokenizer/           text tower and CLIP's tokenizer; without them there are no prompts

A name without a folder of that name stands for a checkpoint of this package, such as `tiny`.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jax.typing import DTypeLike

from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.errors import UserError
from gp_jax.files import read_json
from gp_jax.models.autoencoder import AutoencoderConfig, AutoencoderKL
from gp_jax.models.clip import TextConfig, TextTower, VisionConfig, VisionTower
from gp_jax.models.global_tokens import GlobalTokens, GlobalTokensConfig
from gp_jax.models.unet import UNet, UNetConfig
from gp_jax.parallel import parameter_shardings
from gp_jax.weights import CONFIG_FILE, load_module

SHIPPED = Path(__file__).parent.parent / "checkpoints"


@dataclasses.dataclass(frozen=True)
class Settings:
    """The `config.json` of a checkpoint folder.

    Attributes:
      native_area: pixels of a frame that the networks saw in training.
      segment_frames: T, frames that they denoise at once.
      feature_frames: frames, spread over the clip, from which global tokens are made.
      sampler, steps: how to sample by default.
      guidance, text_guidance: weights of global tokens and of the prompt by default.
    """

    native_area: int
    segment_frames: int
    feature_frames: int = 16
    sampler: str = "ddim"
    steps: int = 25
    guidance: float = 1.0
    text_guidance: float = 7.5

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> "Settings":
        """Keys that are not ours are ignored; raises UserError where one without a default is missing."""
        for name in ("native_area", "segment_frames"):
            if name not in config:
                raise UserError(f"the checkpoint's {CONFIG_FILE} does not say its {name}: add that key")
        return cls(**{field.name: config[field.name] for field in dataclasses.fields(cls) if field.name in config})

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {"format": "gp_jax", **dataclasses.asdict(self)}


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


def load_checkpoint(name_or_folder: str | Path, mesh: Mesh | None = None, dtype: DTypeLike | None = None) -> Checkpoint:
    """Reads a checkpoint folder.

    Args:
      name_or_folder: a folder, or the name of a checkpoint of this package.
      mesh: the devices over which parameters are spread; None for one device.
      dtype: in which all but the autoencoder computes and is held; by default float32 on CPUs, bfloat16 elsewhere.
        The autoencoder stays float32: bfloat16 has fewer levels than a pixel.

    Raises:
      UserError: there is no such checkpoint, or it is incomplete, damaged or of another kind.
    """
    folder = find_checkpoint(name_or_folder)
    dtype = dtype or (jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)
    settings = Settings.from_json(read_json(folder / CONFIG_FILE))
    place = functools.partial(parameter_shardings, mesh=mesh) if mesh is not None else None

    def load(part: str, cls: type[nnx.Module], config: type, dtype: DTypeLike = dtype) -> nnx.Module:
        return load_module(cls, config, folder / part, param_dtype=dtype, place=place, dtype=dtype)

    def load_if_there(part: str, cls: type[nnx.Module], config: type) -> nnx.Module | None:
        return load(part, cls, config) if (folder / part).is_dir() else None

    unet = load("unet", UNet, UNetConfig)
    vae = load("vae", AutoencoderKL, AutoencoderConfig, jnp.float32)
    channels = vae.config.latent_channels
    if (unet.config.in_channels, unet.config.out_channels) != (2 * channels + 1, channels):
        raise UserError(
            f"{folder / 'unet'} has {unet.config.in_channels} input channels where inpainting has {2 * channels + 1}: "
            "use the inpainting variant of this model"
        )
    text = load_if_there("text", TextTower, TextConfig)
    return Checkpoint(
        settings=settings,
        schedule=NoiseSchedule.from_config(read_json(folder / "scheduler" / "scheduler_config.json")),
        unet=unet,
        interpolation_unet=load_if_there("interpolation_unet", UNet, UNetConfig) or unet,
        vae=vae,
        vision=load_if_there("clip", VisionTower, VisionConfig),
        extractor=load_if_there("global_tokens", GlobalTokens, GlobalTokensConfig),
        text=text,
        tokenizer=None if text is None else load_tokenizer(folder / "tokenizer"),
    )


def find_checkpoint(name_or_folder: str | Path) -> Path:
    """The folder of a checkpoint; raises UserError, naming what exists, where there is none."""
    for folder in (Path(name_or_folder), SHIPPED / name_or_folder):
        if (folder / CONFIG_FILE).is_file():
            return folder
    shipped = ", ".join(sorted(file.parent.name for file in SHIPPED.glob(f"*/{CONFIG_FILE}"))) or "none"
    if Path(name_or_folder).is_dir():
        raise UserError(f"the folder {name_or_folder} is no checkpoint of gp_jax: it has no {CONFIG_FILE}")
    raise UserError(f"there is no checkpoint {name_or_folder}: give a folder, or one of this package's: {shipped}")


def embed_text(tower: TextTower, tokenizer: Any, prompt: str) -> np.ndarray:
    """[1, L, D] float32, L being the length that the tower reads."""
    length = tower.config.max_position_embeddings
    ids = tokenizer(prompt, padding="max_length", max_length=length, truncation=True)["input_ids"]
    return np.asarray(_read_text(tower, np.array([ids])).astype(jnp.float32))


def load_tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer; raises UserError where its vocabulary is not there."""
    from transformers import CLIPTokenizer  # takes seconds to import

    # Without a vocabulary transformers makes one up.
    if not any((folder / name).is_file() for name in ("vocab.json", "tokenizer.json")):
        raise UserError(f"there is a text tower, but no tokenizer in {folder}: copy it from the model's origin")
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


@jax.jit
def _read_text(tower: TextTower, ids: jax.Array) -> jax.Array:
    return tower(ids)
