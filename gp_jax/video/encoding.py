"""A video file that grows frame by frame, sound beside it.

`FORMATS` says for every suffix which codecs go into it; a new format is one line there.

Sizes are kept exactly. Video codecs store colour at half the resolution (4:2:0), and odd sides have no half: a clip
with an odd side is stored with full colour (4:4:4), which browsers and hardware players may refuse. The matrix between
RGB and YUV is the one that players assume for the size, and is written into the file as well.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from gp_jax.video.audio import AudioTrack
from gp_jax.video.reading import VideoReader
from gp_jax.video.sources import VideoInfo, matrix_of

LIMITED_RANGE = 1  # FFmpeg's number for luma in 16..235, what every player expects of a video file


@dataclass(frozen=True)
class Format:
    """What goes into a kind of file: the video codec with its options, and the sound codecs taken over as they are.

    Sound in any other codec becomes the first of them; with none the file is silent.
    """

    codec: str
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    audio: tuple[str, ...] = ()


_H264 = {"crf": "16", "preset": "veryfast"}
_VP9 = {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
_MP4 = Format("libx264", _H264, {"movflags": "faststart"}, ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"))

FORMATS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Format("libx264", _H264, {"movflags": "faststart"}, ("aac", "mp3", "ac3", "alac", "pcm_s16le")),
    ".mkv": Format("libx264", _H264, audio=("aac", "mp3", "mp2", "ac3", "eac3", "opus", "vorbis", "flac", "pcm_s16le")),
    ".webm": Format("libvpx-vp9", _VP9, audio=("opus", "vorbis")),
    ".gif": Format("gif"),
}


class VideoFile:
    """Encodes uint8 [H, W, 3] frames into a new file.

    Args:
      path: the file; its suffix is one of `FORMATS`.
      height, width: size of every frame.
      timing: the info of a clip whose frame times and pixel shape to keep, or frames per second.
      audio_from: a clip whose sound to carry over.
    """

    def __init__(
        self,
        path: Path,
        height: int,
        width: int,
        timing: VideoInfo | Fraction | float,
        audio_from: VideoReader | None = None,
    ):
        style = FORMATS[path.suffix.lower()]
        rate, self._tick, self._stamps = _clock(timing)
        self._container = av.open(f"file:{path}", "w", container_options=style.container_options)
        self._stream = self._container.add_stream(style.codec, rate, options=style.options)
        self._stream.width, self._stream.height = width, height
        self._stream.codec_context.time_base = self._tick
        if isinstance(timing, VideoInfo):
            self._stream.codec_context.sample_aspect_ratio = timing.pixel_aspect
            if not timing.is_steady:
                # MP4 stores durations in the order of decoding: only without reordering do they fall on their frames.
                self._stream.codec_context.max_b_frames = 0
        self._convert = _to_palette(self._stream) if style.codec == "gif" else _to_yuv(self._stream)
        self._durations: dict[int, int] = {}
        self._audio = None
        if audio_from and audio_from.info.has_audio and style.audio:
            self._audio = AudioTrack(audio_from, self._container, style.audio)

    def write(self, frame: np.ndarray):
        """Appends one frame.

        Raises:
          ValueError: the frame is not uint8 of the file's size, or one more than the timing has times for.
        """
        if frame.shape != (self._stream.height, self._stream.width, 3) or frame.dtype != np.uint8:
            raise ValueError(f"a frame of {frame.shape} {frame.dtype} does not go into {self._container.name}")
        pts, end = next(self._stamps, (None, None))
        if pts is None:
            raise ValueError(f"more frames than the {len(self._durations)} that the timing has times for")
        self._durations[pts] = end - pts
        picture = self._convert(av.VideoFrame.from_ndarray(frame, format="rgb24"))
        picture.pts, picture.time_base = pts, self._tick
        self._mux(self._stream.encode(picture))

    def finish(self):
        """Writes what the encoder still holds, the rest of the sound, and the file's index."""
        self._mux(self._stream.encode())
        if self._audio:
            self._audio.mux_until(math.inf)
        self.close()

    def close(self):
        """Lets go of the files; without `finish` before, the video is not whole."""
        if self._audio:
            self._audio.close()
        self._container.close()

    def _mux(self, packets: list[av.Packet]):
        for packet in packets:
            # Encoders drop durations, and the last frame's can be guessed by nobody.
            packet.duration = self._durations[packet.pts]
            if self._audio:
                self._audio.mux_until(packet.dts * packet.time_base)
            self._container.mux(packet)


def _clock(timing: VideoInfo | Fraction | float):
    """Frames per second, the tick of a clock in which all times are whole, and (start, end) of each frame in ticks."""
    if not isinstance(timing, VideoInfo):
        rate = Fraction(timing).limit_denominator(1001)
        return rate, 1 / rate, zip(itertools.count(0), itertools.count(1))
    times = (*timing.times, timing.duration)
    tick = Fraction(1, min(math.lcm(*(time.denominator for time in times)), 1_000_000))
    return timing.frame_rate.limit_denominator(10_000), tick, itertools.pairwise(round(time / tick) for time in times)


def _to_yuv(stream: av.VideoStream) -> Callable[[av.VideoFrame], av.VideoFrame]:
    matrix = matrix_of(stream.width, stream.height)
    stream.pix_fmt = "yuv444p" if stream.width % 2 or stream.height % 2 else "yuv420p"
    stream.codec_context.colorspace, stream.codec_context.color_range = matrix, LIMITED_RANGE
    return lambda frame: frame.reformat(format=stream.pix_fmt, dst_colorspace=matrix, dst_color_range=LIMITED_RANGE)


def _to_palette(stream: av.VideoStream) -> Callable[[av.VideoFrame], av.VideoFrame]:
    """Gives every frame the 256 colours that suit it best, which needs no look at the other frames."""
    stream.pix_fmt = "pal8"
    graph = av.filter.Graph()
    source = graph.add_buffer(width=stream.width, height=stream.height, format="rgb24", time_base=Fraction(1, 100))
    split, choose = graph.add("split"), graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
    use, sink = graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=4"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(choose, 0, 0)
    split.link_to(use, 1, 0)
    choose.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    count = itertools.count()

    def convert(frame: av.VideoFrame) -> av.VideoFrame:
        frame.pts = next(count)  # the graph pairs picture and palette by their times
        graph.push(frame)
        return graph.pull()

    return convert
