"""A video file that grows frame by frame, all that belongs to the picture beside it.

`FORMATS` says for every suffix what goes into it; a new format is one line there.

Which codec does it, and how, can be wished (codecs.py). Sizes are kept exactly. Video codecs store colour at half the
resolution (4:2:0), and odd sides have no half: a clip with an odd side is stored with full colour (4:4:4), which
browsers and hardware players may refuse. Colours keep the tags of their source. Where it has none, the matrix is the
one that players assume for the size, and is written.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import av.filter
import numpy as np

from gp_jax.errors import UserError
from gp_jax.video.clock import exact_tick, rate_of, stamps, thinned
from gp_jax.video.codecs import CODECS, PLAIN, Chosen, Coding, chosen
from gp_jax.video.colours import BT601, FULL_RANGE, NO_TAGS, RGB, RGB_MATRIX, Colours, ToYuv, matrix_of
from gp_jax.video.info import VideoInfo
from gp_jax.video.priority import kept_priority
from gp_jax.video.reading import VideoReader
from gp_jax.video.tracks import Tracks, begin_of


@dataclass(frozen=True)
class Format:
    """What goes into a kind of file.

    Attributes:
      container: FFmpeg's name.
      codec: one of `CODECS`, where no other is wished; or gif, which has no other.
      container_options: of the muxer.
      sound: the encoder of sound that the container does not take as it is; None where it takes no sound.
      tick: seconds of the container's clock; None where it takes any.
      least_ticks: for which a frame must stay.
      most_ticks: for which a frame can stay.
    """

    container: str
    codec: str
    container_options: dict[str, str] = field(default_factory=dict)
    sound: str | None = None
    tick: Fraction | None = None
    least_ticks: int = 1
    most_ticks: float = math.inf


REPLACED = {("libvpx-vp9", 4): BT601}  # matrices that a codec has no word for
_DELAY = 3  # frames; of clips that are shorter x265 says when they are decoded by memory that it has not set
COSITED = ("libx264", "libx265", "prores_ks")  # with a sample of colour on the left one of its pixels
TAGGED = ("mp4", "mov")  # containers whose players go by tags

_START = {"movflags": "faststart"}
_MS = Fraction(1, 1000)

FORMATS = {
    ".mp4": Format("mp4", "h264", _START, "aac"),
    ".m4v": Format("ipod", "h264", _START, "aac"),
    ".mov": Format("mov", "h264", _START, "aac"),
    ".mkv": Format("matroska", "h264", sound="aac", tick=_MS),
    ".webm": Format("webm", "vp9", sound="libopus", tick=_MS),
    # Viewers show what stays for less than 2/100 s for 10/100 s.
    ".gif": Format("gif", "gif", tick=Fraction(1, 100), least_ticks=2, most_ticks=65_535),
}


class VideoEncoder:
    """Encodes uint8 [H, W, 3] frames into a new file.

    Args:
      path: the file; its suffix is one of `FORMATS`.
      height, width: size of every frame.
      timing: the info of a clip whose frame times, colours and pixel shape to keep, or frames per second.
      tracks_from: a clip whose sound, other tracks and names to carry over.
      coding: what is wished of the encoding.

    Attributes:
      left_out: how many frames come too fast for the container's clock and are left out; their time is kept.
      shown: how many frames were written and not left out.

    Raises:
      UserError: a frame stays for longer than the format can say, or it has no place for what is wished.
    """

    def __init__(
        self,
        path: Path,
        height: int,
        width: int,
        timing: VideoInfo | Fraction | float,
        tracks_from: VideoReader | None = None,
        coding: Coding = PLAIN,
    ):
        style = FORMATS[path.suffix.lower()]
        way = way_of(path.suffix, coding, height, width)
        info = timing if isinstance(timing, VideoInfo) else None
        self._tick = style.tick or exact_tick(timing)
        self._spans = thinned(stamps(timing, self._tick), style.least_ticks)
        self.left_out = self.shown = 0
        options = dict(style.container_options)
        if info:
            spans = list(self._spans)
            if max(end - start for start, end in filter(None, spans)) > style.most_ticks:
                raise UserError(f"a frame of this clip stays longer than {path.suffix} can say: choose another format")
            self._spans, self.left_out = iter(spans), spans.count(None)
            if style.container == "gif" and info.plays:
                options["loop"] = str(info.plays - 1 or -1)  # GIF counts repetitions, and has no word for none
        self._container = av.open(f"file:{path}", "w", format=style.container, container_options=options)
        stream = self._container.add_stream(way.encoder, rate_of(timing), options=way.options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = width, height
        self._stream, context = stream, stream.codec_context
        context.time_base = self._tick
        if way.tag and style.container in TAGGED:
            context.codec_tag = way.tag
        if info:
            context.sample_aspect_ratio = info.pixel_aspect
            if not info.is_steady:
                # MP4 stores durations in the order of decoding: only without reordering do they fall on their frames.
                context.max_b_frames = 0
        colours = info.colours if info else NO_TAGS
        self._convert = _converter(stream, way.pixels, colours)
        self._durations: dict[int | None, int] = {}
        self._count = 0
        self._tracks = None
        if tracks_from and tracks_from.is_container:
            self._tracks = Tracks(tracks_from, self._container, style.container, style.sound)
        with kept_priority():
            self._container.start_encoding()  # a size that is too large is refused here, before a frame of it is made

    def write(self, frame: np.ndarray):
        """Appends one frame.

        Raises:
          ValueError: the frame is not uint8 of the file's size, or one more than the timing has times for.
        """
        if frame.shape != (self._stream.height, self._stream.width, 3) or frame.dtype != np.uint8:
            raise ValueError(f"a frame of {frame.shape} {frame.dtype} does not go into {self._container.name}")
        try:
            span = next(self._spans)
        except StopIteration:
            raise ValueError(f"more frames than the {self._count} that the timing has times for") from None
        self._count += 1
        if span is None:
            return
        self.shown += 1
        self._durations[span[0]] = span[1] - span[0]
        picture = self._convert(frame)
        picture.pts, picture.time_base = span[0], self._tick
        self._mux(self._stream.encode(picture))

    def finish(self, is_trial: bool = False):
        """Writes what the encoder still holds, the rest of the tracks (a little of each in a trial), and the index."""
        packets = self._stream.encode()
        if self.shown < _DELAY:  # too few to be out of order
            for packet in packets:
                packet.dts = packet.pts
        self._mux(packets)
        if self._tracks and is_trial:
            self._tracks.mux_samples()
        elif self._tracks:
            self._tracks.mux_until(math.inf)
        self.close()

    def close(self):
        """Lets go of the files; without `finish` before, the video is not whole."""
        if self._tracks:
            self._tracks.close()
        self._container.close()

    def _mux(self, packets: list[av.Packet]):
        for packet in packets:
            # Encoders drop durations, and the last frame's can be guessed by nobody.
            packet.duration = self._durations.pop(packet.pts)
            if self._tracks:
                self._tracks.mux_until(begin_of(packet))
            self._container.mux(packet)


def way_of(suffix: str, coding: Coding, height: int, width: int) -> Chosen:
    """What encodes frames of a size into a kind of file; raises UserError where that has no place for what is wished.

    The suffix of a folder is empty.
    """
    style = FORMATS.get(suffix.lower())
    if style is not None and style.codec in CODECS:
        return chosen(suffix, style.container, style.codec, coding, height, width)
    if coding != PLAIN:
        name = suffix if style else "a folder of images"
        able = ", ".join(other for other, style in FORMATS.items() if style.codec in CODECS)
        raise UserError(f"{name} has no choice of --codec, --crf or --pix-fmt: leave them out, or end OUT in {able}")
    return Chosen("gif", {}, "pal8", None)


def _converter(stream: av.VideoStream, pixels: str, colours: Colours) -> Callable[[np.ndarray], av.VideoFrame]:
    stream.pix_fmt = pixels
    if pixels == "pal8":
        return _to_palette(stream)
    context = stream.codec_context
    context.color_primaries, context.color_trc = colours.primaries, colours.transfer
    if pixels in RGB:
        context.colorspace, context.color_range = RGB_MATRIX, FULL_RANGE
        return lambda frame: av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pixels)
    codec = context.name
    matrix = colours.matrix or matrix_of(stream.width, stream.height)
    matrix = REPLACED.get((codec, matrix), matrix)
    convert = ToYuv(matrix, colours.full_range, pixels, cosited=codec in COSITED)
    context.colorspace, context.color_range = matrix, convert.range
    return convert


def _to_palette(stream: av.VideoStream) -> Callable[[np.ndarray], av.VideoFrame]:
    """Gives every frame the 256 colours that suit it best, which needs no look at the other frames."""
    graph = av.filter.Graph()
    pixels = av.VideoFormat("rgb24")
    source = graph.add_buffer(width=stream.width, height=stream.height, format=pixels, time_base=Fraction(1, 100))
    split, choose = graph.add("split"), graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
    use, sink = graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=4"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(choose, 0, 0)
    split.link_to(use, 1, 0)
    choose.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    count = itertools.count()

    def convert(rgb: np.ndarray) -> av.VideoFrame:
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        frame.pts = next(count)  # the graph pairs picture and palette by their times
        graph.push(frame)
        return graph.vpull()

    return convert
