"""One writer for whatever a clip is to lie in: a video file, a GIF, a folder of PNGs.

    with VideoWriter("wide.mp4", reader.info, audio_from=reader) as writer:
        for frame in frames:
            writer.write(frame)

The clip grows under a temporary name beside its target and takes the target's name when it is whole. If anything goes
wrong on the way, nothing is left behind. Times come from the source frame by frame: a variable frame rate stays one.
"""

import contextlib
import os
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from gp_jax.errors import UserError
from gp_jax.video.encoding import FORMATS, VideoFile
from gp_jax.video.reading import VideoReader
from gp_jax.video.sources import VideoInfo


class VideoWriter:
    """Writes uint8 [H, W, 3] RGB frames to a file whose suffix is one of `FORMATS`, or to a folder if it has none.

    Args:
      path: the target; it appears when the `with` block ends well.
      timing: the info of the clip whose frame times and pixel shape the new one takes over, or frames per second.
      audio_from: a clip whose sound the new one gets, if it has any and the format takes it.
      overwrite: whether a file of that name may be replaced. A folder never is.

    Raises:
      UserError: see `check_target`; also later, when the disk is full.
    """

    def __init__(
        self,
        path: str | Path,
        timing: VideoInfo | Fraction | float,
        *,
        audio_from: VideoReader | None = None,
        overwrite: bool = False,
    ):
        self.path = check_target(path, overwrite)
        self._temporary = _temporary_name(self.path)
        self._timing = timing
        self._audio_from = audio_from
        self._target = None

    def __enter__(self) -> "VideoWriter":
        return self

    def write(self, frame: np.ndarray):
        """Appends one frame, uint8 [H, W, 3]; all have the size of the first."""
        with _failure_told(self.path):
            if self._target is None:
                if self.path.suffix:
                    self._target = VideoFile(self._temporary, *frame.shape[:2], self._timing, self._audio_from)
                else:
                    self._target = _FrameFolder(self._temporary)
            self._target.write(frame)

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                if self._target is None:
                    raise ValueError(f"no frame was written to {self.path}")
                with _failure_told(self.path):
                    self._target.finish()
                    os.replace(self._temporary, self.path)
        finally:
            with contextlib.suppress(OSError):  # closing a file for which there was no room fails once more
                if self._target is not None:
                    self._target.close()
            if self._temporary.is_dir():
                shutil.rmtree(self._temporary)
            else:
                self._temporary.unlink(missing_ok=True)


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
    if path.is_dir() and (path.suffix or any(path.iterdir())):
        raise UserError(f"the folder {path} is there already: choose another name")
    if path.is_file() and not (overwrite and path.suffix):
        raise UserError(f"the file {path} is there already: choose another name or allow it to be overwritten")
    if not path.parent.is_dir():
        raise UserError(f"{path} cannot be written: there is no folder {path.parent}")
    trial = _temporary_name(path)
    with _failure_told(path):
        trial.touch()
        trial.unlink()
    return path


class _FrameFolder:
    """A folder of PNGs: 000000.png, 000001.png, ..."""

    def __init__(self, path: Path):
        path.mkdir()
        self._path = path
        self._count = 0

    def write(self, frame: np.ndarray):
        Image.fromarray(frame).save(self._path / f"{self._count:06d}.png", compress_level=3)
        self._count += 1

    def finish(self):
        pass

    def close(self):
        pass


@contextlib.contextmanager
def _failure_told(path: Path):
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
