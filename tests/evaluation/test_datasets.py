"""The validation clips of each layout, under their official names and in their order."""

import numpy as np
import pytest
from PIL import Image

from gp_jax.errors import UserError
from gp_jax.evaluation.datasets import DATASETS
from gp_jax.video import VideoWriter


def write(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with VideoWriter(path, 24) as writer:
        for _ in range(frames):
            writer.write(rng.integers(0, 256, (32, 32, 3), np.uint8))


def lengths(name, folder):
    return {clip: len(open_clip()) for clip, open_clip in DATASETS[name](folder).items()}


def test_davis(tmp_path):
    for index, name in enumerate(("swan", "bear", "cat")):
        write(tmp_path / "JPEGImages" / "480p" / name, 2 + index)
    lists = tmp_path / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("cat\n")
    (lists / "val.txt").write_text("swan\nbear\n")
    expected = [("swan", 2), ("bear", 3)]
    assert list(lengths("davis", tmp_path).items()) == expected
    # As the tool leaves it that fetches the test clips: among its archives.
    (tmp_path / "data").mkdir()
    for name in ("JPEGImages", "ImageSets"):
        (tmp_path / "data" / "davis").mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / "data" / "davis" / name)
    assert list(lengths("davis", tmp_path / "data").items()) == expected


def test_youtube_vos(tmp_path):
    for part, name in (("train", "0a"), ("valid", "2c"), ("valid", "1b")):
        write(tmp_path / part / "JPEGImages" / name, 3)
    assert list(lengths("youtube-vos", tmp_path)) == ["1b", "2c"]


def test_tfds_without_tensorflow(tmp_path):
    import tensorflow_datasets as tfds

    from gp_jax.data.tfds_frames import YoutubeVosFrames

    for part, name, frames in (("train", "0a", 3), ("valid", "2c", 4)):
        for index in range(frames):
            picture = tmp_path / part / "JPEGImages" / name / f"{index}.jpg"
            picture.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (index, 0, 0)).save(picture)
    builder = YoutubeVosFrames(data_dir=tmp_path / "tfds", file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=tmp_path))
    assert lengths("tfds", builder.data_path) == {"0": 4}


def test_a_folder_of_videos_and_frames(tmp_path):
    write(tmp_path / "sea.mp4", 4)
    write(tmp_path / "hill", 2)
    assert lengths("folder", tmp_path) == {"hill": 2, "sea": 4}


def test_a_truncated_reference_is_refused(tmp_path):
    write(tmp_path / "sea.mp4", 40)
    content = (tmp_path / "sea.mp4").read_bytes()
    (tmp_path / "sea.mp4").write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(UserError, match="cannot be a reference"):
        lengths("folder", tmp_path)


@pytest.mark.parametrize("name", DATASETS)
def test_what_is_no_data_set_is_told(name, tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        lengths(name, tmp_path)
