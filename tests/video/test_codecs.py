"""Every way to encode that is offered gives back what went in, and what has no place is told with what has one."""

import av
import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.video import CODECS, FORMATS, Coding, VideoReader, VideoWriter
from gp_jax.video.codecs import codecs_for
from gp_jax.video.colours import PLANES, RGB
from gp_jax.video.encoding import way_of

FILES = [suffix for suffix, style in FORMATS.items() if style.codec in CODECS]


def written(path, video, coding):
    with VideoWriter(path, 25, size=video.shape[1:3], coding=coding) as writer:
        for frame in video:
            writer.write(frame)
    return np.stack(list(VideoReader(path)))


@pytest.mark.parametrize("suffix, codec", [(suffix, codec) for suffix in FILES for codec in CODECS])
def test_every_codec_gives_the_picture_back_or_says_what_does(tmp_path, picture, suffix, codec):
    fitting, video = codecs_for(FORMATS[suffix].container), picture(5, 64, 96)
    if codec not in fitting:
        with pytest.raises(UserError, match=f"{codec} does not go into {suffix}, which takes {', '.join(fitting)}"):
            written(tmp_path / f"a{suffix}", video, Coding(codec))
        assert not list(tmp_path.iterdir())
        return
    error = written(tmp_path / f"a{suffix}", video, Coding(codec)) - video.astype(int)
    assert abs(error).max() == 0 if codec == "ffv1" else abs(error).mean() < 5
    assert abs(error.mean(axis=(0, 1, 2))).max() < 1


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("length", [1, 2])
def test_clips_shorter_than_the_delay_of_an_encoder_are_written_every_time(tmp_path, picture, suffix, length):
    """x265 leaves the times of decoding unset, and then one file in ten cannot be written."""
    for number in range(40):
        path = tmp_path / f"{number}{suffix}"
        assert len(written(path, picture(length, 48, 64), Coding("hevc"))) == length
        with av.open(str(path)) as file:  # Matroska stores one of the two times
            assert suffix == ".mkv" or all(packet.dts == packet.pts for packet in file.demux(video=0) if packet.size)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("pixels", (*PLANES, *RGB))
def test_colours_do_not_shift_however_they_are_stored(tmp_path, codec, pixels):
    frame = np.full((48, 64, 3), (230, 30, 40), np.uint8)
    try:
        read = written(tmp_path / "a.mkv", frame[None], Coding(codec, pixels=pixels))
    except UserError as error:
        assert f"--pix-fmt of {codec} is one of" in str(error)
        return
    assert abs(read - frame.astype(int)).max() <= (0 if pixels in RGB and codec == "ffv1" else 3)


def test_more_is_lost_the_higher_crf_is(tmp_path, picture):
    video, sizes = picture(5, 64, 96), []
    for crf in (5, 45):
        for codec in ("h264", "hevc", "vp9", "av1"):
            written(tmp_path / f"{codec}-{crf}.mkv", video, Coding(codec, crf))
            sizes.append((tmp_path / f"{codec}-{crf}.mkv").stat().st_size)
    assert all(low > 1.5 * high for low, high in zip(sizes[:4], sizes[4:]))


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "av1"])
def test_crf_0_is_the_best(tmp_path, picture, codec):
    video = picture(3, 64, 96)
    best, good, default = (
        abs(written(tmp_path / f"{crf}.mkv", video, Coding(codec, crf)) - video.astype(int)).mean()
        for crf in (0, 2, None)
    )
    assert best <= good < default


REFUSED = {
    "no crf": (".mov", Coding("prores", crf=3), (48, 64), "prores has no --crf: leave it out, or choose one of"),
    "crf too high": (".mp4", Coding(crf=52), (48, 64), "--crf of h264 goes from 0, the best, to 51, not to 52"),
    "pixels of another codec": (
        ".mov",
        Coding("prores", pixels="yuv420p"),
        (48, 64),
        "one of yuv422p10le, yuv444p10le",
    ),
    "odd": (".mp4", Coding(pixels="yuv420p"), (48, 63), "no room for the odd side of 63x48 pixels: ask for --pix-fmt"),
    "odd for all": (".mp4", Coding("av1"), (47, 64), "av1 stores colour at half the resolution, and 64x47 has an odd"),
    "a GIF": (".gif", Coding(crf=3), (48, 64), ".gif has no choice of --codec, --crf or --pix-fmt"),
    "a folder": ("", Coding("h264"), (48, 64), "a folder of images has no choice"),
}


@pytest.mark.parametrize("suffix, coding, size, sentence", REFUSED.values(), ids=REFUSED)
def test_what_has_no_place_is_told_with_what_has(suffix, coding, size, sentence):
    with pytest.raises(UserError) as told:
        way_of(suffix, coding, *size)
    assert sentence in str(told.value)


@pytest.mark.parametrize("codec", ["h264", "hevc", "prores", "ffv1", "vp9"])
def test_odd_sides_stay(tmp_path, picture, codec):
    assert written(tmp_path / "a.mkv", picture(2, 35, 51), Coding(codec)).shape == (2, 35, 51, 3)
