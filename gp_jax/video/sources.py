"""Clips that FFmpeg decodes.

Every kind of source, here and in `images`, has the same three things, and `VideoReader` needs no more:

    source.info            what is known of the clip
    source.frames(first)   (index, frame) in order, from `first` or somewhat earlier on, in the source's own form
    source.rgb(frame)      such a frame as upright uint8 [H, W, 3]

They are apart because turning a frame into RGB costs more than decoding it, and frames that are passed on the way to a
wanted one need not be.
"""

import contextlib
import itertools
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
import av.filter
import numpy as np
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from PIL import Image

from gp_jax.errors import UserError
from gp_jax.video.clock import Mark, timeline
from gp_jax.video.colours import CURVES, check_matrix, colours_of, may_be_transparent, over_black, rgb_of
from gp_jax.video.images import OVER_BLACK, plays_of
from gp_jax.video.info import AS_STORED, Orientation, VideoInfo
from gp_jax.video.integrity import is_cut

# Only containers, and only from disk: a playlist named .mp4 would otherwise open other files or the network.
CONTAINERS = (
    "mov,matroska,webm,avi,gif,apng,mpeg,mpegts,mpegvideo,m4v,h264,hevc,ivf,ogg,flv,asf,mxf,nut,rm,yuv4mpegpipe"
)
OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}

SLACK = Fraction(1, 2)  # seconds by which a sound file's end may be rounded in a header
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own leave the alpha out
COVER = 0x400  # FFmpeg's number of a picture that comes with the sound
TOP_FIRST, BOTTOM_FIRST = (2, 5), (3, 4)  # FFmpeg's numbers of the orders in which fields are shown

# What lies beside a frame and has no way into a new file, by PyAV's names.
UNKEPT = {
    "A53_CC": "closed captions",
    "MASTERING_DISPLAY_METADATA": "the mastering display",
    "CONTENT_LIGHT_LEVEL": "the content light level",
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DOVI_METADATA": "Dolby Vision",
    "ICC_PROFILE": "the ICC profile",
    "SPHERICAL": "the spherical projection",
    "STEREO3D": "the stereo arrangement",
}


Decode = Callable[[av.Packet], list[av.VideoFrame]]


class VideoFile:
    """A file that FFmpeg decodes. What its headers say is checked against one decoding of the whole.

    Attributes:
      kind: FFmpeg's name of the container.
    """

    def __init__(self, path: Path):
        self.path = path
        with _open(path) as (container, stream, decode):
            scan = _Scan(path, container, stream, decode)
            first, marks = scan.first, scan.marks
            self.kind = kind = container.format.name
            tick = stream.time_base
            assert tick is not None  # that of a stream which was read is known
            rates = (stream.guessed_rate, stream.average_rate, stream.base_rate)
            times = timeline(
                marks,
                tick,
                rates,
                end=None if scan.damaged else _stated_end(stream, tick, kind, marks[-1]),
                in_order=kind != "avi",
                leaps_forward=kind in ("mpegts", "mpeg"),
            )
            pixel_aspect = Fraction(stream.sample_aspect_ratio or 1)
            has_audio = bool(container.streams.audio)
            self._parity = _parity(stream.codec_context, scan.interlaced)

        self._is_transparent = scan.is_transparent
        self._pts = [mark.pts for mark in marks]
        has_clock = None not in self._pts and all(a < b for a, b in itertools.pairwise(self._pts))
        # With all frames in place and known by their times, reading may begin at any key frame.
        keys = [index for index, mark in enumerate(marks) if mark.key]
        self._keys = {key: scan.prints[key] for key in keys} if has_clock and not scan.damaged else {}
        matrix = first.side_data.get("DISPLAYMATRIX")
        orientation = AS_STORED if matrix is None else Orientation.of_matrix(np.frombuffer(bytes(matrix), np.int32))
        height, width = (first.width, first.height) if orientation.swap else (first.height, first.width)
        plays = None
        if kind in ("gif", "apng") and len(marks) > 1:
            with Image.open(path) as image:  # FFmpeg does not say
                plays = plays_of(image)
        self.info = VideoInfo(
            width,
            height,
            times.frame_rate,
            times.times,
            times.duration,
            start=times.start,
            leaps=times.leaps,
            orientation=orientation,
            pixel_aspect=1 / pixel_aspect if orientation.swap else pixel_aspect,
            colours=colours_of(first),
            plays=plays,
            has_audio=has_audio,
            notes=tuple(self._notes(first)),
            unkept=tuple(name for key, name in UNKEPT.items() if key in scan.side_data),
            damage=f"{path} is truncated or damaged: {len(marks)} frames of it can be read" if scan.damaged else "",
        )

    def frames(self, first: int) -> Iterator[tuple[int, av.VideoFrame]]:
        # Deinterlacing looks at the frame before.
        key = max((key for key in self._keys if key <= first - bool(self._parity)), default=0)
        if key > 0:
            with _open(self.path) as (container, stream, decode):
                container.seek(self._pts[key], stream=stream)
                decoded = _decode(container, stream, decode)
                frames = itertools.dropwhile(lambda frame: frame.pts < self._pts[key], decoded)
                head = next(frames, None)
                # Some files hold at their beginning alone what all frames need, and look otherwise from a key frame on.
                if head is not None and head.pts == self._pts[key] and _print(head) == self._keys[key]:
                    yield from enumerate(self._progressive(itertools.chain([head], frames)), key)
                    return
        with _open(self.path) as (container, stream, decode):  # the clip begins here, or seeking missed the key frame
            yield from enumerate(self._progressive(_decode(container, stream, decode)))

    def rgb(self, frame: av.VideoFrame) -> np.ndarray:
        array = rgb_of(frame, with_alpha=self._is_transparent)
        return self.info.orientation.upright(over_black(array) if self._is_transparent else array)

    def _progressive(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        return _deinterlaced(frames, self._parity) if self._parity else frames

    def _notes(self, first: av.VideoFrame) -> Iterator[str]:
        if self._parity:
            yield "it is interlaced and was deinterlaced"
        if self._is_transparent:
            yield OVER_BLACK
        bits = max(component.bits for component in first.format.components)
        if bits > 8:
            yield f"its {bits} bits a channel become 8"
        if first.color_trc in CURVES:
            yield f"it is HDR ({CURVES[first.color_trc]}) and stays so, not tone-mapped"


class _Scan:
    """One decoding of the whole video.

    Attributes:
      first: the first frame.
      marks: a `Mark` for each frame.
      prints: of each key frame, by its index, what tells whether it is decoded alike again.
      interlaced: whether each frame says that it is.
      side_data: names of what lies beside the frames.
      is_transparent: whether a pixel of any frame lets through what is behind it.
      damaged: whether something is missing or could not be read.

    Raises:
      UserError: there is no frame, their size changes, or their colours cannot be read.
    """

    first: av.VideoFrame

    def __init__(self, path: Path, container: InputContainer, stream: av.VideoStream, decode: Decode):
        self.marks, self.interlaced, self.side_data, self.is_transparent = [], [], set(), False
        self.prints: dict[int, int] = {}
        failures, end = [], Fraction(0)
        for packet in _demux(container, failures):
            if packet.pts is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.stream == stream:
                failures += [packet] * packet.is_corrupt
                for frame in _decode_packet(packet, decode, failures):
                    self._take(path, frame)
                    failures += [frame] * frame.is_corrupt
        if not self.marks:
            raise UserError(f"{path} holds no frame that can be decoded: it is damaged or truncated at its beginning")
        promised = Fraction((container.start_time or 0) + (container.duration or 0), av.time_base)
        self.damaged = bool(failures) or promised - end > SLACK or is_cut(path)

    def _take(self, path: Path, frame: av.VideoFrame):
        if not self.marks:
            self.first = frame
        if (frame.width, frame.height) != (self.first.width, self.first.height):
            raise UserError(
                f"{path} changes from {self.first.width}x{self.first.height} to {frame.width}x{frame.height} pixels at "
                f"frame {len(self.marks)}: cut it there"
            )
        check_matrix(frame, path)
        if not self.is_transparent and may_be_transparent(frame):
            self.is_transparent = bool(rgb_of(frame, with_alpha=True)[..., 3].min() < 255)
        self.interlaced.append(frame.interlaced_frame)
        # Iterated, it gives values; PyAV's types have a dictionary there.
        self.side_data.update(data.type.name for data in frame.side_data)  # pyright: ignore
        if frame.key_frame:
            self.prints[len(self.marks)] = _print(frame)
        self.marks.append(Mark(frame.pts, frame.duration, frame.key_frame))


def _print(frame: av.VideoFrame) -> int:
    """A checksum of some rows of a frame's first plane."""
    plane = frame.planes[0]
    values = np.frombuffer(plane, np.uint8)  # pyright: ignore - PyAV's types do not tell that it is a buffer
    rows = values.reshape(plane.height, -1)[:: max(1, plane.height // 64), : plane.width]
    return zlib.crc32(rows.tobytes())


def _parity(context: VideoCodecContext, interlaced: list[bool]) -> str:
    """How to deinterlace, as options of FFmpeg's filter; empty if there is nothing to."""
    if any(interlaced):
        return f"parity=auto:deint={'all' if all(interlaced) else 'interlaced'}"
    for orders, name in ((TOP_FIRST, "tff"), (BOTTOM_FIRST, "bff")):
        if (
            context.field_order in orders and context.codec.intra_only
        ):  # raw pictures, of which only the file can say it
            return f"parity={name}:deint=all"
    return ""


def _deinterlaced(frames: Iterable[av.VideoFrame], parity: str) -> Iterator[av.VideoFrame]:
    """As many frames as before, each with the lines of its second field made anew."""
    graph = None
    for frame in itertools.chain(frames, [None]):
        if graph is None:
            if frame is None:
                return
            graph = av.filter.Graph()
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
            )
            graph.link_nodes(source, graph.add("bwdif", f"mode=send_frame:{parity}"), graph.add("buffersink"))
            graph.configure()
        graph.push(frame)
        with contextlib.suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                yield graph.vpull()


def _stated_end(stream: av.VideoStream, tick: Fraction, kind: str, last: Mark) -> Fraction | None:
    """Seconds on the file's clock at which its video ends, for containers that say it of each track or frame."""
    if kind in ("gif", "apng") and last.pts is not None:
        return (last.pts + last.duration) * tick
    if kind.startswith("mov") and stream.duration:
        return ((stream.start_time or 0) + stream.duration) * tick
    clock = re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)\0*", stream.metadata.get("DURATION", ""))
    if kind.startswith("matroska") and clock:
        return 3600 * int(clock[1]) + 60 * int(clock[2]) + Fraction(clock[3])
    return None


def _decode(container: InputContainer, stream: av.VideoStream, decode: Decode) -> Iterator[av.VideoFrame]:
    failures = []
    for packet in _demux(container, failures, stream):
        yield from _decode_packet(packet, decode, failures)


def _demux(container: InputContainer, failures: list, *streams: av.VideoStream) -> Iterator[av.Packet]:
    """All packets up to the first that cannot be read."""
    try:
        yield from container.demux(*streams)
    except av.error.FFmpegError as error:
        failures.append(error)


def _decode_packet(packet: av.Packet, decode: Decode, failures: list) -> list[av.VideoFrame]:
    try:
        return decode(packet)
    except av.error.FFmpegError as error:
        failures.append(error)
        return []


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple[InputContainer, av.VideoStream, Decode]]:
    """(container, video stream, what turns its packets into frames) of a file."""
    try:
        if not path.is_file():
            raise UserError(f"{path} is neither a file nor a folder")
        if path.stat().st_size == 0:
            raise UserError(f"{path} is an empty file")
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    try:
        container = av.open(f"file:{path}", options=OPTIONS, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UserError(f"{path} is not a video that can be read, or is truncated at its beginning") from error
    with container:
        stream = container.streams.best("video")
        if not isinstance(stream, av.VideoStream):
            raise UserError(f"{path} has no video in it, or is truncated before it")
        if stream.disposition & COVER:
            raise UserError(f"{path} has no video in it, but sound with a cover picture")
        if stream.codec_context is None:
            raise UserError(f"{path} holds video of a kind that cannot be decoded: convert it to H.264 first")
        stream.thread_type = "AUTO"
        yield container, stream, _decoder(stream)


def _decoder(stream: av.VideoStream) -> Decode:
    name = ALPHA_DECODERS.get(stream.codec_context.name)
    if name and stream.metadata.get("alpha_mode") == "1":
        context = av.CodecContext.create(name, "r")
        assert isinstance(context, VideoCodecContext)
        return lambda packet: context.decode(packet if packet.size else None)
    return stream.decode
