"""A clip, outpainted by the networks as they are: what a person looks at while training goes on."""

from itertools import islice
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from gp_jax.checkpoint.components import CONFIG_FILE
from gp_jax.checkpoint.settings import read_settings
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.json_config import read_config
from gp_jax.methods.method import ArrayClip
from gp_jax.methods.of_checkpoint import OfCheckpoint
from gp_jax.methods.registry import load
from gp_jax.training.setup import Run
from gp_jax.video import VideoReader, VideoWriter

FOLDER = "samples"


def check_sample(run: Run) -> None:
    """Raises UserError where `write_sample` would: known before training as well as hours later."""
    config, origin = run.config.samples, run.origin
    if "vae" not in run.networks.configs and not (origin and (origin / "vae").is_dir()):
        raise UserError(
            "config.samples.interval: a sample needs the autoencoder, which no checkpoint gives (init_from)"
        )
    info = VideoReader(config.clip).info
    canvas = Canvas.from_aspect(info.height, info.width, config.aspect)
    if canvas.is_complete:
        raise UserError(
            f"config.samples.aspect is {config.aspect:g}, which the frames of {config.clip} have already: there is "
            "nothing to outpaint"
        )
    canvas.native(run.settings.native_area, run.multiple)


def write_sample(checkpoint: Path, workdir: Path, step: int, config: ConfigDict) -> None:
    """Writes `workdir/samples/STEP.mp4`, on one device.

    Args:
      checkpoint: the folder to sample from.
      workdir, step: where, and its name.
      config: the section `samples`: clip, aspect, frames.

    Raises:
      UserError: the clip cannot be read.
    """
    reader = VideoReader(config.clip)
    frames = np.stack(list(islice(reader.frames_at(range(len(reader))), config.frames)))
    canvas = Canvas.from_aspect(*frames.shape[1:3], aspect=config.aspect)
    target = sample_file(workdir, step)
    target.parent.mkdir(exist_ok=True)
    method = load(read_config(read_settings, checkpoint / CONFIG_FILE).method, checkpoint)
    assert isinstance(method, OfCheckpoint)
    # Not by `method.prepare`, which would keep these networks beside those that are trained.
    pipeline = method.Pipeline.from_pretrained(checkpoint, mesh=None, dtype=None, attention=None)
    with VideoWriter(target, reader.info.frame_rate, overwrite=True) as writer:
        for frame in pipeline.prepare(ArrayClip(frames), canvas, method.Options(), None).frames():
            writer.write(frame)


def sample_file(workdir: Path, step: int) -> Path:
    """Where the sample of a step lies."""
    return workdir / FOLDER / f"{step:07d}.mp4"
