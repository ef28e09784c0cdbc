"""What a method is: something that makes a wide clip of a narrow one, be it a copied border or a trained model.

    method = registry.load("mirror")
    video = method(frames, canvas)                                         uint8 [T, Hs, Ws, 3] -> uint8 [T, H, W, 3]

    job = method.prepare(ArrayClip(frames), canvas, method.Options())      checks everything, computes nothing heavy
    job.estimate                                                           what is to come
    for frame in job.frames():                                             uint8 [H, W, 3], in the order of time
        writer.write(frame)

Whoever runs methods (the command, the evaluation, a page) knows no more of them than this, and gets them from
registry.py. What can be asked of one is its dataclass of options, from which `--help` and the report are made.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.jobs.rates import duration

Progress = Callable[[int, int, str], None]  # (pieces of work done, pieces in all, what is at work)

STAND_INS = "stand_ins"
TOLD_DISK = 5e7  # bytes on disk that are worth a word


def quiet(done: int, total: int, label: str) -> None:
    """The progress that nobody wants to hear of."""


class Clip(Protocol):
    """A clip that can be read again and again, as `gp_jax.video.VideoReader` can."""

    def __len__(self) -> int: ...

    def frames_at(self, indices: Iterable[int]) -> Iterator[np.ndarray]:
        """uint8 [Hs, Ws, 3] for each of the rising indices."""
        ...


class ArrayClip:
    """A clip in memory. Raises UserError unless it is uint8 [T, Hs, Ws, 3] with a frame at least."""

    def __init__(self, frames: np.ndarray | Sequence[np.ndarray]):
        try:
            self.frames = np.asarray(frames)
        except ValueError as error:  # of NumPy
            raise UserError("the frames of a clip are not of one size: make them so") from error
        if self.frames.dtype != np.uint8 or self.frames.ndim != 4 or self.frames.shape[-1] != 3:
            raise UserError(f"frames must be uint8 [T, H, W, 3], not {self.frames.dtype} {list(self.frames.shape)}")
        if not len(self.frames):
            raise UserError("the clip has no frames: there is nothing to continue")

    def __len__(self) -> int:
        return len(self.frames)

    def frames_at(self, indices: Iterable[int]) -> Iterator[np.ndarray]:
        """See `Clip`."""
        return (self.frames[index] for index in indices)


def clip_of(given: Any) -> Clip:
    """A clip, or one of frames in memory; raises UserError for a file's name, and as `ArrayClip`."""
    if isinstance(given, str | Path):
        raise UserError(f"the clip is the name {str(given)!r}, not frames: read it by gp_jax.video.VideoReader")
    return given if hasattr(given, "frames_at") else ArrayClip(given)


def check_canvas(canvas: Any) -> None:
    """Raises UserError where it is none."""
    if not isinstance(canvas, Canvas):
        raise UserError(
            f"the canvas is {canvas!r}, not a gp_jax.geometry.Canvas: make one by "
            "Canvas.from_aspect(height, width, 16 / 9), from_size or from_pads"
        )


def observed(clip: Clip, canvas: Canvas, indices: Iterable[int]) -> Generator[np.ndarray, None, None]:
    """The clip's frames at the rising indices; raises UserError at one that is not of the canvas' source size."""
    expected = (canvas.source_height, canvas.source_width, 3)
    for frame in clip.frames_at(indices):
        if frame.shape != expected:
            raise UserError(
                f"the clip has frames of {frame.shape[1]}x{frame.shape[0]} pixels, but the canvas is made for "
                f"{expected[1]}x{expected[0]}: make it for the clip"
            )
        yield frame


@dataclass(frozen=True)
class Estimate:
    """What a job will cost, said before it starts.

    Attributes:
      evaluations: calls of a denoising network, one segment and one guidance branch each.
      idle: as many more whose outcome nobody needs: they fill the batches of a mesh.
      seconds: of wall time, programs that are not compiled yet included; None where nothing is known.
      peak_bytes: of memory at once, beside what the process holds already; None where nothing is known.
      disk_bytes: of the journal and of frames that memory does not hold.
    """

    evaluations: int = 0
    seconds: float | None = None
    peak_bytes: int | None = None
    idle: int = 0
    disk_bytes: int = 0

    def told(self, beside: float = 0.0, memory: int = 0) -> str:
        """ "about 40 s, 123 network evaluations, 1.9 GB", of what is known; nothing of a job without networks.

        Args:
          beside: seconds that pass beside the job.
          memory: bytes that are used beside it.
        """
        parts = []
        if self.seconds is not None:
            parts.append(f"about {duration(self.seconds + beside)}")
        if self.evaluations:
            idle = f" (and {self.idle} idle ones, which fill the mesh)" if self.idle else ""
            parts.append(f"{self.evaluations} network evaluation{'s' * (self.evaluations > 1)}{idle}")
        if self.seconds is not None and self.peak_bytes is not None:
            parts.append(f"{(self.peak_bytes + memory) / 1e9:.2g} GB")
        if self.disk_bytes >= TOLD_DISK:
            parts.append(f"{self.disk_bytes / 1e9:.2g} GB on disk meanwhile")
        return ", ".join(parts)


class Job(Protocol):
    """One clip on its way through a method."""

    @property
    def estimate(self) -> Estimate:
        """What `frames` will cost."""
        ...

    def frames(self, progress: Progress = quiet) -> Generator[np.ndarray, None, None]:
        """uint8 [H, W, 3] for each frame of the clip, in the order of time, observed pixels as they are.

        Closed before its end, it lets go of all that it holds.

        Raises:
          UserError: a frame of the clip is not of the size that the canvas was made for, or a network made NaN of one.
        """
        ...


class Method(Protocol):
    """A way to outpaint.

    Attributes:
      name: what tables and reports call it.
      Options: a frozen dataclass whose fields have defaults (options.py).
      outputs: where its frames lie already, as FOLDER/CASE/CLIP, because another system made them; else None.
    """

    name: str
    Options: ClassVar[type]

    outputs: Path | None = None

    def __call__(self, frames: np.ndarray | Sequence[np.ndarray], canvas: Canvas, **options: Any) -> np.ndarray:
        """Outpaints a clip in memory.

        Args:
          frames: uint8 [T, Hs, Ws, 3], or a list of frames.
          canvas: the target frame.
          **options: the fields of `Options`.

        Returns:
          uint8 [T, H, W, 3], observed pixels exactly those of `frames`.

        Raises:
          UserError: the method has no such option, or as for `prepare` and `Job.frames`.
        """
        return np.stack(list(self.stream(frames, canvas, **options)))

    def stream(
        self, clip: Clip | np.ndarray | Sequence[np.ndarray], canvas: Canvas, **options: Any
    ) -> Iterator[np.ndarray]:
        """The same, frame by frame, of a clip of any length; arguments and errors as there."""
        check_canvas(canvas)
        if unknown := sorted(options.keys() - {field.name for field in fields(self.Options)}):
            known = ", ".join(field.name for field in fields(self.Options)) or "none"
            raise UserError(f"{self.name} has no option {unknown[0]!r}: it has {known}")
        return self.prepare(clip_of(clip), canvas, self.Options(**options)).frames()

    def settings(self, options: Any) -> Mapping[str, Any]:
        """What its frames depend on beside clip and canvas, as JSON; equal settings, equal frames.

        What stands there under `STAND_INS`, parts of a published method that are others here, is told below numbers.
        """
        ...

    def side_by_side(self, options: Any) -> int:
        """How many clips are best made by one job, as a `Together`, since they share the devices then; 1 where each has
        to have a job of its own."""
        return 1

    def prepare(self, clip: Clip, canvas: Canvas, options: Any, work: Path | None = None) -> Job:
        """Checks everything, computes nothing heavy.

        Args:
          clip: of frames of the canvas' source size.
          canvas: the target frame.
          options: an instance of `Options`.
          work: a folder for a journal, so that a job that was killed goes on where it was; methods that are done in
            seconds leave it empty.

        Raises:
          UserError: in one sentence, what cannot be done of this.
        """
        ...
