"""A protocol that is measured in a moment, networks and weights left out, and clips for it."""

from pathlib import Path

import cv2
import numpy as np
from flax import nnx

from gp_jax.evaluation.protocols import PROTOCOLS, Protocol
from gp_jax.geometry import Canvas
from gp_jax.metrics import frechet
from gp_jax.published import weights
from gp_jax.video import VideoWriter

CASES = {"0.5": Canvas(36, 48, 0, 12, 36, 24), "0.3": Canvas(36, 48, 12, 0, 24, 48)}
PROTOCOL = Protocol(36, 48, CASES, ("psnr", "ssim", "flicker", "seam", "fvd-videogpt"))
CLIPS = {"pond": 17, "reed": 16, "heron": 18}


class Pool(nnx.Module):
    """Stands in for I3D: the mean of a few pixels over time."""

    def __call__(self, video):
        return video[:, :, ::32, ::32].mean(axis=1).reshape(len(video), -1)


def install(monkeypatch) -> None:
    """Makes the protocol known as "small"."""
    monkeypatch.setitem(PROTOCOLS, "small", PROTOCOL)
    monkeypatch.setattr(frechet, "load_i3d", Pool)
    monkeypatch.setattr(weights, "load", lambda name: {})


def write_clips(folder: Path) -> Path:
    """`CLIPS` as folders of PNGs, 44x36 pixels: textures under a moving camera.

    They are smooth, so that repeated borders resemble the truth: where nothing does, SSIM is a mean of both signs about
    0, whose relative error says nothing.
    """
    rng = np.random.default_rng(0)
    folder.mkdir()
    for name, frames in CLIPS.items():
        texture = cv2.resize(rng.integers(0, 256, (4, 6, 3), np.uint8), (120, 36), interpolation=cv2.INTER_LINEAR)
        with VideoWriter(folder / name, 24) as writer:
            for frame in range(frames):
                writer.write(np.ascontiguousarray(texture[:, frame : frame + 44]))
    return folder
