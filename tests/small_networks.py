"""A checkpoint that compiles fast, its weights random throughout.

Modules that start as zeros (EST, global tokens) get random weights too, so that they do something.
"""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.components import save_module
from gp_jax.checkpoint.settings import Settings
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.files import write_json
from gp_jax.models.autoencoder import AutoencoderConfig, AutoencoderKL
from gp_jax.models.clip import TextConfig, TextTower, VisionConfig, VisionTower
from gp_jax.models.global_tokens import GlobalTokens, GlobalTokensConfig
from gp_jax.models.unet import UNet, UNetConfig

WIDTH = 16
SETTINGS = Settings(native_area=1024, segment_frames=4, feature_frames=17, steps=2, text_guidance=1.0)
SCHEDULE = NoiseSchedule(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
UNET = UNetConfig(
    block_out_channels=(WIDTH,),
    down_block_types=("CrossAttnDownBlock2D",),
    up_block_types=("UpBlock2D",),
    layers_per_block=1,
    attention_head_dim=2,
    cross_attention_dim=WIDTH,
    norm_num_groups=4,
    window=(2, 2, 2),
    est_multiplier=1,
)
VISION = VisionConfig(
    hidden_size=16,
    intermediate_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    image_size=16,
    patch_size=8,
    projection_dim=None,
)
NETWORKS = {
    "vae": (
        AutoencoderKL,
        AutoencoderConfig(block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, patch_size=4),
    ),
    "unet": (UNet, UNET),
    "interpolation_unet": (UNet, UNET),
    "clip": (VisionTower, VISION),
    "global_tokens": (
        GlobalTokens,
        GlobalTokensConfig(feature_width=16, width=16, tokens=3, layers=1, heads=2, output_width=WIDTH),
    ),
}


def build(name: str, seed: int | None = None):
    """The network of a folder of the checkpoint; with a seed, one with other parameters."""
    cls, config = NETWORKS[name]
    network = parameters.abstract(cls, config, dtype=jnp.float32)  # as load_checkpoint does: the same program
    parameters.load_into(network, random_weights(parameters.flatten(network), seed=len(name) if seed is None else seed))
    return network


def random_weights(shapes: dict[str, jax.ShapeDtypeStruct], seed: int) -> dict[str, np.ndarray]:
    """Arrays of these shapes: kernels that keep the scale of their input, norms near 1, biases near 0."""
    rng = np.random.default_rng(seed)

    def draw(name, shape):
        array = rng.normal(size=shape).astype(np.float32)
        if len(shape) > 1:
            return array / np.sqrt(np.prod(shape[:-1]), dtype=np.float32)
        return 0.1 * array + name.endswith("scale")

    return {name: draw(name, leaf.shape) for name, leaf in shapes.items()}


def write(folder: Path, **settings) -> Path:
    """A checkpoint folder; `settings` replace those of `SETTINGS`."""
    for name, (_, config) in NETWORKS.items():
        save_module(build(name), folder / name, config.to_json())
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULE.to_config())
    write_json(folder / "config.json", dataclasses.replace(SETTINGS, **settings).to_json())
    return folder


def write_text(folder: Path) -> None:
    """Adds a text tower to a checkpoint folder, and a tokenizer that knows the words a and b."""
    config = TextConfig(
        vocab_size=260, hidden_size=WIDTH, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    tower = parameters.abstract(TextTower, config)
    parameters.load_into(tower, random_weights(parameters.flatten(tower), seed=0))
    save_module(tower, folder / "text", config.to_json())
    (folder / "tokenizer").mkdir()
    words = ["a", "b", "a</w>", "b</w>", "<|startoftext|>", "<|endoftext|>"]
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
