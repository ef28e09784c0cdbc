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

from gp_jax.diffusion.samplers import SAMPLERS
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.errors import UserError
from gp_jax.files import read_json
from gp_jax.json_config import Foreign, one_of, read_config, read_fields, short, within
from gp_jax.models.autoencoder import AutoencoderConfig, AutoencoderKL
from gp_jax.models.clip import TextConfig, TextTower, VisionConfig, VisionTower
from gp_jax.models.global_tokens import GlobalTokens, GlobalTokensConfig
from gp_jax.models.unet import UNet, UNetConfig
from gp_jax.parallel import parameter_shardings
from gp_jax.pipelines.conditioning import FILLS
from gp_jax.weights import CONFIG_FILE, load_module

SHIPPED = Path(__file__).parent.parent / "checkpoints"
SCHEDULER_FILE = Path("scheduler", "scheduler_config.json")
# Of a folder of CLIP's tokenizer, what transformers reads.
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")

# By the name of their folder in a checkpoint: the network's class, and its config's.
COMPONENTS: dict[str, tuple[type[nnx.Module], type]] = {
    "unet": (UNet, UNetConfig),
    "interpolation_unet": (UNet, UNetConfig),
    "vae": (AutoencoderKL, AutoencoderConfig),
    "global_tokens": (GlobalTokens, GlobalTokensConfig),
    "clip": (VisionTower, VisionConfig),
    "text": (TextTower, TextConfig),
}


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

    native_area: int = within(dataclasses.MISSING, 64, 2048**2)
    segment_frames: int = within(dataclasses.MISSING, 3, 512)
    feature_frames: int = within(16, 1, 4096)
    sampler: str = one_of("ddim", SAMPLERS)
    steps: int = within(25, 1, 1000)
    guidance: float = within(1.0, -1000, 1000)
    text_guidance: float = within(7.5, -1000, 1000)

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> "Settings":
        """Raises UserError where a key is missing, or cannot be meant."""
        return read_fields(cls, config, Foreign(fixed={"format": ("gp_jax",)}), f"the checkpoint's {CONFIG_FILE}")

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
    settings, configs = read_config(Settings.from_json, folder / CONFIG_FILE), read_configs(folder)
    schedule = read_config(NoiseSchedule.from_config, folder / SCHEDULER_FILE)
    if lost := [part for part in ("unet", "vae") if part not in configs]:
        raise UserError(f"{folder} has no {lost[0]}/, without which nothing can be made: convert the whole model again")
    check_fit(folder, configs, settings, schedule)
    tokenizer = load_tokenizer(folder / "tokenizer", configs["text"]) if "text" in configs else None
    place = functools.partial(parameter_shardings, mesh=mesh) if mesh is not None else None

    def load(part: str) -> nnx.Module | None:
        cls, config = COMPONENTS[part]
        held = jnp.float32 if part == "vae" else dtype
        if part not in configs:
            return None
        return load_module(cls, config, folder / part, param_dtype=held, place=place, dtype=held)

    unet = load("unet")
    return Checkpoint(
        settings=settings,
        schedule=schedule,
        unet=unet,
        interpolation_unet=load("interpolation_unet") or unet,
        vae=load("vae"),
        vision=load("clip"),
        extractor=load("global_tokens"),
        text=load("text"),
        tokenizer=tokenizer,
    )


def read_configs(folder: Path) -> dict[str, Any]:
    """The configs of the components that a checkpoint folder has, by their names."""
    there = [part for part in COMPONENTS if (folder / part).is_dir()]
    return {part: read_config(COMPONENTS[part][1].from_json, folder / part / CONFIG_FILE) for part in there}


def check_fit(
    where: Path, configs: Mapping[str, Any], settings: Settings | None = None, schedule: NoiseSchedule | None = None
) -> None:
    """Raises UserError where parts of a checkpoint do not go together; those that are not there yet go with all.

    Args:
      where: the checkpoint, for the message.
      configs: by component.
      settings, schedule: of the checkpoint.
    """
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
        if unet.in_channels != 2 * channels + 1:
            raise UserError(
                f"{where / name} has {unet.in_channels} input channels where inpainting has {2 * channels + 1}: "
                "use the inpainting variant of this model"
            )
        if unet.masked_fill not in FILLS:
            raise UserError(f"{where / name}: masked_fill is {short(unet.masked_fill)}, and none of {', '.join(FILLS)}")
        if settings and unet.motion_modules and settings.segment_frames > unet.motion_positions:
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
    if settings and schedule:
        schedule.positions(settings.steps)


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


def load_tokenizer(folder: Path, config: TextConfig) -> Any:
    """CLIP's tokenizer, for a text tower; raises UserError where it is not there, damaged or another one."""
    from transformers import CLIPTokenizer  # takes seconds to import

    # Without a vocabulary transformers makes one up.
    if not any((folder / name).is_file() for name in ("vocab.json", "tokenizer.json")):
        raise UserError(f"there is a text tower, but no tokenizer in {folder}: copy it from the model's origin")
    files = {
        name: read_json(folder / name)
        for name in TOKENIZER_FILES
        if name.endswith("json") and (folder / name).is_file()
    }
    kind = files.get("tokenizer_config.json", {}).get("tokenizer_class") or "CLIPTokenizer"
    if kind not in ("CLIPTokenizer", "CLIPTokenizerFast"):
        raise UserError(f"{folder} holds the tokenizer of another text tower ({short(kind)}); CLIP's is needed")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        highest = max(tokenizer("a cat")["input_ids"] + list(tokenizer.get_vocab().values()))
    except Exception as error:  # whatever a damaged file makes transformers raise
        reason = short(str(error).strip().partition("\n")[0])
        raise UserError(f"the tokenizer in {folder} is damaged ({reason}): copy it again from its origin") from error
    if highest >= config.vocab_size:
        raise UserError(f"the tokenizer in {folder} has {highest + 1} words, and the text tower {config.vocab_size}")
    return tokenizer


@jax.jit
def _read_text(tower: TextTower, ids: jax.Array) -> jax.Array:
    return tower(ids)
