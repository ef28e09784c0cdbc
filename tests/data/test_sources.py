"""Every source lists its films without decoding them, and each opens as the frames that lie there."""

import json

import cv2
import numpy as np
import pytest

from gp_jax.data.sources import SOURCES
from gp_jax.errors import UserError
from gp_jax.video import VideoReader, VideoWriter


def frames(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 24, 32, 3)).astype(np.uint8)


def write_images(folder, count, seed=0):
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames(count, seed)):
        cv2.imwrite(str(folder / f"{index:05d}.jpg"), frame)


def write_video(path, count):
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, 25) as writer:
        for frame in frames(count, 0):
            writer.write(frame)


def lengths(films):
    return {film.name: len(film.open()) for film in films}


def test_a_folder_of_videos(tmp_path):
    write_video(tmp_path / "a.mp4", 3)
    write_video(tmp_path / "deep/b.mp4", 4)
    (tmp_path / "notes.txt").write_text("no video")
    (tmp_path / "deep" / ".gp_jax-00112233.new.mp4").write_text("half")
    films = SOURCES["videos"](tmp_path)
    assert lengths(films) == {"a.mp4": 3, "deep/b.mp4": 4}
    assert all(film.has_cuts and film.split is None for film in films)
    with pytest.raises(UserError, match="no video under"):
        (tmp_path / "empty").mkdir()
        SOURCES["videos"](tmp_path / "empty")


def test_davis_has_its_own_splits(tmp_path):
    for name in ("bear", "bus"):
        write_images(tmp_path / "JPEGImages/480p" / name, 3)
    with pytest.raises(UserError, match="is not DAVIS 2017"):
        SOURCES["davis"](tmp_path)
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    (tmp_path / "ImageSets/2017/train.txt").write_text("bus\n")
    (tmp_path / "ImageSets/2017/val.txt").write_text("bear\n")
    films = SOURCES["davis"](tmp_path)
    assert [(film.name, film.split, film.has_cuts) for film in films] == [
        ("bus", "train", False),
        ("bear", "validation", False),
    ]
    assert lengths(films) == {"bus": 3, "bear": 3}


def test_youtube_vos_has_its_own_splits(tmp_path):
    with pytest.raises(UserError, match="is not YouTube-VOS"):
        SOURCES["youtube-vos"](tmp_path)
    write_images(tmp_path / "train/JPEGImages/0a", 3)
    write_images(tmp_path / "valid/JPEGImages/0b", 2)
    films = SOURCES["youtube-vos"](tmp_path)
    assert lengths(films) == {"0a": 3, "0b": 2}
    assert [film.split for film in films] == ["train", "validation"]
    np.testing.assert_array_equal(list(films[0].open()), list(VideoReader(tmp_path / "train/JPEGImages/0a")))


def test_an_array_of_clips(tmp_path):
    clips = np.stack([frames(4, seed) for seed in range(2)])
    np.save(tmp_path / "clips.npy", clips)
    with pytest.raises(UserError, match=r"clips\.json is missing"):
        SOURCES["arrays"](tmp_path / "clips.npy")
    entries = [{"split": "train", "licence": "CC0-1.0"}, {"split": "validation", "licence": "MIT"}]
    (tmp_path / "clips.json").write_text(json.dumps(entries))
    films = SOURCES["arrays"](tmp_path / "clips.npy")
    assert [(film.split, film.facts["licence"]) for film in films] == [("train", "CC0-1.0"), ("validation", "MIT")]
    for film, clip in zip(films, clips):
        np.testing.assert_array_equal(list(film.open()), clip)
        np.testing.assert_array_equal(list(film.open().frames_at([1, 3])), clip[[1, 3]])


@pytest.mark.parametrize(
    "clips, entry, sentence",
    [
        (np.zeros((1, 4, 8, 8), np.uint8), {}, r"clips.npy must be one array .* and holds \[1, 4, 8, 8\] uint8"),
        (np.zeros((1, 4, 8, 8, 3), np.float32), {}, r"holds \[1, 4, 8, 8, 3\] float32"),
        (np.zeros((1, 4, 8, 8, 3), np.uint8), {"split": "val"}, r"clips.json must be .* split is train or validation"),
        (np.zeros((1, 4, 8, 8, 3), np.uint8), {"frame_rate": None}, "frame_rate a number above 0"),
        (np.zeros((1, 4, 8, 8, 3), np.uint8), {"caption": 3}, "caption a text"),
    ],
)
def test_an_array_of_something_else_is_told(tmp_path, clips, entry, sentence):
    np.save(tmp_path / "clips.npy", clips)
    (tmp_path / "clips.json").write_text(json.dumps([entry]))
    with pytest.raises(UserError, match=sentence):
        SOURCES["arrays"](tmp_path / "clips.npy")


def test_a_folder_that_tfds_did_not_prepare(tmp_path):
    with pytest.raises(UserError, match="no data set prepared by TensorFlow Datasets"):
        SOURCES["tfds"](tmp_path)
