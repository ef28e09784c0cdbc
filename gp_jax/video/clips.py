"""Clips that lie in folders, at a size that somebody asks for: what is scored, and shown in reports.

clips_in(Path("outputs"))                   {"bear": Path("outputs/bear.mp4"), ...}
read_clip(Path("outputs/bear.mp4"))         uint8 [T, H, W, 3]
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from gp_jax.errors import UserError
from gp_jax.video.reading import VideoReader

# What counts as a clip in a folder of clips; folders of images do too.
CLIPS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".ogv", ".gif", ".apng", ".webp"}


def clips_in(folder: Path) -> dict[str, Path]:
    """Clips by name; raises UserError where there is no folder or no clip, or where two have the same name."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    clips: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and (path.is_dir() or path.suffix.lower() in CLIPS):
            name = path.name if path.is_dir() else path.stem
            if name in clips:
                raise UserError(f"{folder} has two clips of the name {name}: {clips[name].name} and {path.name}")
            clips[name] = path
    if not clips:
        raise UserError(f"{folder} holds no clip: neither videos nor folders of images")
    return clips


class ScaledClip:
    """A clip on disk whose frames, uint8 [H, W, 3], are scaled to `size` = (height, width) as they are read.

    Raises:
      UserError: it cannot be read, or not to its end.
    """

    def __init__(self, path: Path, size: tuple[int, int] | None = None):
        self._reader = VideoReader(path)
        if self._reader.info.damage:
            raise UserError(f"{self._reader.info.damage}: a damaged clip cannot be scored")
        self.size = size or (self._reader.info.height, self._reader.info.width)

    def __len__(self) -> int:
        return len(self._reader)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (scale(frame, *self.size) for frame in self._reader)


def read_clip(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """A `ScaledClip` in memory: uint8 [T, H, W, 3]."""
    return np.stack(list(ScaledClip(path, size)))


def scale(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """A frame [H, W, 3] uint8 at another size, by area averaging, or cubic where that enlarges."""
    if frame.shape[:2] == (height, width):
        return frame
    enlarges = height > frame.shape[0] or width > frame.shape[1]
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC if enlarges else cv2.INTER_AREA)
