"""Odd files come out as they went in: frames, times, colours, orientation; or a sentence says why not."""

import itertools
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from gp_jax.errors import UserError
from gp_jax.video import VideoReader
from gp_jax.video.colours import LUMA, PLAIN_CURVES, PLAIN_PRIMARIES, PLANES, ToYuv
from tests.video.odd_files import INTERLACED, PAD, RATE, film, outpainted, picture, plainly_read


def times_of(ticks, tick=Fraction(1, 1000)):
    return tuple((time - ticks[0]) * tick for time in ticks)


# name: (codec, pixel format, options of `film`)
PLAIN = {
    "h264.mp4": ("libx264", "yuv420p", {}),
    "hevc.mp4": ("libx265", "yuv420p", {"options": {"x265-params": "log-level=none"}}),
    "av1.mp4": ("libsvtav1", "yuv420p", {"video": picture(6, 64, 64)}),
    "mpeg4.mp4": ("mpeg4", "yuv420p", {}),
    "h264.m4v": ("libx264", "yuv420p", {}),
    "prores.mov": ("prores_ks", "yuv422p10le", {}),
    "mjpeg.mov": ("mjpeg", "yuvj420p", {}),
    "animation.mov": ("qtrle", "rgb24", {}),
    "png.mov": ("png", "rgb24", {}),
    "raw.mov": ("rawvideo", "uyvy422", {}),
    "lossless.mkv": ("ffv1", "yuv420p", {}),
    "full chroma.mkv": ("ffv1", "yuv444p", {}),
    "grey.mkv": ("ffv1", "gray", {"video": picture(6)[..., :1].repeat(3, axis=3)}),
    "deep grey.mkv": ("ffv1", "gray16le", {"video": picture(6)[..., :1].repeat(3, axis=3)}),
    "ten bits.mkv": ("ffv1", "yuv420p10le", {}),
    "deep rgb.mkv": ("ffv1", "gbrp16le", {}),
    "rgb.mkv": ("libx264rgb", "bgr24", {}),
    "vp8.webm": ("libvpx", "yuv420p", {}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {}),
    "reordered.avi": ("libx264", "yuv420p", {}),
    "mpeg4 with b.avi": ("mpeg4", "yuv420p", {"options": {"bf": "2"}}),
    "mjpeg.avi": ("mjpeg", "yuvj422p", {}),
    "huffyuv.avi": ("huffyuv", "yuv422p", {}),
    "raw.avi": ("rawvideo", "bgr24", {}),
    "mpeg2.mpg": ("mpeg2video", "yuv420p", {"options": {"bf": "2"}}),
    "h264.ts": ("libx264", "yuv420p", {}),
    "mpeg2.ts": ("mpeg2video", "yuv420p", {}),
    "flv1.flv": ("flv", "yuv420p", {}),
    "h264.flv": ("libx264", "yuv420p", {}),
    "ffv1.nut": ("ffv1", "yuv420p", {}),
    "mpeg2.mxf": ("mpeg2video", "yuv420p", {}),
    "vp9.ivf": ("libvpx-vp9", "yuv420p", {}),
    "windows.asf": ("wmv2", "yuv420p", {}),
    "stream.h264": ("libx264", "yuv420p", {}),
    "stream.m2v": ("mpeg2video", "yuv420p", {}),
    "stream.hevc": ("libx265", "yuv420p", {"options": {"x265-params": "log-level=none"}}),
    "raw.y4m": ("wrapped_avframe", "yuv420p", {}),
    "animated.gif": ("gif", "rgb8", {}),
    "animated.apng": ("apng", "rgb24", {}),
}


@pytest.mark.parametrize("name", PLAIN)
def test_every_container_and_pixel_format(tmp_path, name):
    codec, pixels, options = PLAIN[name]
    source = film(tmp_path / name, codec, pixels, **options)
    before, after, _ = outpainted(source, tmp_path / "out.mp4")
    assert not before.info.damage
    even = tuple(Fraction(index, RATE) for index in range(6))
    assert before.info.times == after.info.times == even
    assert before.info.duration == after.info.duration == Fraction(6, RATE)
    expected = plainly_read(source).astype(int)
    assert abs(np.stack(list(before)) - expected).mean() < 1.5  # FFmpeg's filters place colour half a pixel aside
    assert abs(np.stack([frame[:, PAD:-PAD] for frame in after]) - expected).mean() < (20 if codec == "gif" else 5)


VARIABLE = [0, 40, 80, 200, 220, 500]
CLOCKS = {
    "variable.mp4": ("out.mp4", {"ticks": VARIABLE, "last": 700}),
    "variable.mov": ("out.mkv", {"ticks": VARIABLE, "last": 700}),
    "variable.mkv": ("out.webm", {"ticks": VARIABLE, "last": 700}),
    "even but for the last.mp4": ("out.mov", {"ticks": [0, 100, 200, 300, 400, 500], "last": 3000, "rate": 10}),
    "even but for the last.mkv": ("out.mp4", {"ticks": [0, 100, 200, 300, 400, 500], "last": 3000, "rate": 10}),
    "held at the end.gif": ("out.mp4", {"ticks": [0, 10, 20, 30, 40, 50], "last": 300, "tick": Fraction(1, 100)}),
    "held and kept.gif": ("out.gif", {"ticks": [0, 10, 20, 30, 40, 50], "last": 300, "tick": Fraction(1, 100)}),
    "one missing.avi": ("out.mp4", {"ticks": [0, 1, 2, 4, 5, 6], "last": 1, "tick": Fraction(1, 2), "rate": 2}),
    "one missing.mkv": ("out.mkv", {"ticks": [0, 20, 40, 80, 100, 120], "last": 20, "rate": 50}),
    "late.ts": ("out.mp4", {"ticks": [9000, 9040, 9080, 9120, 9160, 9200], "last": 40}),
    "fast.mkv": ("out.mp4", {"ticks": [0, 4, 8, 13, 17, 21], "last": 4, "rate": 240}),
}


@pytest.mark.parametrize("name", CLOCKS)
def test_every_hold_and_gap_stays(tmp_path, name):
    target, options = CLOCKS[name]
    codec, pixels = {"gif": ("gif", "rgb8"), "avi": ("mpeg4", "yuv420p")}.get(name[-3:], ("libx264", "yuv420p"))
    source = film(tmp_path / name, codec, pixels, **options)
    before, after, _ = outpainted(source, tmp_path / target)
    tick = options.get("tick", Fraction(1, 1000))
    expected = times_of(options["ticks"], tick)
    for info in (before.info, after.info):
        assert max(abs(a - b) for a, b in zip(info.times, expected, strict=True)) <= Fraction(1, 1000)
        assert abs(info.duration - expected[-1] - options["last"] * tick) <= Fraction(2, 1000)


@pytest.mark.parametrize("mirrors", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_turned_and_mirrored_pictures_are_upright(tmp_path, degrees, mirrors, suffix):
    across, down = mirrors
    source = film(
        tmp_path / f"in{suffix}", setup=lambda stream: stream.set_display_rotation(degrees, hflip=across, vflip=down)
    )
    before, after, _ = outpainted(source, tmp_path / "out.mp4")
    expected = np.rot90(plainly_read(source), degrees // 90, axes=(1, 2))
    expected = expected[:, :, ::-1] if across else expected
    expected = expected[:, ::-1] if down else expected
    assert abs(np.stack(list(before)) - expected.astype(int)).mean() < 1.5
    assert abs(np.stack([frame[:, PAD:-PAD] for frame in after]) - expected.astype(int)).mean() < 5


def tags(matrix, primaries, transfer, full=False):
    def setup(stream):
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = matrix, primaries, transfer
        context.color_range = 2 if full else 1

    return setup


# name: (codec, pixels, (matrix, primaries, transfer, whether full range)) in FFmpeg's numbers
TAGS = {
    "BT.709.mp4": ("libx264", "yuv420p", (1, 1, 1)),
    "PAL.mp4": ("libx264", "yuv420p", (5, 5, 6)),
    "NTSC.mov": ("libx264", "yuv420p", (6, 6, 6)),
    "SMPTE 240M.mkv": ("ffv1", "yuv420p", (7, 7, 7)),
    "FCC.mkv": ("ffv1", "yuv444p", (4, 4, 4)),
    "full range.mp4": ("libx264", "yuvj420p", (1, 1, 1, True)),
    "P3 and sRGB.mkv": ("libx264", "yuv444p", (1, 12, 13)),
    "HDR PQ.mp4": ("libx265", "yuv420p10le", (9, 9, 16)),
    "HDR HLG.mkv": ("ffv1", "yuv420p10le", (9, 9, 18)),
    "PQ in VP9.webm": ("libvpx-vp9", "yuv420p", (9, 9, 16)),
}


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv", "out.webm", "out.gif"])
@pytest.mark.parametrize("name", TAGS)
def test_colours_keep_their_tags_where_the_target_can_hold_them(tmp_path, name, target):
    codec, pixels, numbers = TAGS[name]
    options = {"options": {"x265-params": "log-level=none"}} if codec == "libx265" else {}
    source = film(tmp_path / name, codec, pixels, setup=tags(*numbers), **options)
    before, after, notes = outpainted(source, tmp_path / target)
    expected = plainly_read(source).astype(int)
    assert abs(np.stack(list(before)) - expected).mean() < 1.5
    with av.open(str(tmp_path / target)) as container:
        frame = next(container.decode(video=0))
    if target == "out.gif":
        colours = before.info.colours
        is_plain = colours.primaries in PLAIN_PRIMARIES and colours.transfer in PLAIN_CURVES
        assert ("the colour tags" in " ".join(notes)) != is_plain
        return
    matrix = 6 if numbers[0] == 4 and target == "out.webm" else numbers[0]  # VP9 has no word for FCC
    assert (frame.colorspace, frame.color_primaries, frame.color_trc) == (matrix, *numbers[1:3])
    assert (frame.color_range == 2) == (len(numbers) == 4)
    assert abs(np.stack([frame[:, PAD:-PAD] for frame in after]) - expected).mean() < 6
    assert not any("not carried" in note for note in notes)


@pytest.mark.parametrize("matrix", [8, 10, 14])
def test_a_matrix_that_cannot_be_undone_is_told_before_the_work(tmp_path, matrix):
    source = film(tmp_path / "in.mp4", pixels="yuv444p", setup=tags(matrix, 1, 1))
    with pytest.raises(UserError, match=r"in\.mp4 stores its colours by a matrix that cannot be read"):
        VideoReader(source)


def test_writing_rounds_colours_without_bias():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (96, 128, 3), np.uint8)
    flats = rng.integers(0, 256, (12, 16, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    for rgb, matrix, full, format in itertools.product((noise, flats), (1, 6, 9), (False, True), PLANES):
        frame, (bits, (down, across)) = ToYuv(matrix, full, format, cosited=False)(rgb), PLANES[format]
        red, blue = LUMA[matrix]
        r, g, b = np.moveaxis(rgb.astype(float), -1, 0)
        y = red * r + (1 - red - blue) * g + blue * b
        planes = [y, (b - y) / (2 - 2 * blue) + 128, (r - y) / (2 - 2 * red) + 128]
        if not full:
            planes = [16 + y * 219 / 255, *(128 + (plane - 128) * 224 / 255 for plane in planes[1:])]
        sample = np.uint8 if bits == 8 else np.uint16
        for index, (plane, exact) in enumerate(zip(frame.planes, planes)):
            if index:
                exact = exact.reshape(96 // (1 + down), 1 + down, 128 // (1 + across), 1 + across).mean(axis=(1, 3))
            exact = exact * ((2**bits - 1) / 255 if full and not index else 2 ** (bits - 8))
            if full and index:
                exact = 2 ** (bits - 1) + (exact - 2 ** (bits - 1)) * (2**bits - 1) / 255 / 2 ** (bits - 8)
            error = np.frombuffer(plane, sample).reshape(plane.height, -1)[:, : plane.width] - exact
            assert abs(error).max() < 0.501 and abs(error.mean()) < 0.05


# name: (codec, pixels, options of `film`); every other line is of another moment
FIELDS = {
    "top first.mp4": ("libx264", "yuv420p", {"options": INTERLACED | {"x264-params": "tff=1"}}),
    "bottom first.mkv": ("libx264", "yuv420p", {"options": INTERLACED | {"x264-params": "bff=1"}}),
    "mpeg2.mpg": ("mpeg2video", "yuv420p", {"options": INTERLACED}),
    "prores.mov": ("prores_ks", "yuv422p10le", {"options": {"flags": "+ildct"}}),
}


@pytest.mark.parametrize("name", FIELDS)
def test_interlaced_films_are_deinterlaced_and_that_is_said(tmp_path, name):
    codec, pixels, options = FIELDS[name]
    woven = np.full((12, 48, 64, 3), 128, np.uint8)
    for index, field in itertools.product(range(12), (0, 1)):  # a bar that moves between the two fields of a frame
        begin = 2 * (2 * index + (field if name != "bottom first.mkv" else 1 - field))
        woven[index, field::2, begin : begin + 16] = 220
    source = film(tmp_path / name, codec, pixels, video=woven, **options)
    before, after, _ = outpainted(source, tmp_path / "out.mp4")
    assert len(before) == len(after) == 12
    assert any("deinterlaced" in note for note in before.info.notes)

    def comb(frames):
        return np.mean([abs(2.0 * f[1:-1] - f[:-2] - f[2:]).mean() for f in frames])

    video = list(before)
    assert comb(video) < comb(plainly_read(source)) / 4
    for index in (0, 3, 10, 11):  # whichever key frame reading begins at
        np.testing.assert_array_equal(next(before.frames_at([index])), video[index])


ALPHA = {
    "a.webm": ("libvpx-vp9", "yuva420p", {"auto-alt-ref": "0"}),
    "prores.mov": ("prores_ks", "yuva444p10le", {"profile": "4444"}),
    "animation.mov": ("qtrle", "argb", {}),
    "a.mkv": ("ffv1", "bgra", {}),
    "a.apng": ("apng", "rgba", {}),
}


@pytest.mark.parametrize("name", ALPHA)
def test_transparent_parts_are_shown_over_black(tmp_path, name):
    codec, pixels, options = ALPHA[name]
    alpha = np.zeros((6, 24, 32, 1), np.uint8)
    alpha[:, :, 16:] = 255
    video = np.concatenate([picture(6), alpha], axis=3)
    before = VideoReader(film(tmp_path / name, codec, pixels, video=video, options=options))
    assert "its transparent parts are shown over black" in before.info.notes
    frames = np.stack(list(before))
    assert frames[:, :, :12].max() < 12
    assert abs(frames[:, :, 20:].astype(int) - video[:, :, 20:, :3]).mean() < 6
    opaque = np.concatenate([picture(6), np.full_like(alpha, 255)], axis=3)
    assert not any("black" in n for n in VideoReader(film(tmp_path / name, codec, pixels, video=opaque)).info.notes)


def test_the_hidden_colour_of_an_animated_gif_is_not_shown(tmp_path):
    alpha = np.where(np.arange(32) < 16, 0, 255).astype(np.uint8) * np.ones((24, 1), np.uint8)
    frames = [Image.fromarray(np.dstack([colour, alpha])) for colour in picture(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100, disposal=2)
    before = VideoReader(tmp_path / "a.gif")
    assert "its transparent parts are shown over black" in before.info.notes
    shown = np.stack(list(before))
    assert shown[:, :, :16].max() == 0 and shown[:, :, 16:].min() > 0


@pytest.mark.parametrize("options", [{}, {"duration": 0}, {"loop": 2}])
def test_a_gif_without_times_has_all_its_pictures(tmp_path, options):
    """As Pillow writes them by default; FFmpeg takes all for one. Browsers show each for a tenth of a second."""
    frames = [Image.fromarray(frame) for frame in picture(6)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], **options)
    clip = VideoReader(tmp_path / "a.gif")
    assert (len(clip), clip.info.frame_rate, clip.info.duration) == (6, 10, Fraction(6, 10))
    assert clip.info.plays == (options["loop"] + 1 if "loop" in options else 1) and not clip.info.damage
    assert abs(np.stack(list(clip)).astype(int) - picture(6)).mean() < 12


def test_what_hdr_says_of_the_screen_is_named_as_lost(tmp_path):
    screen = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    options = {"x265-params": f"log-level=none:master-display={screen}:max-cll=1000,400"}
    source = film(tmp_path / "a.mp4", "libx265", "yuv420p10le", setup=tags(9, 9, 16), options=options)
    before, _, notes = outpainted(source, tmp_path / "out.mp4")
    assert notes == ["not carried over: the mastering display, the content light level"]
    assert [note for note in before.info.notes if "HDR (PQ)" in note]
    assert "its 10 bits a channel become 8" in before.info.notes
