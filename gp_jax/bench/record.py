"""What a checkpoint makes of fixed inputs, kept stage by stage in one file, beside times and versions.

    made = record(small("bfloat16", "auto", None), mesh=None, steps=10, repeats=3)
    made.write("bfloat16.safetensors")
    Record.read("bfloat16.safetensors").arrays["steps"]            [steps, B, T, h, w, C]

The stages, in the order of the work; each is a program of its own, so that it is told apart, timed, and kept:

    text      embeddings of fixed token ids             features  the vision tower's, of the observed half
    tokens    the extractor's, of these features        latents   of the observed pixels, by the autoencoder
    call      the denoiser once, of random arguments    steps     latents after each step of DDIM, with guidance
    pixels    uint8 frames, decoded and composited      metrics   numbers of these frames, against the true clip

`features`, `latents`, `text` and `call` start from the inputs alone: how far they are off is their own doing. The
others inherit. What a checkpoint lacks is left out.
"""

import dataclasses
import functools
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from safetensors import SafetensorError, safe_open

import gp_jax
from gp_jax.bench.fixed import Inputs, Subject, inputs_of
from gp_jax.bench.torch_process import measure_in_torch
from gp_jax.checkpoint.folder import Checkpoint
from gp_jax.checkpoint.parameters import flatten
from gp_jax.checkpoint.tensors import write_tensors
from gp_jax.diffusion.guidance import branches_of, guide
from gp_jax.diffusion.samplers import Trajectory, follow, trajectory
from gp_jax.errors import UserError
from gp_jax.geometry import patch_positions
from gp_jax.methods.compositing import finish
from gp_jax.methods.globalpaint.conditioning import inpainting_condition, observed_views
from gp_jax.methods.placement import Placement, shrink
from gp_jax.metrics import METRICS
from gp_jax.models.layers import for_loops
from gp_jax.models.unet import UNet
from gp_jax.parallel import use_mesh

Array = jax.Array
FORMAT = "gp_jax record 1"
STAGES = ("text", "features", "tokens", "latents", "call", "steps", "pixels")
SAMPLER = "ddim"  # each of its steps needs nothing of the one before but the latents
SCORES = ("psnr", "ssim", "seam", "flicker")
PACKAGES = ("jax", "jaxlib", "flax", "numpy")


@dataclasses.dataclass(frozen=True)
class Record:
    """One file.

    Attributes:
      about: what was recorded and on what, by names of `about_jax`.
      seconds: by stage, of its first call, compiling included, and then of others: "first", "median". Of "steps" it is
        one step's.
      metrics: by name, of the pixels that were not observed.
      arrays: by stage.
    """

    about: dict[str, Any]
    seconds: dict[str, dict[str, float]]
    metrics: dict[str, float]
    arrays: dict[str, np.ndarray]

    def write(self, path: str | os.PathLike) -> None:
        """A safetensors file, whole or not at all; a file of that name is replaced."""
        told = {"about": self.about, "seconds": self.seconds, "metrics": self.metrics}
        write_tensors(path, self.arrays, metadata={"record": FORMAT, "told": json.dumps(told)})

    @classmethod
    def read(cls, path: str | os.PathLike) -> "Record":
        """Raises UserError for what `write` has not written."""
        problem = f"{path} is no record: `gp-jax bench --record FILE` makes one"  # of another name: this file is there
        if not Path(path).is_file():
            raise UserError(f"there is no file {path}: make it by `gp-jax bench --record {path}`")
        try:
            with safe_open(path, framework="np", backend="pread") as file:
                metadata = file.metadata() or {}
                if metadata.get("record") != FORMAT:
                    raise UserError(problem)
                told = json.loads(metadata["told"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
                return cls(told["about"], told["seconds"], told["metrics"], arrays)
        except (SafetensorError, OSError, ValueError, KeyError):
            raise UserError(problem) from None


class _Stopwatch:
    """Runs stages, and takes their time."""

    def __init__(self, repeats: int, progress: Callable[[str], Any]):
        self.repeats, self.progress = repeats, progress
        self.seconds: dict[str, dict[str, float]] = {}

    def __call__(self, stage: str, call: Callable[[], Any]) -> Any:
        self.progress(stage)
        made, *times = self._timed(call)
        for _ in range(self.repeats):
            times += self._timed(call)[1:]
        self.keep(stage, times)
        return made

    def keep(self, stage: str, times: Sequence[float]) -> None:
        """Of the first call, and of others."""
        self.seconds[stage] = {"first": times[0]} | ({"median": float(np.median(times[1:]))} if times[1:] else {})

    def _timed(self, call: Callable[[], Any]) -> tuple[Any, float]:
        begin = time.perf_counter()
        made = jax.block_until_ready(call())
        return made, time.perf_counter() - begin

    def each(self, stage: str, calls: Sequence[Callable[[Any], Any]], start: Any) -> list[Any]:
        """What each call makes of what the one before made."""
        made, times = [start], []
        for number, call in enumerate(calls):
            self.progress(f"{stage} {number + 1} of {len(calls)}")
            outcome, seconds = self._timed(functools.partial(call, made[-1]))
            made.append(outcome)
            times.append(seconds)
        self.keep(stage, times)
        return made[1:]


def record(
    subject: Subject,
    mesh: Mesh | None,
    *,
    steps: int,
    repeats: int,
    backend: str = "jax",
    progress: Callable[[str], Any] = lambda stage: None,
) -> Record:
    """Runs all stages.

    Args:
      subject: of fixed.py, its parameters on the mesh.
      mesh: None for one device.
      steps: of sampling, 2 or more, so that one is timed without compiling.
      repeats: calls of each stage behind the first.
      backend: "torch": the denoiser's stages, `call` and `steps`, are torch's, of the same conditions.
      progress: told what begins.

    Raises:
      UserError: torch has not the network, or a schedule too few timesteps for the steps.
    """
    checkpoint, given = subject.checkpoint, inputs_of(subject.checkpoint)
    place = Placement.of(given.canvas, given.canvas, checkpoint.vae.config.downsampling)
    path = trajectory(checkpoint.schedule, SAMPLER, steps)
    watch, arrays = _Stopwatch(repeats, progress), dict[str, Any]()
    with use_mesh(mesh):
        if checkpoint.text is not None:
            arrays["text"] = watch("text", functools.partial(_read_text, checkpoint.text, given.ids))
        if checkpoint.vision is not None and checkpoint.extractor is not None:
            pixels, times, positions = _seen(checkpoint, given, place)
            arrays["features"] = watch(
                "features", functools.partial(_features, checkpoint.vision, pixels, place.pixel_mask)
            )
            arrays["tokens"] = watch(
                "tokens", functools.partial(_tokens, checkpoint.extractor, arrays["features"], positions, times)
            )
        native = np.asarray(shrink(given.source, place)).reshape(*given.noise.shape[:2], *given.clip.shape[1:])
        fill = checkpoint.unet.config.masked_fill
        mask, arrays["latents"] = watch(
            "latents", functools.partial(_condition, checkpoint.vae, native, place, given.noise, fill=fill)
        )
        conditions = _conditions(checkpoint, given, arrays, np.asarray(mask))
        denoise = _in_torch if backend == "torch" else _in_jax
        arrays["call"], arrays["steps"], told = denoise(subject, given, conditions, path, watch)
        last: Any = arrays["steps"][-1]
        if checkpoint.vae.config.linear_latents:  # as make_segments does
            last = np.where(conditions["mask"] == 0, conditions["masked"], last)
        latents, size = last.reshape(-1, *last.shape[2:]), given.clip.shape[1:3]
        arrays["pixels"], _ = watch("pixels", lambda: finish(checkpoint.vae, latents, given.source, place, size=size))
    made = {name: np.asarray(arrays[name]) for name in STAGES if name in arrays}
    kept = {name: x if x.dtype == np.uint8 else x.astype(np.float32) for name, x in made.items()}
    progress("metrics")
    pair = given.clip[None], kept["pixels"][None], place.pixel_mask
    scores = {name: METRICS[name](*pair) for name in SCORES if not METRICS[name].obstacle(*pair[0].shape[1:4])}
    metrics = {name: float(score) for name, score in scores.items() if np.isfinite(score)}  # a strip may be too narrow
    about = about_jax(subject, given, mesh, steps) | told
    return Record(about, watch.seconds, metrics, kept)


def about_jax(subject: Subject, given: Inputs, mesh: Mesh | None, steps: int) -> dict[str, Any]:
    """Of which weights and inputs, on which device and mesh, in which type, by which kernel and versions."""
    device = mesh.devices.flat[0] if mesh else jax.devices()[0]
    cut = {axis: size for axis, size in mesh.shape.items() if size > 1} if mesh else {}
    return {
        "checkpoint": subject.name,
        "weights": subject.weights,
        "inputs": given.digest,
        "sampler": SAMPLER,
        "steps": steps,
        "backend": "jax",
        "device": device.device_kind,
        "devices": mesh.size if mesh else 1,
        "mesh": ",".join(f"{axis}={size}" for axis, size in cut.items()),
        "dtype": subject.dtype,
        "attention": subject.attention,
        "observed": [[x.start, x.stop] for x in given.canvas.observed],
        "versions": {"gp_jax": gp_jax.__version__, "python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
    }


@jax.jit
def _read_text(tower: Any, ids: Array) -> Array:
    return tower(ids)


def _seen(checkpoint: Checkpoint, given: Inputs, place: Placement) -> tuple[Array, np.ndarray, np.ndarray]:
    """Frames [F, H, W, 3] spread over the clip, their times [F], and the positions [P, 2] of their patches."""
    assert checkpoint.vision is not None
    config, count = checkpoint.vision.config, min(len(given.clip), checkpoint.settings.feature_frames)
    indices = np.linspace(0, len(given.clip) - 1, count).round().astype(int)
    times = (indices / (len(given.clip) - 1)).astype(np.float32)
    return (
        shrink(given.source[indices], place),
        times,
        patch_positions(given.canvas, config.image_size // config.patch_size),
    )


@jax.jit
def _features(vision: Any, pixels: Array, pixel_mask: Array) -> Array:
    return vision(observed_views(pixels, pixel_mask, vision.config.image_size))


@jax.jit
def _tokens(extractor: Any, features: Array, positions: Array, times: Array) -> Array:
    positions = jnp.broadcast_to(positions, (1, *features.shape[:2], 2))
    return extractor(features[None], positions, times[None], jnp.ones((1, len(times)), bool))


@functools.partial(jax.jit, static_argnames="fill")
def _condition(vae: Any, pixels: Array, place: Placement, noise: Array, *, fill: str) -> tuple[Array, Array]:
    known = jnp.zeros(noise.shape[:2], bool)
    masks = place.pixel_mask[None, None], place.latent_mask[None, None]
    return inpainting_condition(vae, pixels, *masks, known, jnp.zeros_like(noise), fill)


def _conditions(
    checkpoint: Checkpoint, given: Inputs, arrays: dict[str, Any], mask: np.ndarray
) -> dict[str, np.ndarray | None]:
    """Of all segments, in numpy: what the denoiser is told beside latents and time."""
    rows, width = len(given.noise), checkpoint.unet.config.cross_attention_dim

    def for_each(x: Any) -> np.ndarray:
        x = np.asarray(x, np.float32)
        return np.broadcast_to(x, (rows, *x.shape[-2:]))

    tokens = arrays.get("tokens")
    return {
        "mask": mask,
        "masked": np.asarray(arrays["latents"], np.float32),
        "frames": given.call["frames"],
        "null_text": for_each(arrays["text"][0] if "text" in arrays else np.zeros((1, width))),
        "text": for_each(arrays["text"][1]) if "text" in arrays else None,
        "tokens": None if tokens is None else for_each(tokens),
    }


def _in_jax(
    subject: Subject, given: Inputs, conditions: dict[str, Any], path: Trajectory, watch: _Stopwatch
) -> tuple[Array, np.ndarray, dict[str, Any]]:
    unet, settings = subject.checkpoint.unet, subject.checkpoint.settings
    scales = settings.guidance, settings.text_guidance
    branches = branches_of(scales[1], scales[0], conditions["text"] is not None, conditions["tokens"] is not None)
    call = watch("call", functools.partial(_call, unet, given.call))

    def step(number: int, latents: Any) -> Any:
        row = jax.tree.map(lambda column: column[number : number + 1], path.steps)
        return _step(unet, latents, conditions, row, np.asarray(scales, np.float32), branches=branches)

    calls = [functools.partial(step, number) for number in range(len(path.steps.timestep))]
    return call, np.stack([np.asarray(x) for x in watch.each("steps", calls, path.start * given.noise)]), {}


@jax.jit
def _call(unet: UNet, arguments: dict[str, Any]) -> Array:
    return for_loops(unet)(**arguments)


@functools.partial(jax.jit, static_argnames="branches")
def _step(
    unet: UNet, latents: Array, conditions: dict[str, Any], row: Any, scales: Array, *, branches: tuple[bool, ...]
) -> Array:
    unet = for_loops(unet)
    batched = {name: conditions[name] for name in ("mask", "masked", "frames")}

    def network(latents, timesteps, text, tokens, frames, mask, masked):
        return unet(jnp.concatenate([latents, mask, masked], axis=-1), timesteps, text, tokens, frames)

    def denoise(latents, timestep):
        texts = conditions["text"], conditions["null_text"], conditions["tokens"]
        weights = {"token_scale": scales[0], "text_scale": scales[1], "branches": branches}
        return guide(network, latents, timestep, *texts, **weights, **batched)

    return follow(denoise, latents, Trajectory(jnp.float32(1), row))


def _in_torch(
    subject: Subject, given: Inputs, conditions: dict[str, Any], path: Trajectory, watch: _Stopwatch
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """The same by torch_record.py, in a process of its own, which is given files and leaves one."""
    unet, settings, steps = subject.checkpoint.unet, subject.checkpoint.settings, len(path.steps.timestep)
    watch.progress("torch")
    with tempfile.TemporaryDirectory() as folder:
        weights: Any = {name: np.asarray(x, np.float32) for name, x in flatten(unet).items()}
        np.savez(Path(folder, "weights.npz"), **weights)
        there: Any = {name: x for name, x in conditions.items() if x is not None}
        rows: Any = {name: x for name, x in path.steps._asdict().items() if x is not None}
        call: Any = given.call
        np.savez(Path(folder, "call.npz"), **call)
        np.savez(Path(folder, "steps.npz"), latents=path.start * given.noise, **there, **rows)
        task = {
            "what": "record",
            "modes": ["eager"],
            "folder": folder,
            "network": unet.config.to_json(),
            "volume": given.noise.shape[1:4],
            "dtype": subject.dtype,
            "scales": [settings.guidance, settings.text_guidance],
            "repeats": 1,
            "warm_up": 0,
            "parts": steps,
        }
        (outcome,) = measure_in_torch(task)
        if outcome.times is None:
            raise UserError(f"torch did not do it: {outcome.error}")
        made = dict(np.load(Path(folder, "made.npz"), allow_pickle=False))
    watch.keep("steps", [outcome.first / steps if outcome.first else 0.0, outcome.times.median])
    about = {"backend": "torch", "device": outcome.device, "attention": "torch", "devices": 1, "mesh": ""}
    return made["call"], made["steps"], about | {"torch": outcome.version}
