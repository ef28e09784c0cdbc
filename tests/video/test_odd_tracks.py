"""What lies beside the pictures of an odd file is kept or named; what is damaged or changes on the way is told."""

from fractions import Fraction

import av
import pytest

from gp_jax.errors import UserError
from gp_jax.video import VideoReader, VideoWriter
from tests.video.odd_files import film, joined, outpainted, picture, tone


def subtitles(container):
    is_mkv = container.format.name == "matroska"
    stream = container.add_mux_stream("subrip" if is_mkv else "mov_text")
    stream.metadata["language"], stream.time_base = "fre", Fraction(1, 1000)
    packet = av.Packet(b"hello" if is_mkv else b"\0\5hello")
    packet.stream, packet.pts, packet.dts, packet.duration = stream, 20, 20, 100
    packet.time_base = Fraction(1, 1000)
    return [packet]


def everything(container):
    container.metadata.update(title="A walk", artist="Ann", date="2021", comment="by the sea")
    starts = (0, 100), (100, 240)
    chapters = [{"id": i, "start": a, "end": b, "time_base": Fraction(1, 1000)} for i, (a, b) in enumerate(starts)]
    container.set_chapters([chapter | {"metadata": {"title": f"part {chapter['id']}"}} for chapter in chapters])
    packets = subtitles(container)
    if container.format.name == "matroska":
        container.add_attachment("font.ttf", "font/ttf", b"letters")
    return packets


def cover(container):
    picture = av.VideoFrame(64, 64, "yuvj420p")
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 64, 64, "yuvj420p", Fraction(1)
    container.add_attachment("cover.jpg", "image/jpeg", bytes(context.encode(picture)[0]))


BOTH = ["audio track 1", "audio track 2"]
NAMES = ["the title", "the artist", "the date", "the comment"]
TWO = (("aac", "stereo", "ger"), ("aac", "mono", "eng"))
# name: (source, options of `film`, target, what one line names as lost)
TRACKS = {
    "mkv to mkv": ("in.mkv", {"sounds": TWO, "extras": everything}, "out.mkv", []),
    "mkv to mp4": (
        "in.mkv",
        {"sounds": TWO, "extras": everything},
        "out.mp4",
        ["subtitle track 1", "the attachment font.ttf"],
    ),
    "mov to mov": ("in.mov", {"sounds": TWO, "extras": everything}, "out.mov", []),
    "mp4 to mkv": ("in.mp4", {"sounds": TWO, "extras": everything}, "out.mkv", ["subtitle track 1"]),
    "mp4 to webm": ("in.mp4", {"sounds": TWO, "extras": everything}, "out.webm", ["subtitle track 1"]),
    "mp4 to gif": (
        "in.mp4",
        {"sounds": TWO, "extras": everything},
        "out.gif",
        [*NAMES, "chapters", *BOTH, "subtitle track 1"],
    ),
    "mp4 to a folder": ("in.mp4", {"sounds": TWO}, "out", ["the frame times", *BOTH]),
    "24 bits in mov": ("in.mov", {"sounds": [("pcm_s24le", "stereo", "ger")]}, "out.mov", []),
    "24 bits to mkv": ("in.mov", {"sounds": [("pcm_s24le", "stereo", "ger")]}, "out.mkv", []),
    "floats to mp4": ("in.mkv", {"sounds": [("pcm_f32le", "stereo", "ger")]}, "out.mp4", []),
    "5.1 in mkv": ("in.mkv", {"sounds": [("ac3", "5.1", "ger")]}, "out.mkv", []),
    "5.1 to mp4": ("in.ts", {"sounds": [("ac3", "5.1", "ger")]}, "out.mp4", []),
    "5.1 encoded anew": ("in.mkv", {"sounds": [("ac3", "5.1", "ger")]}, "out.webm", []),
    "7.1 encoded anew": ("in.mkv", {"sounds": [("flac", "7.1", "ger")]}, "out.webm", []),
    "quad encoded anew": ("in.mkv", {"sounds": [("flac", "quad", "ger")]}, "out.m4v", []),
    "DTS-like mp2 in mkv": ("in.mkv", {"sounds": [("mp2", "stereo", "ger")]}, "out.mkv", []),
    "aac of ts": ("in.ts", {"sounds": [("aac", "stereo", "ger")]}, "out.mp4", []),
    "lossless": ("in.mkv", {"sounds": [("flac", "5.1", "ger")]}, "out.mp4", []),
    "flv": ("in.flv", {"sounds": [("libmp3lame", "stereo", "ger")]}, "out.mp4", []),
}
ENCODED = {"floats to mp4", "mp4 to webm", "5.1 encoded anew", "7.1 encoded anew", "quad encoded anew"}


def sounds(path):
    with av.open(str(path)) as container:
        return [(t.codec_context.codec.canonical_name, t.layout.nb_channels) for t in container.streams.audio]


def sound_bytes(path):
    with av.open(str(path)) as container:
        return b"".join(bytes(packet) for packet in container.demux(audio=0))


def seconds_heard(path):
    with av.open(str(path)) as container:
        return sum(frame.samples / frame.rate for frame in container.decode(audio=0))


def test_a_cover_is_no_film_and_a_film_with_a_cover_is_one(tmp_path):
    _, _, notes = outpainted(film(tmp_path / "in.mkv", extras=cover), tmp_path / "out.mp4")
    assert len(VideoReader(tmp_path / "out.mp4")) == 6 and "the cover picture" in notes[0]
    with av.open(str(tmp_path / "song.mkv"), "w") as container:
        track = container.add_stream("aac", 48_000, layout="mono")
        cover(container)
        container.mux(tone(track, Fraction(0)))
    with pytest.raises(UserError, match=r"song\.mkv has no video in it, but sound with a cover picture"):
        VideoReader(tmp_path / "song.mkv")


@pytest.mark.parametrize("name", TRACKS)
def test_tracks_and_names_are_kept_or_named_in_one_line(tmp_path, name):
    source, options, target, missing = TRACKS[name]
    source = film(tmp_path / source, video=picture(25), **options)
    _, _, notes = outpainted(source, tmp_path / target)
    line = "".join(note for note in notes if "not carried over" in note)
    assert line.removeprefix("not carried over: ") == ", ".join(missing)
    if target in ("out.gif", "out"):
        return
    before, after = sounds(source), sounds(tmp_path / target)
    assert [channels for _, channels in before] == [channels for _, channels in after]
    assert abs(seconds_heard(tmp_path / target) - seconds_heard(source)) < 0.15
    if name not in ENCODED | {"aac of ts"}:  # whose packets lose the headers of ADTS
        assert before == after
        assert sound_bytes(source).endswith(sound_bytes(tmp_path / target))
    with av.open(str(source)) as old, av.open(str(tmp_path / target)) as new:
        for key in ("title", "artist", "date", "comment"):
            values = [{k.lower(): v for k, v in file.metadata.items()}.get(key) for file in (old, new)]
            assert values[0] == values[1] or f"the {key}" in line
        assert [t.metadata.get("language") for t in new.streams.audio] == [
            t.metadata.get("language", "und" if target.endswith(("mp4", "mov", "m4v")) else None)
            for t in old.streams.audio
        ]
        assert [c["metadata"] for c in old.chapters()] == [c["metadata"] for c in new.chapters()]


def test_a_part_has_the_chapters_and_subtitles_of_its_time(tmp_path):
    source = film(tmp_path / "in.mkv", video=picture(6), extras=everything)  # 25 a second, so of 240 ms
    found = {}
    for start, stop in ((0, 2), (2, 6), (4, 6)):
        part = VideoReader(source).part(start, stop)
        with VideoWriter(tmp_path / f"{start}.mkv", part.info, audio_from=part, size=(36, 52)) as writer:
            for frame in part:
                writer.write(frame)
        assert not writer.notes
        with av.open(str(writer.path)) as file:
            chapters = [(c["metadata"]["title"], c["start"], c["end"]) for c in file.chapters()]
            texts = [(p.pts, p.duration, bytes(p)) for p in file.demux(subtitles=0) if p.size]
        found[start] = [(title, begin // 10**6, end // 10**6) for title, begin, end in chapters], texts
    assert found[0] == ([("part 0", 0, 80)], [(20, 60, b"hello")])
    assert found[2] == ([("part 0", 0, 20), ("part 1", 20, 160)], [(0, 40, b"hello")])
    assert found[4] == ([("part 1", 0, 80)], [])


@pytest.mark.parametrize("plays", [0, 1, 3])
def test_an_animation_plays_as_often_as_before(tmp_path, plays):
    loop = {"loop": str(plays - 1 or -1) if plays else "0"}
    source = film(tmp_path / "in.gif", "gif", "rgb8", container_options=loop)
    reader, after, notes = outpainted(source, tmp_path / "out.gif")
    assert reader.info.plays == after.info.plays == plays and not notes
    assert "how often it plays" in outpainted(source, tmp_path / "out.mp4")[2][0]
    assert outpainted(source, tmp_path / "OUT.GIF")[2] == notes


@pytest.mark.parametrize("rate", [60, 120, Fraction(24000, 1001)])
def test_a_gif_takes_as_long_as_its_source(tmp_path, rate):
    source = film(tmp_path / "in.mp4", rate=rate, video=picture(30))
    before, after, notes = outpainted(source, tmp_path / "out.gif")
    assert abs(before.info.duration - after.info.duration) <= Fraction(1, 100)
    for index, time in enumerate(after.info.times):
        assert abs(time - before.info.times[index] if rate < 50 else 0) <= Fraction(1, 100)
    assert ("left out" in " ".join(notes)) == (rate > 50)


def test_a_first_frame_that_comes_too_fast_hinders_no_gif(tmp_path):
    source = film(tmp_path / "in.mkv", ticks=[0, 4, 104, 204, 304, 404], last=100)
    _, after, notes = outpainted(source, tmp_path / "out.gif")
    assert len(after) == 5 and after.info.duration == Fraction(1, 2)
    assert ".gif is too slow for 1 of its 6 frames, which are left out; its length stays" in notes


def test_a_clock_that_restarts_goes_on_and_the_sound_with_it(tmp_path):
    parts = [
        film(
            tmp_path / f"{i}.ts",
            video=picture(25),
            sounds=[("aac", "mono", "ger")],
            ticks=[s + 40 * k for k in range(25)],
        )
        for i, s in enumerate((5000, 1000))
    ]
    source = joined(tmp_path / "in.ts", *parts)
    for target in ("out.mp4", "out.mkv", "out.webm"):
        before, after, _ = outpainted(source, tmp_path / target)
        for info in (before.info, after.info):
            assert max(abs(t - Fraction(k, 25)) for k, t in enumerate(info.times)) <= Fraction(1, 1000)
        assert len(before) == len(after) == 50
        assert abs(seconds_heard(tmp_path / target) - 2) < 0.1


def test_a_size_that_changes_is_told_before_the_work(tmp_path):
    sizes = [film(tmp_path / f"{w}.ts", video=picture(6, 24, w)) for w in (32, 48)]
    with pytest.raises(UserError, match=r"changes from 32x24 to 48x24 pixels at frame 6"):
        VideoReader(joined(tmp_path / "in.ts", *sizes))


CUT = {
    "a.mp4": ("libx264", "yuv420p", {"container_options": {"movflags": "faststart"}}),
    "a.mov": ("mjpeg", "yuvj420p", {"container_options": {"movflags": "faststart"}}),
    "a.mkv": ("libx264", "yuv420p", {}),
    "a.webm": ("libvpx-vp9", "yuv420p", {}),
    "a.avi": ("mpeg4", "yuv420p", {}),
    "a.ts": ("libx264", "yuv420p", {}),
    "a.flv": ("flv", "yuv420p", {}),
    "a.gif": ("gif", "rgb8", {}),
    "a.apng": ("apng", "rgb24", {}),
    "a.nut": ("ffv1", "yuv420p", {}),
    "a.mxf": ("mpeg2video", "yuv420p", {}),
    "a.mpg": ("mpeg2video", "yuv420p", {}),
    "a.asf": ("wmv2", "yuv420p", {}),
}


@pytest.mark.parametrize("share", [0.6, 0.97])
@pytest.mark.parametrize("name", CUT)
def test_a_file_that_is_cut_off_is_told_in_every_container(tmp_path, name, share):
    codec, pixels, options = CUT[name]
    path = film(tmp_path / name, codec, pixels, video=picture(25, 48, 64), **options)
    assert not VideoReader(path).info.damage
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share) | 1])  # an odd length: not at the end of a packet of 188 bytes
    if (name, share) == ("a.mxf", 0.97):  # its last part says where the others lie
        with pytest.raises(UserError, match="truncated"):
            VideoReader(path)
        return
    reader = VideoReader(path)
    assert "truncated or damaged" in reader.info.damage
    assert len(list(reader)) == len(reader) <= 25
