"""What goes from one file into another beside the picture: sound, subtitles, attachments, chapters and names.

Packets are copied bit for bit where the new container takes their codec, and sound is encoded anew where it does not.
They enter the file in step with the picture, since players read both side by side. What has no place in the new file is
found by looking: `lost` compares what two files hold.
"""

import contextlib
import io
import itertools
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error
from av.audio.codeccontext import AudioCodecContext
from av.container import InputContainer, OutputContainer
from av.stream import AttachmentStream, Stream

from gp_jax.video.clock import LEAP
from gp_jax.video.colours import PLAIN_CURVES, PLAIN_PRIMARIES
from gp_jax.video.info import VideoInfo
from gp_jax.video.reading import VideoReader
from gp_jax.video.sources import COVER, OPTIONS

if TYPE_CHECKING:
    from av.container.core import Chapter

SAMPLE_RATE = 48_000  # every codec here takes it, and Opus little else
BIT_RATE = 80_000  # a second, of each channel that is encoded anew
SAMPLES = 20  # packets of a track that tell whether a container takes it
LAYOUTS = {3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}  # what encoders know, by their channels

# What a container writes into its metadata for itself, in lower case.
TECHNICAL = {
    "software",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "encoder",
    "handler_name",
    "vendor_id",
    "duration",
}


class Tracks:
    """All that `source` holds beside its picture, as streams of `output`.

    Args:
      source: a clip in a container; its first frame is shown at 0 of the new file's clock.
      output: an open container, before its first packet.
      container: FFmpeg's name of its format.
      sound: the encoder for sound that the container does not take as it is; None for a silent container.
    """

    def __init__(self, source: VideoReader, output: OutputContainer, container: str, sound: str | None):
        self._path = source.path
        self._input = _open(source.path)
        self._output, self._container, self._sound = output, container, sound
        self._info = source.info
        self._convert: dict[int, _Copied | _Encoded] = {}
        picture = self._input.streams.best("video")
        output.metadata.update(_names(self._input))
        if sound:  # a container of films, not of animations
            output.set_chapters(_chapters(self._input, self._info))
        for stream in self._input.streams:
            new = output.streams.video[0] if stream == picture else self._add(stream)
            if new is not None:
                new.metadata.update(_names(stream))
                if stream != picture:
                    new.disposition = stream.disposition
        self._packets = self._converted()
        self._next = next(self._packets, None)

    def mux_until(self, seconds: Fraction | float):
        """Writes all packets that begin by then."""
        while self._next is not None and begin_of(self._next) <= seconds:
            self._mux_next()

    def mux_samples(self):
        """Writes the first packets of every track, for a trial of what the container takes."""
        missing = {convert.stream.index: SAMPLES for convert in self._convert.values()}
        while self._next is not None and any(missing.values()):
            index = self._next.stream_index
            self._mux_next(skip=not missing[index])
            missing[index] -= bool(missing[index])

    def close(self):
        self._input.close()

    def _mux_next(self, skip: bool = False):
        if self._next is not None and not skip:
            with contextlib.suppress(av.error.ArgumentError, av.error.InvalidDataError):  # a damaged packet
                self._output.mux(self._next)
        self._next = next(self._packets, None)

    def _add(self, stream: Stream) -> Stream | None:
        """The stream of the new file for one of the old, or None if it has no place there."""
        if stream.type == "attachment":
            return self._output.add_stream_from_template(stream) if self._container == "matroska" else None
        if stream.type not in ("audio", "subtitle") or not self._sound or _repeats_names(stream):
            return None
        if stream.codec_context is None:  # of a codec that nobody knows
            return None
        if self._takes(stream):
            new = self._output.add_stream_from_template(stream)
            self._convert[stream.index] = _Copied(self._info, new)
        elif isinstance(stream, av.AudioStream):
            new = self._output.add_stream(self._sound, SAMPLE_RATE, layout=_layout(self._sound, stream))
            assert isinstance(new, av.AudioStream)
            new.bit_rate = BIT_RATE * new.layout.nb_channels
            self._convert[stream.index] = _Encoded(self._info, new)
        else:
            return None
        return new

    def _takes(self, stream: Stream) -> bool:
        """Whether the container takes a track as it is. Its table of codecs says less than a try."""
        try:
            with _open(self._path) as source, av.open(io.BytesIO(), "w", format=self._container) as output:
                track = source.streams[stream.index]
                copied = _Copied(self._info, output.add_stream_from_template(track))
                for packet in itertools.islice(source.demux(track), SAMPLES):
                    output.mux(list(copied(packet)))
                output.start_encoding()
        except (av.error.FFmpegError, ValueError):
            return False
        return True

    def _converted(self) -> Iterator[av.Packet]:
        """All packets up to where the file is cut off."""
        streams = [self._input.streams[index] for index in self._convert]
        if not streams:
            return
        last: dict[int, Fraction] = {}
        with contextlib.suppress(av.error.FFmpegError):
            for old in self._input.demux(streams):
                for packet in self._convert[old.stream.index](old):
                    time = begin_of(packet)
                    if old.stream.index not in last or time > last[old.stream.index]:  # no muxer takes others
                        last[old.stream.index] = time
                        yield packet


def lost(source: VideoReader, target: Path | None) -> list[str]:
    """Names of what a clip holds and a file written of it does not; None for a target that holds pictures alone."""
    there = _inventory(source.path, source.info) if source.is_container else {}
    found = {} if target is None else _inventory(target)
    names = [name for name, value in there.items() if found.get(name) != value]
    # What is gone as a whole needs no list of its parts.
    whole = [name for name in names if not name.endswith(tuple(f" of {other}" for other in names))]
    return [*whole, *source.info.unkept]


def begin_of(packet: av.Packet) -> Fraction:
    """Seconds at which a packet of a new file is decoded; each of those has a time."""
    assert packet.dts is not None
    return packet.dts * packet.time_base


class _Clock:
    """Times of one track on the clock of the new file, in ticks of the track.

    The clock of a file may restart; what was added to it for the picture is added for every track.
    """

    def __init__(self, start: Fraction, leaps: tuple[Fraction, ...]):
        self._shift, self._start, self._leaps = -start, start, iter(leaps)
        self._last: Fraction | None = None
        self._length = Fraction(0)

    def shift(self, ticks: int, duration: int, time_base: Fraction) -> int:
        """Ticks to add to the times of a packet or frame that begins at `ticks`; ask for each, in order."""
        now = ticks * time_base + self._shift
        if self._last is not None:
            step = now - self._last
            back = step < -max(self._length, Fraction(1, 10))
            leap = next(self._leaps, None) if back or step > LEAP else None
            if leap is not None:
                self._shift = leap - self._start
            elif back:
                self._shift += self._length - step
        self._last, self._length = ticks * time_base + self._shift, duration * time_base
        return round(self._shift / time_base)


class _Copied:
    """Packets as they are, at their new times."""

    def __init__(self, info: VideoInfo, stream: Stream):
        self.stream, self._clock, self._info = stream, _Clock(info.start, info.leaps), info

    def __call__(self, packet: av.Packet) -> Iterator[av.Packet]:
        if packet.dts is None:
            packet.dts = packet.pts
        if packet.dts is None or not packet.size:
            return
        shift = self._clock.shift(packet.dts, packet.duration or 0, packet.time_base)
        packet.dts += shift
        packet.pts = packet.dts if packet.pts is None else packet.pts + shift
        packet.stream = self.stream
        if self._info.first is None or _cut(packet, self._info.duration):
            yield packet


class _Encoded:
    """Sound decoded and encoded anew; a damaged packet is a moment of silence."""

    def __init__(self, info: VideoInfo, stream: av.AudioStream):
        self.stream, self._clock, self._end, self._info = stream, _Clock(info.start, info.leaps), None, info
        self._kind: tuple[str, str, int] | None = None

    def __call__(self, packet: av.Packet) -> Iterator[av.Packet]:
        frames = []
        with contextlib.suppress(av.error.FFmpegError):
            frames = packet.decode()
        for frame in frames:
            if frame.pts is not None:
                length = round(frame.samples / frame.rate / frame.time_base)
                frame.pts += self._clock.shift(frame.pts, length, frame.time_base)
                if self._end is not None:
                    frame.pts = max(frame.pts, self._end)
                self._end = frame.pts + length
                if self._info.first is not None and not 0 <= frame.pts * frame.time_base < self._info.duration:
                    continue
                for resampled in self._resample(frame):
                    yield from self.stream.encode(resampled)
        if not packet.size:  # the end
            yield from self.stream.encode()

    def _resample(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        kind = frame.format.name, frame.layout.name, frame.rate
        if kind != self._kind:  # the first, or sound that changes on the way
            self._kind = kind
            self._resampler = av.AudioResampler(self.stream.format, self.stream.layout, self.stream.rate)
        return self._resampler.resample(frame)


def _open(path: Path) -> InputContainer:
    return av.open(f"file:{path}", options=OPTIONS, metadata_errors="replace")


def _layout(encoder: str, track: av.AudioStream) -> str:
    """The arrangement of channels nearest to a track's that an encoder takes."""
    channels = track.layout.nb_channels
    for name in filter(None, (track.layout.name, LAYOUTS.get(channels))):
        with contextlib.suppress(av.error.FFmpegError, ValueError, TypeError):
            context = av.CodecContext.create(encoder, "w")
            assert isinstance(context, AudioCodecContext)
            formats = context.codec.audio_formats
            assert formats  # an encoder has some
            context.sample_rate, context.layout, context.format = SAMPLE_RATE, name, formats[0]
            context.open()
            return name
    return "mono" if channels == 1 else "stereo"


def _inventory(path: Path, info: VideoInfo | None = None) -> dict[str, object]:
    """What a file holds beside its pictures: the names that a user knows it by, and what must be equal in a copy.

    Args:
      path: of the file.
      info: of the frames that are copied of it; None for all.
    """
    found = {}
    with _open(path) as file:
        found |= {f"the {key}": value for key, value in _names(file).items()}
        if chapters := _chapters(file, info) if info else file.chapters():
            found["chapters"] = [chapter["metadata"].get("title") for chapter in chapters]
        picture = file.streams.best("video")
        counts = Counter()
        for stream in file.streams:
            counts[stream.type] += 1
            label = f"{stream.type} track {counts[stream.type]}"
            if stream == picture and isinstance(stream, av.VideoStream):
                label = "the picture"
                if stream.sample_aspect_ratio not in (None, 1):
                    found["the shape of pixels"] = stream.sample_aspect_ratio
                if stream.color_primaries not in PLAIN_PRIMARIES or stream.color_trc not in PLAIN_CURVES:
                    found["the colour tags"] = stream.color_primaries, stream.color_trc
            elif isinstance(stream, AttachmentStream):
                label = f"the attachment {stream.name}"
                found[label] = stream.data
            elif stream.type == "video":
                found["the cover picture" if stream.disposition & COVER else label] = True
            elif isinstance(stream, av.AudioStream):
                found[label] = True
                if stream.codec_context is not None:
                    found[f"all channels of {label}"] = stream.layout.nb_channels
            elif _repeats_names(stream):
                continue
            else:
                found[label] = True
            found |= {f"the {key} of {label}": value for key, value in _names(stream).items()}
    return found


def _names(owner: InputContainer | Stream) -> dict[str, str]:
    """What people called a file or a track: its metadata, less what containers write for themselves."""
    found = {key.lower(): value for key, value in owner.metadata.items()}
    if isinstance(owner, Stream):
        found.pop("creation_time", None)  # a copy of the file's
        if found.get("language") == "und":
            del found["language"]
    technical = ("_statistics", "number_of_", "bps", "duration-")
    return {key: value for key, value in found.items() if key not in TECHNICAL and not key.startswith(technical)}


def _repeats_names(stream: Stream) -> bool:
    """Whether a track is how QuickTime stores chapters or a time code, which are written as such."""
    is_chapters = stream.type in ("subtitle", "data") and 0 < stream.frames == len(stream.container.chapters())
    return is_chapters or (stream.type == "data" and "timecode" in stream.metadata)


def _chapters(file: InputContainer, info: VideoInfo) -> "list[Chapter]":
    """Those of a file on the clock of the new one, of a part of its frames those that begin or last into it."""
    moved = [_moved(chapter, info) for chapter in file.chapters()]
    return moved if info.first is None else [chapter for chapter in moved if chapter["start"] < chapter["end"]]


def _moved(chapter: "Chapter", info: VideoInfo) -> "Chapter":
    assert chapter["time_base"] is not None
    shift = round(info.start / chapter["time_base"])
    start, end = (max(0, chapter[key] - shift) for key in ("start", "end"))
    if info.first is not None:
        last = round(info.duration / chapter["time_base"])
        start, end = min(start, last), min(end, last)
    return {**chapter, "start": start, "end": end}


def _cut(packet: av.Packet, duration: Fraction) -> bool:
    """Whether a packet of a new file is heard or seen within its pictures' time; subtitles are cut to it."""
    assert packet.pts is not None
    end = round(duration / packet.time_base)
    if packet.pts >= end:
        return False
    if packet.stream.type == "subtitle" and packet.duration:
        stop = min(packet.pts + packet.duration, end)
        packet.pts = packet.dts = max(packet.pts, 0)
        packet.duration = max(stop - packet.pts, 0)
        return packet.duration > 0
    return packet.pts >= 0
