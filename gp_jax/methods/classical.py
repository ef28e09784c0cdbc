"""Methods that need no training: copied and folded borders, OpenCV's inpainting, propagation along optical flow.

    edge()(frames, canvas)      # uint8 [T, Hs, Ws, 3] -> uint8 [T, H, W, 3]

All of them are done in seconds, so none keeps a journal.
"""

import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from gp_jax.geometry import Canvas, pixel_mask
from gp_jax.memory import require
from gp_jax.methods.flow_propagation import held, outpaint
from gp_jax.methods.method import Clip, Estimate, Method, Progress, observed, quiet
from gp_jax.methods.options import NoOptions

RADIUS = 3  # of OpenCV's inpainting, in pixels

# From a clip's frames, uint8 [Hs, Ws, 3], to those of the canvas, uint8 [H, W, 3], the observed pixels as they are.
Make = Callable[[Iterable[np.ndarray], Canvas], Iterable[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Classical(Method):
    """A method that is a function of the frames.

    Attributes:
      name: in tables and reports.
      make: the function.
      held: (canvas, frames of the clip) -> bytes that it takes at once; None where frames come and go one by one.
    """

    name: str
    make: Make
    held: Callable[[Canvas, int], int] | None = None
    outputs: Path | None = None
    Options: ClassVar[type] = NoOptions

    def settings(self, options: Any) -> Mapping[str, Any]:
        """Its name says all."""
        return {}

    def prepare(self, clip: Clip, canvas: Canvas, options: NoOptions, work: Path | None = None) -> "ClassicalJob":
        """See `Method`."""
        bytes = 2 * canvas.frame_bytes if self.held is None else self.held(canvas, len(clip))
        require(bytes, f"{len(clip)} frames of {canvas.width}x{canvas.height}")
        return ClassicalJob(self.make, clip, canvas, Estimate(peak_bytes=bytes))


@dataclasses.dataclass(frozen=True)
class ClassicalJob:
    """A clip on its way through a `Classical`."""

    make: Make
    clip: Clip
    canvas: Canvas
    estimate: Estimate

    def frames(self, progress: Progress = quiet) -> Generator[np.ndarray, None, None]:
        """See `Job`."""
        total = len(self.clip)
        source = observed(self.clip, self.canvas, range(total))
        progress(0, total, "frames")
        for done, frame in enumerate(self.make(source, self.canvas), 1):
            yield frame
            progress(done, total, "frames")


def edge() -> Classical:
    """Copies the border pixels outwards."""
    return Classical("edge", lambda frames, canvas: (_pad(frame, canvas, "edge") for frame in frames))


def mirror() -> Classical:
    """Folds the source over at its borders, again and again where it is narrow."""
    return Classical("mirror", lambda frames, canvas: (_pad(frame, canvas, "symmetric") for frame in frames))


def telea() -> Classical:
    """OpenCV's inpainting of each frame by itself (Telea 2004, fast marching)."""
    return Classical("telea", lambda frames, canvas: _inpaint(frames, canvas, cv2.INPAINT_TELEA))


def navier_stokes() -> Classical:
    """OpenCV's inpainting of each frame by itself (Bertalmio et al. 2001, fluid dynamics)."""
    return Classical("navier-stokes", lambda frames, canvas: _inpaint(frames, canvas, cv2.INPAINT_NS))


def flow() -> Classical:
    """What other frames have seen, carried over along the motion of the camera (flow_propagation.py)."""
    return Classical("flow", outpaint, held)


def _pad(frame: np.ndarray, canvas: Canvas, mode: Any) -> np.ndarray:
    return np.pad(frame, (*canvas.pads, (0, 0)), mode=mode)


def _inpaint(frames: Iterable[np.ndarray], canvas: Canvas, flag: int) -> Iterator[np.ndarray]:
    mask = pixel_mask(canvas).astype(np.uint8)
    return (cv2.inpaint(_pad(frame, canvas, "edge"), mask, RADIUS, flag) for frame in frames)
