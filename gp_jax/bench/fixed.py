"""What a record is made of: weights and inputs that are the same on every machine, in every version of every package.

    subject = small(dtype="float32", attention="auto", mesh=None)     random weights in the layout of Stable Diffusion
    subject = of_checkpoint("tiny", dtype="float32", attention="auto", mesh=None)
    given = inputs_of(subject.checkpoint)                              a clip, a canvas, noise

Nothing here asks jax for random numbers: how it draws them may differ between versions, and numpy's generators may not.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gp_jax.bench.measure import random_weights
from gp_jax.checkpoint.folder import Checkpoint, find_checkpoint, load_checkpoint
from gp_jax.checkpoint.parameters import abstract, bind, flatten
from gp_jax.checkpoint.settings import Settings
from gp_jax.checkpoint.tensors import is_floating
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.geometry import Canvas
from gp_jax.models.attention import check_kernel
from gp_jax.models.autoencoder import AutoencoderConfig, AutoencoderKL
from gp_jax.models.clip import TextConfig, TextTower, VisionConfig, VisionTower
from gp_jax.models.global_tokens import GlobalTokens, GlobalTokensConfig
from gp_jax.models.unet import UNet
from gp_jax.models.unet_config import UNetConfig
from gp_jax.parallel import parameter_shardings

SMALL = "small"  # what records call it
_WIDTH = 32
_SETTINGS = Settings(native_area=96**2, segment_frames=8, feature_frames=8, guidance=1.5, text_guidance=3.0)
_SCHEDULE = NoiseSchedule(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction"
)
# As Stable Diffusion 2 has them, with few and narrow layers; maps of 144 latents.
_NETWORKS: dict[str, tuple[type, Any]] = {
    "unet": (
        UNet,
        UNetConfig(
            block_out_channels=(_WIDTH, 2 * _WIDTH),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            attention_head_dim=(2, 4),
            cross_attention_dim=_WIDTH,
            norm_num_groups=8,
            window=(4, 4, 4),
            est_multiplier=1,
        ),
    ),
    "vae": (
        AutoencoderKL,
        AutoencoderConfig(block_out_channels=(16, 16, 32, 32), layers_per_block=1, norm_num_groups=8),
    ),
    "vision": (
        VisionTower,
        VisionConfig(
            hidden_size=_WIDTH,
            intermediate_size=2 * _WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=64,
            patch_size=16,
            projection_dim=None,
        ),
    ),
    "extractor": (
        GlobalTokens,
        GlobalTokensConfig(feature_width=_WIDTH, width=_WIDTH, tokens=8, layers=1, heads=2, output_width=_WIDTH),
    ),
    "text": (
        TextTower,
        TextConfig(
            vocab_size=512,
            hidden_size=_WIDTH,
            intermediate_size=2 * _WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            eos_token_id=511,
        ),
    ),
}


@dataclasses.dataclass(frozen=True)
class Subject:
    """Whose outputs are recorded.

    Attributes:
      name: of the checkpoint.
      checkpoint: on its devices.
      dtype, attention: in which its networks but the autoencoder compute, and by which kernel the denoiser.
      weights: sha256 of what its parameters were read or drawn from, whatever the type in which they are held.
    """

    name: str
    checkpoint: Checkpoint
    dtype: str
    attention: str
    weights: str


@dataclasses.dataclass(frozen=True)
class Inputs:
    """In numpy. B segments lie one behind the other in the clip.

    Attributes:
      clip: [B * T, H, W, 3] uint8, all of what the canvas shows.
      canvas: of which the middle half of the width is observed; already of the network's size.
      noise: [B, T, h, w, C] float32, where sampling begins.
      call: arguments of one call of the denoiser at two noise levels, its conditions random, whatever the towers do.
      ids: [2, L] of the text tower: of the null prompt, and of a prompt.
    """

    clip: np.ndarray
    canvas: Canvas
    noise: np.ndarray
    call: dict[str, np.ndarray]
    ids: np.ndarray | None

    @property
    def source(self) -> np.ndarray:
        """[B * T, Hs, Ws, 3]."""
        return self.clip[(slice(None), *self.canvas.observed)]

    @property
    def digest(self) -> str:
        """sha256 of all of them."""
        arrays = [self.clip, self.noise, *(self.call[name] for name in sorted(self.call))]
        return _sha256(*arrays, *([] if self.ids is None else [self.ids]))


def small(dtype: str, attention: str, mesh: Mesh | None) -> Subject:
    """A checkpoint of random weights that compiles in seconds, in the layout of Stable Diffusion 2 and with all that a
    checkpoint can have. Raises UserError for a kernel that this machine lacks."""
    check_kernel(attention, mesh.devices.flat[0].platform if mesh else jax.default_backend())
    made, names = {}, []
    for name, (cls, config) in _NETWORKS.items():
        held = "float32" if name == "vae" else dtype
        kernel = {"attention": attention} if cls is UNet else {}
        module = abstract(cls, config, dtype=jnp.dtype(held), **kernel)
        shapes = flatten(module)
        places = parameter_shardings(shapes, mesh) if mesh else dict.fromkeys(shapes)
        put = {
            key: jax.ShapeDtypeStruct(x.shape, jnp.dtype(held) if is_floating(x) else x.dtype, sharding=places[key])
            for key, x in shapes.items()
        }
        made[name] = bind(module, random_weights(put))
        names += [f"{name} {key} {x.shape}" for key, x in sorted(shapes.items())]
    checkpoint = Checkpoint(
        settings=_SETTINGS, schedule=_SCHEDULE, interpolation_unet=made["unet"], tokenizer=None, **made
    )
    pool = random_weights({"pool": jax.ShapeDtypeStruct((64, 64), jnp.float32)})["pool"]
    return Subject(SMALL, checkpoint, dtype, attention, _sha256(np.array(names), np.asarray(pool)))


def of_checkpoint(name_or_folder: str, dtype: str, attention: str, mesh: Mesh | None) -> Subject:
    """A checkpoint folder of GlobalPaint; errors as for `load_checkpoint`."""
    folder = find_checkpoint(name_or_folder)
    checkpoint = load_checkpoint(folder, mesh, jnp.dtype(dtype), attention)
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors"))
    total = hashlib.sha256()
    for path in files:
        total.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return Subject(Path(name_or_folder).name, checkpoint, dtype, attention, total.hexdigest())


def inputs_of(checkpoint: Checkpoint, segments: int = 2) -> Inputs:
    """What a checkpoint is given."""
    config, settings, cell = checkpoint.unet.config, checkpoint.settings, checkpoint.vae.config.downsampling
    size = Canvas(1, 1, 0, 0, 1, 1).native(settings.native_area, cell)
    height, width, length = size.height, size.width, settings.segment_frames
    canvas = Canvas(height, width, 0, width // 4, height, width // 2)
    shape = segments, length, height // cell, width // cell
    rng = np.random.default_rng(20)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    text, extractor = checkpoint.text, checkpoint.extractor
    places = text.config.max_position_embeddings if text else 1
    call = {
        "sample": normal(*shape, config.in_channels),
        "timesteps": np.linspace(0.25, 0.75, segments, dtype=np.float32) * checkpoint.schedule.num_train_timesteps,
        "text": normal(segments, places, config.cross_attention_dim),
        "frames": np.arange(segments * length, dtype=np.int32).reshape(segments, length),
    }
    if extractor is not None:
        call["tokens"] = normal(segments, extractor.config.tokens, config.cross_attention_dim)
    ids = None
    if text:
        end = min(text.config.eos_token_id, text.config.vocab_size - 1)
        ids = np.full((2, places), end, np.int32)
        ids[1, 1 : places // 2] = rng.integers(0, end, places // 2 - 1)
    clip = footage(segments * length, height, width)
    return Inputs(clip, canvas, normal(*shape, checkpoint.vae.config.latent_channels), call, ids)


def footage(frames: int, height: int, width: int) -> np.ndarray:
    """Uint8 [T, H, W, 3]: slopes that drift, and a square that crosses them, in whole numbers throughout."""
    t, y, x, c = np.ogrid[:frames, :height, :width, :3]

    def slopes(value: Any, period: Any) -> Any:
        return abs(value % (2 * period) - period) * 255 // period

    ground = (slopes(x + 2 * t + 9 * c, 37) + slopes(2 * y + x - t, 53 + c)) // 2
    side = height // 4
    inside = (abs(x - (3 * t + side) % width) < side // 2) & (abs(y - height // 2 - t) < side // 2)
    return np.where(inside, 255 - ground // 2 * (c + 1) // 3, ground).astype(np.uint8)


def _sha256(*arrays: np.ndarray) -> str:
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return total.hexdigest()
