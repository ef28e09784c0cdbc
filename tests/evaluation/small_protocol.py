"""A protocol that is measured in a moment, networks and weights left out, and clips for it."""

from pathlib import Path

import numpy as np
from flax import nnx

from gp_jax.evaluation.protocols import PROTOCOLS, Protocol
from gp_jax.geometry import Canvas
from gp_jax.metrics import frechet, weights
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
    """`CLIPS` as folders of PNGs, 44x36 pixels: textures under a moving camera."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for name, frames in CLIPS.items():
        texture = np.kron(rng.integers(0, 256, (9, 30, 3), np.uint8), np.ones((4, 4, 1), np.uint8))
        with VideoWriter(folder / name, 24) as writer:
            for frame in range(frames):
                writer.write(np.ascontiguousarray(texture[:, frame : frame + 44]))
    return folder
