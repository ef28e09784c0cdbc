"""Which clip a job is of: a fingerprint of what it holds, not of its name.

    identity(VideoReader("clip.mp4"))   -> {"frames": 250, "width": 1280, "height": 720, "sha256": "9f2c..."}

The same clip under another name is the same; the same name with other bytes is another one. What lies in a file or in
a folder of images is read as it lies there, without decoding it; the frames of other clips are read all.
"""

import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gp_jax.geometry import Canvas


class Clip(Protocol):
    """See `gp_jax.methods.method.Clip`."""

    def __len__(self) -> int: ...

    def frames_at(self, indices: Iterable[int]) -> Iterator[np.ndarray]:
        """uint8 [Hs, Ws, 3] for each of the rising indices."""
        ...


def identity(clip: Clip, canvas: Canvas) -> dict[str, Any]:
    """What makes a clip this clip, as JSON.

    Args:
      clip: whose frames have the canvas' source size; one with a `path` is what lies there, scaled to that size, or
        some of its frames, as its `info` tells; one that is made on the way has an `origin`, all that it depends on.
      canvas: of the clip.
    """
    size = {"width": canvas.source_width, "height": canvas.source_height}
    if (origin := getattr(clip, "origin", None)) is not None:
        return {"frames": len(clip), **size, "origin": origin}
    path = getattr(clip, "path", None)
    total = hashlib.sha256()
    if isinstance(path, Path):
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.is_file():
                name, status = file.name if path.is_dir() else "", file.stat()
                total.update(f"{name} {_sha256(file, status.st_size, status.st_mtime_ns)}\n".encode())
    else:
        for frame in clip.frames_at(range(len(clip))):
            total.update(np.ascontiguousarray(frame).data)
    first = getattr(getattr(clip, "info", None), "first", None)
    if isinstance(path, Path) and first is not None:
        total.update(f"from frame {first}\n".encode())
    return {"frames": len(clip), **size, "sha256": total.hexdigest()}


@functools.lru_cache(maxsize=4096)
def _sha256(file: Path, size: int, changed: int) -> str:
    """Of a file that was `changed` then; each of the shots of a film asks for it."""
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
