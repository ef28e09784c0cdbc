"""Video files feed the same loader as records, without any preparation."""

import dataclasses

import numpy as np
import pytest

from gp_jax.data import DataConfig, make_loader
from gp_jax.data.videos import VideoFolder, cover
from gp_jax.errors import UserError
from gp_jax.video import VideoWriter


def write_video(path, count, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    texture = np.kron(np.random.default_rng(seed).integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    with VideoWriter(path, 25) as writer:
        for index in range(count):
            writer.write(np.roll(texture, index, axis=1))


@pytest.fixture
def config(tmp_path):
    for seed in range(3):
        write_video(tmp_path / f"{seed}.mp4", 9, seed)
    return DataConfig(
        records=(str(tmp_path),), segment_frames=4, size=(16, 24), feature_frames=2, view_size=8, view_patch=4
    )


def test_segments_of_video_files_are_scaled_and_cropped(config, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    loader = make_loader(config, batch_size=4)
    batch = next(loader)
    assert batch["pixels"].shape == (4, 4, 16, 24, 3) and batch["views"].shape == (4, 2, 8, 8, 3)
    assert [name.rsplit("/")[-1] for name in loader.skipped] == ["broken.mp4"]
    again = make_loader(config, batch_size=4, rows=[2, 3])
    np.testing.assert_array_equal(next(again)["pixels"], batch["pixels"][2:])
    loader.close()
    again.close()


def test_a_folder_named_like_a_split_is_that_split(config, tmp_path):
    with pytest.raises(UserError, match="no folder validation/"):
        make_loader(config, batch_size=4, split="validation")
    write_video(tmp_path / "validation/held_out.mp4", 9, 3)
    make_loader(config, batch_size=4, split="validation")
    train = VideoFolder(tmp_path, "train", (16, 24))
    assert sorted(train.name(i)[-5:] for i in range(len(train))) == ["0.mp4", "1.mp4", "2.mp4"]
    with pytest.raises(UserError, match="holds no records"):
        make_loader(dataclasses.replace(config, precomputed=True), batch_size=4)


@pytest.mark.parametrize("size", [(18, 32), (30, 40), (24, 24), (100, 21), (60, 80)])
def test_cover_fills_the_frame_and_keeps_the_centre(size):
    y, x = np.mgrid[:60, :80]
    frame = np.stack([3 * y, 3 * x, 0 * x], axis=-1).astype(np.uint8)
    covered = cover(frame, size).astype(float)
    assert covered.shape == (*size, 3)
    np.testing.assert_allclose(covered.mean(axis=(0, 1)), frame.mean(axis=(0, 1)), atol=2)
    down, across = np.diff(covered[..., 0], axis=0).mean(), np.diff(covered[..., 1], axis=1).mean()
    assert down == pytest.approx(across, rel=0.1)  # one scale for both
    assert down == pytest.approx(3 * min(60 / size[0], 80 / size[1]), rel=0.1)
