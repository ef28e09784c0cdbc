"""What a clip can lie in: a video file, an animated WebP, a folder of images.

Each source has the same three things, and `VideoReader` needs no more:

    source.info            what is known of the clip
    source.frames(first)   (index, frame) in order, from `first` or somewhat earlier on, in the source's own form
    source.rgb(frame)      such a frame as upright uint8 [H, W, 3]

They are apart because turning a frame into RGB costs more than decoding it, and frames that are passed on the way to a
wanted one need not be.
"""

import contextlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import Interpolation
from PIL import Image, ImageOps

from gp_jax.errors import UserError

# Only containers, and only from disk: a playlist named .mp4 would otherwise open other files or the network.
CONTAINERS = (
    "mov,matroska,webm,avi,gif,apng,mpeg,mpegts,mpegvideo,m4v,h264,hevc,ivf,ogg,flv,asf,mxf,nut,rm,yuv4mpegpipe"
)
OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}

SLACK = Fraction(1, 2)  # seconds by which a sound file's end may be rounded in a header
DEFAULT_RATE = 24  # frames per second, where nothing says

# Without these flags libswscale rounds colours down, by one level and more.
EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

# FFmpeg's numbers of the matrices between RGB and YUV.
BT709, UNTAGGED, BT601 = 1, 2, 6

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a clip.

    Attributes:
      width, height: pixels of a frame as it is read, rotation applied.
      frame_rate: frames per second; the mean where it varies.
      times: when each frame is shown, in seconds since the first.
      duration: seconds from the first frame until the last one ends.
      start: seconds by which the file's own clock is ahead of the first frame; its sound follows that clock.
      rotation: degrees that the file asks to turn its frames by, anticlockwise; already applied on reading.
      pixel_aspect: width / height of one pixel; 1 almost always.
      has_audio: whether there is sound.
      damage: empty, or a sentence on what is missing of a truncated or damaged file.
    """

    width: int
    height: int
    frame_rate: Fraction
    times: tuple[Fraction, ...]
    duration: Fraction
    start: Fraction = Fraction(0)
    rotation: int = 0
    pixel_aspect: Fraction = Fraction(1)
    has_audio: bool = False
    damage: str = ""

    @property
    def num_frames(self) -> int:
        return len(self.times)

    @property
    def is_steady(self) -> bool:
        """Whether all frames are shown for the same time."""
        return all(time == index / self.frame_rate for index, time in enumerate(self.times))


class VideoFile:
    """A file that FFmpeg decodes. What its headers say is checked against one decoding of the whole."""

    def __init__(self, path: Path):
        self.path = path
        with _open(path) as (container, stream):
            first, frames, damaged = _scan(container, stream)
            if first is None:
                raise UserError(
                    f"{path} holds no frame that can be decoded: it is damaged or truncated at its beginning"
                )
            tick = stream.time_base
            rate = Fraction(stream.guessed_rate or stream.average_rate or DEFAULT_RATE)
            pixel_aspect = Fraction(stream.sample_aspect_ratio or 1)
            has_audio = bool(container.streams.audio)
            stated_end = (stream.start_time or 0) + (stream.duration or 0)

        self._pts = [frame.pts for frame in frames]
        has_clock = None not in self._pts and all(a < b for a, b in itertools.pairwise(self._pts))
        # With all frames in place and known by their times, reading may begin at any key frame.
        self._keys = [index for index, frame in enumerate(frames) if frame.key] if has_clock and not damaged else []
        self._turns = round(first.rotation / 90) % 4
        self._size = first.width, first.height
        # Colours without a tag follow the convention of players.
        self._matrix = matrix_of(*self._size) if first.colorspace == UNTAGGED else None

        even = tuple(index / rate for index in range(len(frames)))
        times = tuple((pts - self._pts[0]) * tick for pts in self._pts) if has_clock else even
        if all(abs(time - steady) <= tick for time, steady in zip(times, even)):
            times, duration = even, len(frames) / rate  # a constant rate, but for the rounding of the file's clock
        else:
            # A decoder takes a frame's duration from its place in the file, which is not always its place in time.
            last = 0 if damaged else stated_end - self._pts[-1]
            duration = times[-1] + ((last if last > 0 else frames[-1].duration) * tick or 1 / rate)
            rate = len(frames) / duration
        width, height = self._size[::-1] if self._turns % 2 else self._size
        self.info = VideoInfo(
            width,
            height,
            rate,
            times,
            duration,
            start=self._pts[0] * tick if has_clock else Fraction(0),
            rotation=first.rotation,
            pixel_aspect=1 / pixel_aspect if self._turns % 2 else pixel_aspect,
            has_audio=has_audio,
            damage=f"{path} is truncated or damaged: {len(frames)} frames of it can be read" if damaged else "",
        )

    def frames(self, first: int) -> Iterator[tuple[int, av.VideoFrame]]:
        key = max((key for key in self._keys if key <= first), default=0)
        if key > 0:
            with _open(self.path) as (container, stream):
                container.seek(self._pts[key], stream=stream)
                frames = itertools.dropwhile(lambda frame: frame.pts < self._pts[key], _decode(container, stream))
                head = next(frames, None)
                if head is not None and head.pts == self._pts[key]:
                    yield from enumerate(itertools.chain([head], frames), key)
                    return
        with _open(self.path) as (container, stream):  # the clip begins here, or seeking missed the key frame
            yield from enumerate(_decode(container, stream))

    def rgb(self, frame: av.VideoFrame) -> np.ndarray:
        width, height = self._size
        array = frame.to_ndarray(
            format="rgb24", width=width, height=height, src_colorspace=self._matrix, interpolation=EXACT
        )
        return np.ascontiguousarray(np.rot90(array, self._turns))


class AnimatedWebp:
    """An animated WebP, through Pillow: FFmpeg reads still ones only."""

    def __init__(self, path: Path):
        self.path = path
        try:
            with Image.open(path) as image:
                self.info = _info_of_durations(image.size, [frame.info.get("duration") for frame in _seek_all(image)])
        except (OSError, SyntaxError) as error:
            raise UserError(f"{path} is not a WebP image that can be read: {error}") from error

    def frames(self, first: int) -> Iterator[tuple[int, Image.Image]]:
        with Image.open(self.path) as image:
            yield from enumerate(_seek_all(image))

    def rgb(self, frame: Image.Image) -> np.ndarray:
        return np.array(frame.convert("RGB"))


class FrameFolder:
    """A folder of images of one size, in natural order: frame2.png comes before frame10.png."""

    def __init__(self, path: Path, frame_rate: Fraction | float):
        files = (file for file in path.iterdir() if file.suffix.lower() in IMAGES and not file.name.startswith("."))
        self._files = sorted(files, key=_natural_order)
        if not self._files:
            raise UserError(f"the folder {path} holds no image ({', '.join(sorted(IMAGES))})")
        height, width = self.rgb(self._files[0]).shape[:2]
        self._size = width, height
        rate = Fraction(frame_rate).limit_denominator(1001)
        times = tuple(index / rate for index in range(len(self._files)))
        self.info = VideoInfo(width, height, rate, times, duration=len(times) / rate)

    def frames(self, first: int) -> Iterator[tuple[int, Path]]:
        yield from enumerate(self._files[first:], first)

    def rgb(self, frame: Path) -> np.ndarray:
        try:
            with Image.open(frame) as image:
                array = np.array(ImageOps.exif_transpose(image).convert("RGB"))
        except OSError as error:
            raise UserError(f"{frame} is not an image that can be read: {error}") from error
        size = array.shape[1::-1]
        if size != getattr(self, "_size", size):
            raise UserError(f"{frame} is {size[0]}x{size[1]} but the first image is {self._size[0]}x{self._size[1]}")
        return array


def matrix_of(width: int, height: int) -> int:
    """The matrix that players take for video of this size if it has no tag: BT.709 for high definition, else BT.601."""
    return BT709 if width >= 1280 or height > 576 else BT601


class _Mark(NamedTuple):
    """What is kept of every frame after the scan; times in ticks of the file's clock."""

    pts: int | None
    duration: int
    key: bool


def _scan(container, stream) -> tuple[av.VideoFrame | None, list[_Mark], bool]:
    """Decodes the whole video once: the first frame, a mark for each, and whether something is missing or damaged."""
    first, marks, failures, end = None, [], [], Fraction(0)
    for packet in _demux(container, failures):
        if packet.pts is not None:
            end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
        if packet.stream == stream:
            for frame in _decode_packet(packet, failures):
                first = first or frame
                marks.append(_Mark(frame.pts, frame.duration, frame.key_frame))
    promised = Fraction((container.start_time or 0) + (container.duration or 0), av.time_base)
    return first, marks, bool(failures) or promised - end > SLACK


def _decode(container, stream) -> Iterator[av.VideoFrame]:
    failures = []
    for packet in _demux(container, failures, stream):
        yield from _decode_packet(packet, failures)


def _demux(container, failures: list, *streams) -> Iterator[av.Packet]:
    """All packets up to the first that cannot be read."""
    try:
        yield from container.demux(*streams)
    except av.FFmpegError as error:
        failures.append(error)


def _decode_packet(packet: av.Packet, failures: list) -> list[av.VideoFrame]:
    try:
        return packet.decode()
    except av.FFmpegError as error:
        failures.append(error)
        return []


@contextlib.contextmanager
def _open(path: Path):
    """(container, video stream) of a file."""
    if path.stat().st_size == 0:
        raise UserError(f"{path} is an empty file")
    try:
        container = av.open(f"file:{path}", options=OPTIONS)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise UserError(f"{path} is not a video that can be read, or is truncated at its beginning") from error
    with container:
        stream = container.streams.best("video")
        if stream is None:
            raise UserError(f"{path} has no video in it, or is truncated before it")
        stream.thread_type = "AUTO"
        yield container, stream


def _seek_all(image: Image.Image) -> Iterator[Image.Image]:
    for index in range(getattr(image, "n_frames", 1)):
        image.seek(index)
        image.load()
        yield image


def _info_of_durations(size: tuple[int, int], durations: list[float | None]) -> VideoInfo:
    """Info of an animation whose frames each say for how many milliseconds they stay."""
    seconds = [Fraction(milliseconds or 1000 / DEFAULT_RATE) / 1000 for milliseconds in durations]
    ends = tuple(itertools.accumulate(seconds))
    return VideoInfo(*size, len(ends) / ends[-1], times=(Fraction(0), *ends[:-1]), duration=ends[-1])


def _natural_order(file: Path) -> list[int | str]:
    """frame10 as ["frame", 10, ...]: text and numbers alternate, so that numbers compare as numbers."""
    return [int(part) if part.isdigit() else part.lower() for part in re.split(r"(\d+)", file.name)]
