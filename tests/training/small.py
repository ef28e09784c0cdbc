"""A configuration of the small networks of tests/small_networks.py, and records for it."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.components import save_module
from gp_jax.data.clips import pack_clip
from gp_jax.data.shards import begin, finish, shard_names, write_shard
from gp_jax.files import write_json
from gp_jax.training.config import default_config
from tests import small_m3ddm, small_networks

SIZE, FRAMES, BATCH = (16, 24), 4, 8
WINDOW = (24, 32)  # of M3DDM
# With transformers in its middle only: a training step of it compiles in half the time.
UNET = dataclasses.replace(small_networks.UNET, down_block_types=("DownBlock2D",))
UNTRAINED = r"(interpolation_)?unet\.(?!middle\.transformer|conv_out)"
IMAGE_UNET = dataclasses.replace(UNET, temporal=False, window=None, global_tokens=False)
NETWORKS = {name: config for name, (_, config) in small_networks.NETWORKS.items()} | {
    "unet": UNET,
    "interpolation_unet": UNET,
}


def config(stage: str, records: Path, init_from: Path | str = "", **fields) -> ConfigDict:
    """Of a run of 6 steps; `fields` replace others."""
    made = default_config(stage)
    made.init_from, made.steps, made.batch_size = str(init_from), 6, BATCH
    made.data.update(
        {
            "records": (str(records),),
            "segment_frames": FRAMES if stage in ("keyframes", "interpolation") else 1,
            "strides": (1, 2),
            "feature_frames": 2 if stage in ("keyframes", "interpolation") else 0,
            "view_size": 16,
            "view_patch": 8,
        }
    )
    made.settings = {"native_area": SIZE[0] * SIZE[1], "segment_frames": FRAMES}
    made.optimizer.update({"rate": 3e-3, "warmup": 2})
    if stage != "autoencoder":
        # Fewer trained parameters, a smaller program: of the UNet, what has attention of all kinds, and the end.
        untrained = "vae|clip|global_tokens" if stage == "interpolation" else "vae|clip"
        made.optimizer.groups = ((untrained, 0.0), (UNTRAINED, 0.0))
    made.log_interval, made.checkpoints.interval = 1, 3
    if stage == "interpolation":
        made.data.known = "ends"
    made.update(fields)
    return made


def autoencoder(records: Path, **fields) -> ConfigDict:
    """Of the stage that compiles fastest, from scratch."""
    made = config("autoencoder", records, **fields)
    made.networks.vae = NETWORKS["vae"].to_json()
    return made


def m3ddm(records: Path, init_from: Path | str = "", **fields) -> ConfigDict:
    """Of M3DDM, whose lowest level is 8 pixels wide; records of `WINDOW`."""
    made = default_config("m3ddm")
    made.networks = {name: network.to_json() for name, network in small_m3ddm.NETWORKS.items()}
    made.init_from, made.steps, made.batch_size = str(init_from), 6, BATCH
    made.data.update({"records": (str(records),), "segment_frames": FRAMES, "downsampling": 4, "global_frames": 2})
    made.data.update({"known": "m3ddm", "directions": ("m3ddm",), "strides": (1, 2, 3), "short": "fewer"})
    made.settings = {"native_area": WINDOW[0] * WINDOW[1], "global_frames": 2, "steps": 3}
    made.schedule = {name: small_m3ddm.SCHEDULER[name] for name in ("beta_start", "beta_end", "beta_schedule")}
    made.optimizer.groups = (*made.optimizer.groups, (r"m3ddm\.(?!middle|conv_out|global_encoder)", 0.0))
    made.log_interval, made.checkpoints.interval = 1, 3
    made.update(fields)
    return made


def make_checkpoint(folder: Path) -> Path:
    """A checkpoint of `NETWORKS`, without a network for interpolation."""
    for name in ("vae", "unet", "clip", "global_tokens"):
        save_module(build(name, NETWORKS[name]), folder / name, NETWORKS[name].to_json())
    write_json(folder / "scheduler" / "scheduler_config.json", small_networks.SCHEDULE.to_config())
    settings = dataclasses.replace(small_networks.SETTINGS, native_area=SIZE[0] * SIZE[1], segment_frames=FRAMES)
    write_json(folder / "config.json", settings.to_json())
    return folder


def build(name: str, config: Any) -> nnx.Module:
    """A network with random weights."""
    network = parameters.abstract(small_networks.NETWORKS[name][0], config)
    parameters.load_into(network, small_networks.random_weights(parameters.flatten(network), seed=len(name)))
    return network


def write_records(
    folder: Path, clips: int = 16, splits: tuple[str, ...] = ("train", "validation"), size: tuple[int, int] = SIZE
) -> Path:
    """Clips of coloured bars that move."""
    begin(folder, {})
    shards = {split: shard_names(split, 1) for split in splits}
    for seed, (shard,) in enumerate(shards.values()):
        rng = np.random.default_rng(seed)
        write_shard(folder / shard, [pack_clip(bars(rng, size), {"key": str(i)}, "png") for i in range(clips)], {})
    finish(folder, shards, {"size": size})
    return folder


def bars(rng: np.random.Generator, size: tuple[int, int] = SIZE, count: int = 12) -> np.ndarray:
    """[count, *size, 3] uint8."""
    row = rng.integers(0, 256, (1, size[1], 3))
    frames = [np.broadcast_to(np.roll(row, shift, axis=1), (*size, 3)) for shift in range(count)]
    return np.stack(frames).astype(np.uint8)


def batch(rng: np.random.Generator, rows: int = BATCH, precomputed: bool = False) -> dict[str, np.ndarray]:
    """As a loader makes it, of random numbers; the left half is observed."""
    height, width = SIZE
    cell, channels = 8, small_networks.NETWORKS["vae"][1].latent_channels
    mask = np.zeros((rows, height, width), np.float32)
    mask[:, :, width // 2 :] = 1
    known = np.zeros((rows, FRAMES), bool)
    known[::2, [0, -1]] = True
    made = {
        "frames": np.tile(np.arange(FRAMES, dtype=np.int32) * 2, (rows, 1)),
        "known": known,
        "pixel_mask": mask,
        "latent_mask": mask.reshape(rows, height // cell, cell, width // cell, cell).max((2, 4)),
        "positions": rng.random((rows, 2, 4, 2)).astype(np.float32),
        "times": np.tile(np.array([0, 1], np.float32), (rows, 1)),
        "valid": np.ones((rows, 2), bool),
    }
    if precomputed:
        latents = rng.normal(size=(2, rows, FRAMES, height // cell, width // cell, channels)).astype(np.float16)
        made |= {"latents": latents[0], "masked_latents": latents[1]}
        return made | {"features": rng.normal(size=(rows, 2, 4, 16)).astype(np.float16)}
    made |= {"pixels": rng.integers(0, 256, (rows, FRAMES, *SIZE, 3), dtype=np.uint8)}
    return made | {"views": rng.integers(0, 256, (rows, 2, 16, 16, 3), dtype=np.uint8)}


def windows(rng: np.random.Generator, rows: int = BATCH) -> dict[str, np.ndarray]:
    """As a loader makes it for M3DDM, of random numbers; the left half is observed, also of the middle whole frame."""
    mask = np.zeros((rows, *WINDOW), np.float32)
    mask[:, :, WINDOW[1] // 2 :] = 1
    known = np.zeros((rows, FRAMES), bool)
    known[::2, [0, -1]] = True
    return {
        "frames": np.tile(np.arange(FRAMES, dtype=np.int32), (rows, 1)),
        "known": known,
        "pixel_mask": mask,
        "latent_mask": mask[:, ::4, ::4],
        "pixels": rng.integers(0, 256, (rows, FRAMES, *WINDOW, 3), dtype=np.uint8),
        "clip": rng.integers(0, 256, (rows, 3, *WINDOW, 3), dtype=np.uint8),
        "clip_hidden": np.tile([False, True, False], (rows, 1)),
        "rate": rng.integers(1, 30, rows).astype(np.float32),
    }


def shapes_of(arrays: dict[str, np.ndarray]) -> dict[str, jax.ShapeDtypeStruct]:
    """The `specs` entry of such a batch."""
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in arrays.items()}
