"""Frames that are made once, in the order of time, and read as often and in any order as somebody likes.

    with Spool(250, (96, 168, 3), folder=work) as spool:        48 MB, reserved now or not at all
        spool.fill(native_frames(clip))                         by a thread, while others do other things
        spool[249]                                              waits until it is there; float32

Levels of a plan read a clip each in their own order, the first one from all over it. Without a spool the clip would be
decoded and scaled once per level; with it once.

Clips of up to 4 MB lie in memory. Others lie in a file that has no name, so that nothing stays behind, not even after
kill -9. Its room is reserved at once: a full disk is told before the work. It is read and written, not mapped, since
the pages of a mapped file would count as memory of this process, and a failing disk would be the signal SIGBUS, not an
error.

Frames are float32, as they come, so that a spool changes nothing. float16 would take half the room and change one of
800 new values by one level of 255 (`tiny`, 40 frames of 720p): nothing to see, but no longer the same clip.
"""

import math
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from gp_jax.errors import UserError

MEMORY = 2**22  # bytes that may lie in memory: no clip takes more of it than a longer one
MOST = 2**30  # bytes that may lie anywhere: of a longer clip frames are read again and again (passes.py)
DTYPE = np.dtype(np.float32)


def is_kept(count: int, shape: tuple[int, ...]) -> bool:
    """Whether so many frames of a shape are few enough to be kept."""
    return count * math.prod(shape) * DTYPE.itemsize <= MOST


def check_room(count: int, shape: tuple[int, ...], folder: Path | None = None, dtype: DTypeLike = DTYPE) -> int:
    """Bytes on disk that `Spool` will take, 0 for one in memory; raises UserError where there is no room for them.

    Args:
      count, shape, dtype: of the frames.
      folder: where they will lie, or will be made; None for the system's folder of temporary files.
    """
    size = count * math.prod(shape) * np.dtype(dtype).itemsize
    if size <= MEMORY:
        return 0
    place = Path(tempfile.gettempdir() if folder is None else folder)
    there = next(parent for parent in (place.absolute(), *place.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if size > free:
        raise _full(size, place, f"{free / 1e9:,.3g} GB are free there")
    return size


class Spool:
    """Frames by index, each written once. Use it in a `with` block, which ends the thread that fills it.

    Args:
      count: of the frames.
      shape: of each.
      folder: where they lie if they do not fit into memory; None for the system's folder of temporary files.
      dtype: of their numbers.

    Raises:
      UserError: the disk has no room for them.
    """

    def __init__(self, count: int, shape: tuple[int, ...], folder: Path | None = None, dtype: DTypeLike = DTYPE):
        self.count, self.shape, self.dtype = count, shape, np.dtype(dtype)
        self._frame_bytes = math.prod(shape) * self.dtype.itemsize
        self._stack = ExitStack()
        self._there, self._is_filled, self._ended = 0, False, False
        self._error: BaseException | None = None
        self._news = threading.Condition()
        self._memory = self._file = None
        if check_room(count, shape, folder, dtype):
            self._file = self._reserve(folder)
        else:
            self._memory = np.empty((count, *shape), dtype)

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended = True
        self._stack.close()

    def fill(self, frames: Iterable[np.ndarray]) -> None:
        """Starts to take frames, in the order of time, in a thread of its own; what goes wrong there is raised by
        whoever asks for a frame that did not come."""
        thread = threading.Thread(target=self._fill, args=[frames], name="spool", daemon=True)
        self._is_filled = True
        self._stack.callback(thread.join)
        thread.start()

    def take(self, frames: Iterable[np.ndarray]) -> None:
        """Takes all frames here and now, in the order of time; what goes wrong there goes on."""
        self._is_filled = True
        for index, frame in enumerate(frames):
            self._write(index, np.ascontiguousarray(frame, self.dtype))
            self._there = index + 1

    def __getitem__(self, index: int) -> np.ndarray:
        """Of `shape`, waited for; somebody must have begun to `fill`."""
        if not self._is_filled:
            raise RuntimeError("a frame is asked for of a spool that nobody fills")
        with self._news:
            self._news.wait_for(lambda: self._there > index or self._error is not None)
            if self._there <= index and self._error is not None:
                raise self._error
        if self._memory is not None:
            return self._memory[index]
        assert self._file is not None
        data = bytearray(self._frame_bytes)
        read = os.preadv(self._file, [data], index * self._frame_bytes)
        if read != len(data):
            raise OSError(f"a file of frames gave {read} bytes and not {len(data)}")
        return np.frombuffer(data, self.dtype).reshape(self.shape)

    def along(self, name: int, first: int) -> "Spool":
        """Frames from `first` on, for whoever goes by that name: see `Passes`, which lets go of those before."""
        return self

    def some(self, indices: Iterable[int]) -> list[np.ndarray]:
        """The frames of some indices."""
        return [self[index] for index in indices]

    def _fill(self, frames: Iterable[np.ndarray]) -> None:
        try:
            for index, frame in enumerate(frames):
                if self._ended:
                    break
                self._write(index, np.ascontiguousarray(frame, self.dtype))
                with self._news:
                    self._there = index + 1
                    self._news.notify_all()
            raise EOFError(f"{self._there} frames came, and {self.count} were promised")
        except BaseException as error:
            with self._news:
                self._error = error
                self._news.notify_all()

    def _write(self, index: int, frame: np.ndarray) -> None:
        if self._memory is not None:
            self._memory[index] = frame
            return
        assert self._file is not None
        if (written := os.pwrite(self._file, frame.data, index * self._frame_bytes)) != frame.nbytes:
            raise OSError(f"a file of frames took {written} bytes and not {frame.nbytes}")

    def _reserve(self, folder: Path | None) -> int:
        size = self.count * self._frame_bytes
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            file = self._stack.enter_context(tempfile.TemporaryFile(dir=folder)).fileno()  # noqa: SIM115
            os.posix_fallocate(file, 0, size)
        except OSError as error:
            self._stack.close()
            raise _full(size, Path(folder or tempfile.gettempdir()), error.strerror or str(error)) from error
        return file


def _full(size: int, place: Path, why: str) -> UserError:
    return UserError(
        f"the clip's frames take {size / 1e9:,.3g} GB in {place} while they are worked on, and {why}: make room, or "
        "choose a folder with room by --work-folder or TMPDIR"
    )
