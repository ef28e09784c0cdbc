"""What is true, soft, sharp or seamed is told as such."""

import types

import bench_detail
import cv2
import numpy as np
from bench_detail import numbers, seam_of_tiles

from gp_jax.geometry import Canvas

CANVAS = Canvas.from_pads(64, 64, 96, 96, 0, 0)
TRUTH = np.random.default_rng(0).integers(0, 256, (3, 64, 256, 3), dtype=np.uint8)


def test_what_is_soft_is_told_as_soft(monkeypatch):
    monkeypatch.setattr(bench_detail, "lpips", lambda true, made: float((true != made).any()))
    soft = np.stack([cv2.blur(frame, (5, 5)) for frame in TRUTH])
    soft[:, *CANVAS.observed] = 0  # is not looked at
    same, made = numbers(TRUTH, TRUTH, CANVAS), numbers(TRUTH, soft, CANVAS)
    assert same[0] == 0 and same[2] == 1 and same[3] == same[4]
    assert made[0] == 1 and made[1] < same[1] and made[2] < 0.3 and made[3] < made[4] == same[4]


def test_a_step_at_a_tile_is_a_seam():
    ramp = np.broadcast_to(np.arange(256)[:, None], (1, 64, 256, 3)).astype(np.uint8) // 2
    grid = types.SimpleNamespace(
        pixels=types.SimpleNamespace(corners=np.array([[[0, 0], [0, 48]]]), weights=np.zeros((1, 2, 64, 56)))
    )
    job = types.SimpleNamespace(grid=grid)
    noise = np.random.default_rng(0).integers(0, 3, ramp.shape, dtype=np.uint8)
    assert abs(seam_of_tiles(ramp + noise, job, CANVAS)) < 0.3
    stepped = ramp + noise
    stepped[:, :, 48:] += 20
    assert seam_of_tiles(stepped, job, CANVAS) > 1
