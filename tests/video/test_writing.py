"""What goes into a file comes out of it: size, colours, times and sound; and half a file never lies around."""

from fractions import Fraction

import av
import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.video import FORMATS, VideoReader, VideoWriter, check_target


def copy(source, target, **options):
    reader = VideoReader(source)
    with VideoWriter(target, reader.info, audio_from=reader, **options) as writer:
        for frame in reader:
            writer.write(frame)
    return VideoReader(target)


def test_a_suffix_alone_is_no_name(tmp_path):
    with pytest.raises(UserError, match=r"has a suffix and no name: call it out\.mp4"):
        check_target(tmp_path / ".mp4")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("size", [(36, 52), (35, 51)])
def test_size_colours_and_rate_survive(tmp_path, picture, suffix, size):
    video = picture(9, *size)
    with VideoWriter(tmp_path / f"a{suffix}", 12.5) as writer:
        for frame in video:
            writer.write(frame)
    reader = VideoReader(writer.path)
    assert (reader.info.num_frames, reader.info.frame_rate) == (9, Fraction(25, 2))
    written = np.stack(list(reader))
    assert written.shape == video.shape
    error = written - video.astype(int)
    assert abs(error).mean() < (8 if suffix == ".gif" else 4)  # a GIF has 256 colours
    assert abs(error.mean(axis=(0, 1, 2))).max() < 1


@pytest.mark.parametrize("colour", [(230, 30, 40), (20, 200, 60), (30, 40, 220), (250, 250, 250), (5, 5, 5)])
@pytest.mark.parametrize("height", [36, 720])
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_colours_do_not_shift_whatever_the_matrix_of_the_size(tmp_path, colour, height, suffix):
    frame = np.full((height, 48, 3), colour, np.uint8)
    with VideoWriter(tmp_path / f"a{suffix}", 25) as writer:
        writer.write(frame)
    assert abs(next(iter(VideoReader(writer.path))) - frame.astype(int)).max() <= 3


def test_a_folder_of_frames_is_exact(tmp_path, picture):
    video = picture(3)
    with VideoWriter(tmp_path / "frames", 25) as writer:
        for frame in video:
            writer.write(frame)
    np.testing.assert_array_equal(np.stack(list(VideoReader(tmp_path / "frames"))), video)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".gif"])
@pytest.mark.parametrize("ticks", [[0, 40, 80, 200, 220, 500, 1000], [0, 40]])
def test_a_variable_rate_stays_one(tmp_path, clip, suffix, ticks):
    source = clip("source.mkv", count=len(ticks), ticks=ticks)
    written = copy(source, tmp_path / f"a{suffix}").info
    assert written.times == VideoReader(source).info.times
    assert abs(written.duration - VideoReader(source).info.duration) <= Fraction(1, 100)


def test_pixel_shape_is_kept_and_a_rotation_is_written_upright(tmp_path, clip):
    source = clip("source.mp4", rotation=90, aspect=Fraction(8, 9))
    written = copy(source, tmp_path / "a.mp4").info
    assert (written.width, written.height, written.orientation) == (36, 52, (False, False, False))
    assert written.pixel_aspect == Fraction(9, 8)


def heard(path):
    """(codec, seconds, number of zero crossings) of a file's sound."""
    with av.open(str(path)) as container:
        track = container.streams.audio[0]
        wave = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(track)])
        crossings = np.count_nonzero(np.diff(np.signbit(wave)))
        return track.codec_context.name, len(wave) / track.rate, crossings


@pytest.mark.parametrize(
    "source, sound, target, expected",
    [
        ("s.mp4", "aac", "a.mp4", "aac"),
        ("s.mp4", "aac", "a.webm", "opus"),
        ("s.mkv", "libopus", "a.mp4", "opus"),
        ("s.mov", "pcm_s16le", "a.mp4", "pcm_s16le"),
        ("s.mov", "pcm_s16le", "a.mkv", "pcm_s16le"),
        ("s.ts", "aac", "a.mov", "aac"),
    ],
)
def test_sound_is_carried_over(tmp_path, clip, source, sound, target, expected):
    path = clip(source, count=50, sound=sound)
    assert VideoReader(path).info.has_audio
    copy(path, tmp_path / target)
    codec, seconds, crossings = heard(tmp_path / target)
    assert codec == expected
    assert abs(seconds - 2) < 0.1
    assert abs(crossings - heard(path)[2]) < 0.05 * crossings


def test_copied_sound_is_the_same_bytes(tmp_path, clip):
    def packets(path):
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    path = clip("s.mp4", sound="aac")
    copy(path, tmp_path / "a.mp4")
    assert packets(path) == packets(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "frames"])
def test_a_failure_leaves_nothing(tmp_path, picture, name):
    with pytest.raises(RuntimeError, match="halfway"), VideoWriter(tmp_path / name, 25) as writer:
        writer.write(picture(1)[0])
        raise RuntimeError("halfway")
    assert not list(tmp_path.iterdir())


def full_disk(*arguments, **options):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("when", ["write", "finish"])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, picture, monkeypatch, when):
    monkeypatch.setattr(f"gp_jax.video.encoding.VideoEncoder.{when}", full_disk)
    with pytest.raises(UserError, match="No space left"), VideoWriter(tmp_path / "a.gif", 25) as writer:
        writer.write(picture(1)[0])
    assert not list(tmp_path.iterdir())


def test_frames_that_do_not_belong_are_refused_and_leave_nothing(tmp_path, clip, picture):
    info = VideoReader(clip("s.mp4", count=2)).info
    video = picture(3)
    wrong = {
        "size": [video[0], video[1][:-1]],
        "float32": [video[0].astype(np.float32)],
        "more frames": list(video),
        "no frame": [],
    }
    for frames in wrong.values():
        with pytest.raises(ValueError), VideoWriter(tmp_path / "a.mp4", info) as writer:
            for frame in frames:
                writer.write(frame)
    assert [path.name for path in tmp_path.iterdir()] == ["s.mp4"]


def test_a_target_that_cannot_be_is_known_before_the_work(tmp_path):
    (tmp_path / "there.mp4").write_bytes(b"precious")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "0.png").touch()
    for name in ("a.xyz", "there.mp4", "full", "nowhere/a.mp4", "there.mp4/a.mp4"):
        with pytest.raises(UserError, match=name) as caught:
            check_target(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="full"):
        check_target(tmp_path / "full", overwrite=True)
    with pytest.raises(UserError, match="cannot write"):
        check_target("/proc/a.mp4")
    assert check_target(tmp_path / "there.mp4", overwrite=True).read_bytes() == b"precious"


def test_overwriting_replaces_a_file_only_when_the_new_one_is_whole(tmp_path, picture):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"precious")
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, 25, overwrite=True) as writer:
        writer.write(picture(1)[0])
        raise KeyboardInterrupt
    assert path.read_bytes() == b"precious"
    with VideoWriter(path, 25, overwrite=True) as writer:
        writer.write(picture(1)[0])
    assert len(VideoReader(path)) == 1
