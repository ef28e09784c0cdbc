"""DAVIS of the catalogue and YouTube-VOS are prepared and read without TensorFlow."""

import sys
from unittest import mock

import cv2
import numpy as np
import pytest

from gp_jax.data.sources import SOURCES
from gp_jax.errors import UserError

tfds_frames = pytest.importorskip("gp_jax.data.tfds_frames")


def write_frames(folder, count, seed):
    folder.mkdir(parents=True)
    for index, frame in enumerate(np.random.default_rng(seed).integers(0, 256, (count, 24, 32, 3)).astype(np.uint8)):
        cv2.imwrite(str(folder / f"{index:05d}.jpg"), frame)


def check(films, folders):
    """The films show the pictures of these folders."""
    assert [film.split for film in films] == ["train", "train", "validation"]
    for film in films:
        frames = list(film.open())
        expected = [[cv2.imread(str(file))[..., ::-1] for file in sorted(folder.iterdir())] for folder in folders]
        assert any(len(frames) == len(clip) and np.array_equal(frames, clip) for clip in expected)
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("name", ["/etc", "../raw"])
def test_a_list_cannot_lead_out_of_the_archive(tmp_path, name):
    with pytest.raises(UserError, match="not within"):
        list(tfds_frames._clips(tmp_path, [name]))


def test_youtube_vos_from_its_folders(tmp_path):
    folders = [
        tmp_path / "raw" / part for part in ("train/JPEGImages/ab", "train/JPEGImages/cd", "valid/JPEGImages/ef")
    ]
    for seed, folder in enumerate(folders):
        write_frames(folder, 2 + seed, seed)
    import tensorflow_datasets as tfds

    builder = tfds_frames.YoutubeVosFrames(data_dir=tmp_path / "tfds", file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=tmp_path / "raw"))
    check(SOURCES["tfds"](builder.data_path), folders)


def test_davis_from_the_archive_of_the_catalogue(tmp_path):
    from etils import epath

    root = epath.Path(tmp_path / "archive")
    folders = [tmp_path / f"archive/DAVIS/JPEGImages/480p/{name}" for name in ("bear", "bus", "cat")]
    for seed, folder in enumerate(folders):
        write_frames(folder, 2 + seed, seed)
    lists = tmp_path / "archive/DAVIS/ImageSets/2017"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("bear\nbus\n")
    (lists / "val.txt").write_text("cat\n")
    builder = tfds_frames.DavisFrames(config="480p", data_dir=tmp_path / "tfds", file_format="array_record")
    manager = mock.Mock(downloaded_size=0)
    manager.download_and_extract.return_value = root
    with mock.patch.object(builder, "_make_download_manager", return_value=manager):
        builder.download_and_prepare()
    [url] = manager.download_and_extract.call_args.args
    assert url.endswith("DAVIS-2017-trainval-480p.zip")
    check(SOURCES["tfds"](builder.data_path), folders)
