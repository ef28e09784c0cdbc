"""A small M3DDM as it is published, and a Stable Diffusion beside it, their weights random throughout."""

import dataclasses
from pathlib import Path

import numpy as np

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.tensors import write_tensors
from gp_jax.convert import convert, to_foreign
from gp_jax.convert.m3ddm import RULES
from gp_jax.convert.rules import to_theirs
from gp_jax.files import read_json, write_json
from gp_jax.models.autoencoder import AutoencoderConfig, AutoencoderKL
from gp_jax.models.m3ddm.config import M3DDMConfig
from gp_jax.models.m3ddm.network import M3DDM
from tests.small_networks import random_weights

NETWORK = M3DDMConfig(
    block_out_channels=(8, 16), layers_per_block=1, attention_head_dim=2, cross_attention_dim=8, norm_num_groups=4
)
VAE = AutoencoderConfig(block_out_channels=(8, 8, 8), layers_per_block=1, norm_num_groups=4)
NETWORKS = {"m3ddm": NETWORK, "vae": VAE}
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "skip_prk_steps": True,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}


def state(config: M3DDMConfig = NETWORK) -> dict[str, np.ndarray]:
    """The tensors by their published names: fp16, and counters."""
    theirs = to_theirs(RULES, parameters.shapes(M3DDM, config))
    # Torch's kernels begin with their outputs.
    drawn = random_weights({name: _Last(x.shape) for name, x in theirs.items()}, seed=1)

    def draw(place: int, name: str, array: np.ndarray) -> np.ndarray:
        if name.endswith("num_batches_tracked"):
            return np.int64(100_000 + place)
        array = array.reshape(theirs[name].shape)
        if name.endswith(("norm.weight", "running_var", "normalization.weight")):
            array = 1 + 0.1 * np.tanh(array)
        return array.astype(np.float16)

    return {name: np.asarray(draw(place, name, x)) for place, (name, x) in enumerate(sorted(drawn.items()))}


@dataclasses.dataclass(frozen=True)
class _Last:
    """A torch shape with its outputs last."""

    torch: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.torch[1:], *self.torch[:1])


def write_published(folder: Path, config: M3DDMConfig = NETWORK) -> Path:
    """The published folder, but for the suffix of its weights."""
    write_tensors(folder / "diffusion_pytorch_model.safetensors", state(config))
    write_json(folder / "config.json", config.to_json())
    return folder


def write_stable_diffusion(folder: Path, config: AutoencoderConfig = VAE) -> Path:
    """Of a Stable Diffusion its autoencoder and its scheduler."""
    tensors = random_weights(parameters.shapes(AutoencoderKL, config), seed=2)
    json, theirs, _ = to_foreign("vae", config, tensors, "diffusers")
    write_tensors(folder / "vae" / "diffusion_pytorch_model.safetensors", theirs)
    write_json(folder / "vae" / "config.json", json)
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    return folder


def write(folder: Path, **settings) -> Path:
    """A checkpoint folder; `settings` replace those that conversion writes."""
    published, diffusion = folder.with_name("published"), folder.with_name("stable-diffusion")
    convert(write_published(published), folder, vae=write_stable_diffusion(diffusion))
    write_json(folder / "config.json", read_json(folder / "config.json") | settings)
    return folder
