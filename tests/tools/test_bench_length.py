"""The clip that is measured is as long as it is told, and nothing of it stands still."""

import numpy as np
from bench_length import HEIGHT, WIDTH, write_clip

from gp_jax.data.shots import changes, cuts, thumbnails
from gp_jax.video import VideoReader


def test_the_clip_is_one_shot_in_which_all_moves(tmp_path):
    write_clip(tmp_path / "a.mkv", 30)
    frames = np.stack(list(VideoReader(tmp_path / "a.mkv")))
    assert frames.shape == (30, HEIGHT, WIDTH, 3)
    assert changes(thumbnails(frames)).min() > 0.1 and not cuts(frames)
