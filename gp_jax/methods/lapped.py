"""What is made grows into the source, and fades there: a job around any other.

    job = lapped(prepare, clip, canvas, work, width=6)

    |  beyond the source   |     its border, `width` pixels     |  the source  |
    |  made                |  made as well, and less and less   |  as it is    |
    |                      |  of it shown the farther from here |              |

The inner job is shown the source without that border, which it makes once more; the whole source is laid over its
frames, trusted not at all at its outer edge and wholly from `width` pixels on. A side where nothing is made has no such
border.
"""

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.method import Clip, Estimate, Progress, observed, quiet

Prepare = Callable[[Clip, Canvas, Path | None], Any]  # a job that has a `journal` and a `total`


def lapped(prepare: Prepare, clip: Clip, canvas: Canvas, work: Path | None, width: float) -> Any:
    """What `prepare` gives, its frames grown into the source; as it is where `width` is 0 or nothing is made.

    Args:
      prepare: (clip, canvas, folder of its journal or None) -> job.
      clip, canvas, work: what is to be made.
      width: of the border, in pixels of the canvas.

    Raises:
      UserError: nothing is left of the source that is trusted.
    """
    if not width or canvas.is_complete:
        return prepare(clip, canvas, work)
    inner = without_border(canvas, width)
    return LappedJob(prepare(Cropped(clip, canvas, inner), inner, work), clip, canvas, width)


def without_border(canvas: Canvas, width: float) -> Canvas:
    """The canvas of a source that lacks its border, `width` rounded up, where that is not the canvas' own; raises
    UserError where nothing is left."""
    cut = math.ceil(width)
    (top, bottom), (left, right) = ([cut * bool(pad) for pad in pads] for pads in canvas.pads)
    sides = canvas.source_height - top - bottom, canvas.source_width - left - right
    check_left(canvas, width, sides)
    return Canvas(canvas.height, canvas.width, canvas.top + top, canvas.left + left, *sides)


def check_left(canvas: Canvas, width: float, sides: tuple[int, int]) -> None:
    """Raises UserError where borders of this width leave nothing of the source; `sides` are what they leave."""
    if min(sides) < 1:
        raise UserError(
            f"an overlap that takes {width:.0f} pixels from each border leaves nothing of a source of "
            f"{canvas.source_width}x{canvas.source_height}: ask for less"
        )


class Cropped:
    """A part of each frame of a clip as a clip.

    Args:
      clip, canvas: the whole.
      inner: a canvas of the same size, whose source is the part.
    """

    def __init__(self, clip: Clip, canvas: Canvas, inner: Canvas):
        self.clip, self.canvas = clip, canvas
        top, left = inner.top - canvas.top, inner.left - canvas.left
        self._part = slice(top, top + inner.source_height), slice(left, left + inner.source_width)
        # What tells which clip it is, and how fast.
        self.path, self.info, self.origin = (getattr(clip, name, None) for name in ("path", "info", "origin"))

    def __len__(self) -> int:
        return len(self.clip)

    def frames_at(self, indices: Iterable[int]) -> Iterator[np.ndarray]:
        """See `Clip`."""
        return (np.ascontiguousarray(frame[self._part]) for frame in observed(self.clip, self.canvas, indices))


class LappedJob:
    """A job over whose frames the whole source is laid; see `gp_jax.methods.method.Job` and `lapped`."""

    def __init__(self, inner: Any, clip: Clip, canvas: Canvas, width: float):
        self.inner, self.clip, self.canvas = inner, clip, canvas
        self.total, self.journal = inner.total, inner.journal
        down, across = map(_distance, (canvas.source_height, canvas.source_width), canvas.pads)
        nearest = np.minimum(down[:, None], across)[..., None]
        self.trust = np.minimum(nearest / width, 1.0).astype(np.float32)

    @property
    def estimate(self) -> Estimate:
        """See `Job`."""
        return self.inner.estimate

    def frames(self, progress: Progress = quiet) -> Generator[np.ndarray, None, None]:
        """See `Job`."""
        with closing(self.inner.frames(progress)) as frames:
            for frame, source in zip(frames, observed(self.clip, self.canvas, range(len(self.clip)))):
                laid = frame.copy()
                mixed = self.trust * source + (1 - self.trust) * frame[self.canvas.observed]
                laid[self.canvas.observed] = np.round(mixed)
                yield laid


def _distance(length: int, pads: tuple[int, int]) -> np.ndarray:
    """[length]: how far the middle of each pixel is from the ends beyond which something is made."""
    at = np.arange(length) + 0.5
    before, after = (way if pad else np.full(length, np.inf) for way, pad in zip((at, length - at), pads))
    return np.minimum(before, after)
