"""Prints the figures of `tiny`'s card, on the held-out clips that build_tiny_clips.py made.

    python tools/score_tiny.py --clips DATA/clips --steps 2,4,12

For the autoencoder: PSNR of decoded frames. For the whole model: 72x128 clips of 8 frames lose a quarter of their
width, an eighth per side, and get it back; PSNR of the made sides, from the mean squared error over all clips, for each
number of steps, and for replicated border pixels; beside it how much the sides change from frame to frame, in grey
levels.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx
from train_tiny import SEGMENT, Clips

from gp_jax.geometry import Canvas
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.pipelines import OutpaintPipeline
from gp_jax.pipelines.conditioning import to_float

CANVAS = Canvas(72, 128, top=0, left=16, source_height=72, source_width=96)
SIDES = np.r_[0:16, 112:128]


def decibels(error: float) -> float:
    """PSNR of a mean squared error in grey levels."""
    return 10 * np.log10(255**2 / error)


def autoencoder_psnr(vae: AutoencoderKL, frames: np.ndarray) -> float:
    """PSNR of frames [N, H, W, 3] uint8 after encoding and decoding."""
    decoded = nnx.jit(lambda vae, x: vae.decode(vae.encode(to_float(x))[0]))(vae, jnp.asarray(frames))
    return decibels(np.mean(((np.clip(decoded, -1, 1) + 1) * 127.5 - frames) ** 2))


def score(outpaint: Callable[[np.ndarray], np.ndarray], clips: list[np.ndarray]) -> str:
    """PSNR of the made sides, and their change from frame to frame."""
    errors, changes = [], []
    for clip in clips:
        made = outpaint(clip[(slice(None), *CANVAS.observed)])[:, :, SIDES].astype(float)
        errors.append(np.mean((made - clip[:, :, SIDES]) ** 2))
        changes.append(np.abs(np.diff(made, axis=0)).mean())
    return f"{decibels(np.mean(errors)):.2f} dB, change {np.mean(changes):.1f}"


def replicate(source: np.ndarray) -> np.ndarray:
    """The border pixels, copied outwards."""
    return np.pad(source, ((0, 0), (0, 0), (CANVAS.left, CANVAS.left), (0, 0)), mode="edge")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, help="folder that build_tiny_clips.py wrote")
    parser.add_argument("--checkpoint", default="tiny", help="a folder, or a name (default tiny)")
    parser.add_argument("--steps", default="4", help="numbers of steps to try, such as 2,4,12")
    parser.add_argument("--count", type=int, default=24, help="how many clips (default 24)")
    args = parser.parse_args()

    data = Clips(args.clips, (CANVAS.height, CANVAS.width), "validation")
    clips = [np.ascontiguousarray(data.frames[i][: SEGMENT * 8 : 8]) for i in data.members[: args.count]]
    pipe = OutpaintPipeline.from_pretrained(args.checkpoint)
    print(f"{len(clips)} clips of {len(clips[0])} frames, {CANVAS.width}x{CANVAS.height}")
    print(f"autoencoder: {autoencoder_psnr(pipe.checkpoint.vae, np.stack([clip[0] for clip in clips])):.2f} dB")
    truth = np.mean([np.abs(np.diff(clip[:, :, SIDES].astype(float), axis=0)).mean() for clip in clips])
    print(f"true sides: change {truth:.1f}")
    print(f"replicated border: {score(replicate, clips)}")
    for steps in map(int, args.steps.split(",")):
        print(f"{steps} steps: {score(lambda source, n=steps: pipe(source, CANVAS, steps=n), clips)}", flush=True)


if __name__ == "__main__":
    main()
