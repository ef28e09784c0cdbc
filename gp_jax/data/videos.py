"""Video files as clips, without records: nothing to prepare, but every sample decodes from the last key frame on.

folder = VideoFolder(Path("videos"), "train", size=(256, 256))
folder[3].read([0, 8, 16])             # [3, 256, 256, 3] uint8
"""

import functools
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from gp_jax.errors import UserError
from gp_jax.video import VideoReader

SUFFIXES = {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".gif", ".webp", ".ogv", ".flv", ".ts"}


class VideoFolder:
    """The video files under a folder, as `RecordFolder` offers records. `folder/validation/` and `folder/train/` are
    splits; without the latter, all that is not for validation is for training.

    Attributes:
      folder: where they lie.
      size: (height, width) to which frames are brought.

    Raises:
      UserError: there is no video, or no such split.
    """

    def __init__(self, folder: Path, split: str, size: tuple[int, int]):
        self.folder, self.size = folder, size
        if split != "train" and not (folder / split).is_dir():
            raise UserError(
                f"{folder} has no folder {split}/ for the split {split!r}: move some videos there, or set "
                "validation.interval to 0"
            )
        held_out = folder / "validation"
        found = find_videos(folder / split if (folder / split).is_dir() else folder)
        self._files = [file for file in found if split != "train" or held_out not in file.parents]

    def __len__(self) -> int:
        return len(self._files)

    def name(self, index: int) -> str:
        return str(self._files[index])

    def __getitem__(self, index: int) -> "VideoClip":
        """Raises UserError where the file cannot be read."""
        return VideoClip(self._files[index], self.size)


class VideoClip:
    """A video file with the interface of `gp_jax.data.clips.Clip`."""

    def __init__(self, path: Path, size: tuple[int, int]):
        self._reader, self._size = _open(path), size
        self.key = str(path)

    @property
    def num_frames(self) -> int:
        return len(self._reader)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return float(self._reader.info.frame_rate)

    def read(self, indices: Iterable[int]) -> np.ndarray:
        """[len(indices), H, W, 3] uint8 of strictly increasing indices."""
        return np.stack([cover(frame, self._size) for frame in self._reader.frames_at(indices)])


def find_videos(folder: Path) -> list[Path]:
    """All video files under a folder, in order; hidden ones may be half-written. UserError where there is none."""
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    )
    if not files:
        raise UserError(f"there is no video under {folder} ({', '.join(sorted(SUFFIXES))})")
    return files


def cover(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scales a frame until it covers `size` (height, width), and cuts off what juts out, the same on either side."""
    height, width = size
    scale = max(height / frame.shape[0], width / frame.shape[1])
    scaled = max(height, round(frame.shape[0] * scale)), max(width, round(frame.shape[1] * scale))
    if scaled != frame.shape[:2]:
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        frame = cv2.resize(frame, scaled[::-1], interpolation=method)
    top, left = (scaled[0] - height) // 2, (scaled[1] - width) // 2
    return frame[top : top + height, left : left + width]


@functools.lru_cache(maxsize=4096)
def _open(path: Path) -> VideoReader:
    # Opening decodes the whole file once; what is kept of it is small.
    return VideoReader(path)
