"""One writer for whatever a clip is to lie in: a video file, a GIF, a folder of PNGs.

    with VideoWriter("wide.mp4", reader.info, audio_from=reader) as writer:
        for frame in frames:
            writer.write(frame)

The clip grows under a temporary name beside its target and takes the target's name when it is whole. If anything goes
wrong on the way, nothing is left behind. Times come from the source frame by frame: a variable frame rate stays one.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av.error
import numpy as np
from PIL import Image

from gp_jax.errors import UserError
from gp_jax.files import replacing, replacing_folder
from gp_jax.video.codecs import PLAIN, Coding
from gp_jax.video.encoding import FORMATS, VideoEncoder, way_of
from gp_jax.video.info import VideoInfo
from gp_jax.video.reading import VideoReader
from gp_jax.video.tracks import lost


class VideoWriter:
    """Writes uint8 [H, W, 3] RGB frames to a file whose suffix is one of `FORMATS`, or to a folder if it has none.

    Args:
      path: the target; it appears when the `with` block ends well.
      timing: the info of the clip whose frame times, colours and pixel shape the new one takes over, or frames per
        second.
      audio_from: a clip whose sound the new one gets, and its other tracks, chapters and names, as far as the format
        takes them.
      size: (height, width) of the frames, where it is known. Then all that could go wrong with it is found out at once,
        by a trial of one frame.
      overwrite: whether a file of that name may be replaced. A folder never is.
      coding: what is wished of the encoding.

    Attributes:
      notes: what the new file will not have of the old one, as clauses; known where `size` is.

    Raises:
      UserError: see `check_target`; the format has no room for such a clip; also later, when the disk is full.
    """

    def __init__(
        self,
        path: str | Path,
        timing: VideoInfo | Fraction | float,
        *,
        audio_from: VideoReader | None = None,
        size: tuple[int, int] | None = None,
        overwrite: bool = False,
        coding: Coding = PLAIN,
    ):
        self.path = check_target(path, overwrite)
        self._timing = timing
        self._audio_from = audio_from
        self._overwrite, self._coding = overwrite, coding
        self._target = None
        self._stack = ExitStack()
        self.notes = self._trial(*size) if size else []

    def __enter__(self) -> "VideoWriter":
        make = replacing if self.path.suffix else replacing_folder
        self._temporary = self._stack.enter_context(make(self.path, overwrite=self._overwrite))
        return self

    def write(self, frame: np.ndarray):
        """Appends one frame, uint8 [H, W, 3]; all have the size of the first."""
        with _failure_told(self.path):
            if self._target is None:
                self._target = self._open(self._temporary, *frame.shape[:2])
            self._target.write(frame)

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                if self._target is None:
                    raise ValueError(f"no frame was written to {self.path}")
                with _failure_told(self.path):
                    self._target.finish()
        except BaseException:
            self._abandon()
            raise
        if kind is None:
            self._stack.close()
        else:
            self._abandon()

    def _abandon(self):
        with contextlib.suppress(OSError, av.error.FFmpegError):  # closing a file without room fails once more
            if self._target is not None:
                self._target.close()
        _discard(self._stack)

    def _open(self, path: Path, height: int, width: int):
        if self.path.suffix:
            return VideoEncoder(path, height, width, self._timing, self._audio_from, self._coding)
        return _FrameFolder(path)

    def _trial(self, height: int, width: int) -> list[str]:
        """Writes one black frame into nowhere; says what is lost of the source.

        Raises:
          UserError: the format does not take the size, or what is wished of the encoding.
        """
        notes, names = [], []
        way_of(self.path.suffix, self._coding, height, width)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"trial{self.path.suffix}")
            if self.path.suffix:
                try:
                    file = VideoEncoder(path, height, width, self._timing, self._audio_from, self._coding)
                    with contextlib.closing(file):
                        while not file.shown:
                            file.write(np.zeros((height, width, 3), np.uint8))
                        file.finish(is_trial=True)
                except (av.error.FFmpegError, ValueError, OverflowError, MemoryError) as error:
                    raise UserError(
                        f"{width}x{height} pixels do not go into {self.path.suffix}: ask for another size or format"
                    ) from error
                if isinstance(self._timing, VideoInfo) and file.left_out:
                    notes.append(
                        f"{self.path.suffix} is too slow for {file.left_out} of its {self._timing.num_frames} frames, "
                        "which are left out; its length stays"
                    )
            elif isinstance(self._timing, VideoInfo) and self._audio_from:
                names.append("the frame times")
            if self._audio_from:
                names += lost(self._audio_from, path if self.path.suffix else None)
                if self._audio_from.info.plays is not None and self.path.suffix.lower() != ".gif":
                    names.append("how often it plays")
        return [*notes, f"not carried over: {', '.join(names)}"] if names else notes


def check_target(path: str | Path, overwrite: bool = False) -> Path:
    """The path of a clip that can be written; ask before the expensive work, not after.

    Raises:
      UserError: the suffix names no format, the target exists, or its folder is missing or not writable.
    """
    path = Path(path)
    if path.suffix and path.suffix.lower() not in FORMATS:
        formats = ", ".join(FORMATS)
        raise UserError(
            f"{path} is in no format that can be written: end it in {formats}, or in nothing for a frame folder"
        )
    if path.name.lower() in FORMATS:  # for Python a hidden name without a suffix
        raise UserError(f"{path} has a suffix and no name: call it out{path.name}, for example")
    with _failure_told(path):
        is_folder, is_file = path.is_dir(), path.is_file()
        if is_folder and (path.suffix or any(path.iterdir())):
            raise UserError(f"the folder {path} is there already: choose another name")
        if is_file and not (overwrite and path.suffix):
            way = " or allow it to be replaced by --overwrite" if path.suffix else ""
            raise UserError(f"the file {path} is there already: choose another name{way}")
        if not path.parent.is_dir():
            raise UserError(f"{path} cannot be written: there is no folder {path.parent}")
    with _failure_told(path), ExitStack() as trial:  # what else stands in the way is found by beginning
        trial.enter_context((replacing if path.suffix else replacing_folder)(path, overwrite=overwrite)).touch()
        _discard(trial)
    return path


class _FrameFolder:
    """A folder of PNGs: 000000.png, 000001.png, ..."""

    def __init__(self, path: Path):
        self._path = path
        self._count = 0

    def write(self, frame: np.ndarray):
        Image.fromarray(frame).save(self._path / f"{self._count:06d}.png", compress_level=3)
        self._count += 1

    def finish(self):
        pass

    def close(self):
        pass


class _Abandoned(Exception):
    """Tells a temporary name that nothing is to come of it."""


def _discard(stack: ExitStack):
    """Leaves `replacing` so that nothing is replaced."""
    stack.__exit__(_Abandoned, _Abandoned(), None)


@contextlib.contextmanager
def _failure_told(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
