"""A large canvas in rounds, from the source outwards: each round continues what the one before it made.

    canvases = rounds(Canvas(720, 1280, 0, 400, 720, 480))           to 720x784, and from there to 720x1280
    job = in_rounds(prepare, clip, canvases, work)                   a job as any other

A network that has to make most of a frame has little to go by: those of `configs/` have learned from 15 to 70 % of it,
less than half on average. So a round adds fewer pixels than there are; from twice the source's area on there are two
or more, of equal growth. Frames of a round lie in a spool, as bytes, until all is done; the source's own pixels pass
through all rounds as they are.
"""

import dataclasses
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from gp_jax.geometry import Canvas
from gp_jax.jobs.shared_journal import journal_of
from gp_jax.jobs.spool import Spool, check_room
from gp_jax.methods.method import Clip, Estimate, Progress, quiet
from gp_jax.parallel.processes import is_first

Prepare = Callable[[Clip, Canvas, Path | None], Any]  # a job that has a `journal` and a `total`


def rounds(canvas: Canvas) -> list[Canvas]:
    """One canvas after the other, each around the one before, the last one as large as `canvas`; that alone where it
    has less than twice the source's area."""
    growth = canvas.height * canvas.width / (canvas.source_height * canvas.source_width)
    count = int(math.log2(growth)) + 1
    frames = [_grown(canvas, growth ** (number / count)) for number in range(1, count)] + [canvas]
    made, before = [frames[0]], frames[0]
    for frame in frames[1:]:
        corner = frame.top - before.top, frame.left - before.left
        made.append(Canvas(frame.height, frame.width, *corner, before.height, before.width))
        before = frame
    return made


def _grown(canvas: Canvas, factor: float) -> Canvas:
    """As much of the canvas around its source as has `factor` of its area, the pads in proportion."""
    (above, below), (before, behind) = canvas.pads
    height, width = canvas.source_height, canvas.source_width
    # (height + share * down) * (width + share * across) = factor * height * width
    down, across = above + below, before + behind
    a, b, c = down * across, height * across + width * down, (1 - factor) * height * width
    share = 2 * -c / (b + math.sqrt(b * b - 4 * a * c))
    above, below, before, behind = (round(share * pad) for pad in (above, below, before, behind))
    return Canvas.from_pads(height, width, before, behind, above, below)


def in_rounds(prepare: Prepare, clip: Clip, canvases: Sequence[Canvas], work: Path | None) -> Any:
    """The job of the canvases of `rounds`; of one alone, what `prepare` gives.

    Args:
      prepare: (clip, canvas, folder of its journal or None) -> job.
      clip, canvases: what is to be made.
      work: a folder for the journal of each round; None for none.
    """
    if len(canvases) == 1:
        return prepare(clip, canvases[0], work)
    jobs: list[Any] = []
    clips: list[MadeClip] = []
    for number, canvas in enumerate(canvases):
        folder = None if work is None else work / f"round-{number + 1}"
        jobs.append(prepare(clip, canvas, folder))
        if number < len(canvases) - 1:
            clip = MadeClip(len(clip), canvas, jobs[-1].journal and jobs[-1].journal.of, work)
            clips.append(clip)
    return RoundsJob(jobs, clips, canvases[-1], work)


class MadeClip:
    """What a round makes, for the next one.

    Args:
      count: of frames.
      canvas: whose size they have.
      origin: all that they depend on, JSON; None where no journal asks for it.
      work: a folder for those that memory does not hold.

    Raises:
      UserError: there is no room for them.
    """

    def __init__(self, count: int, canvas: Canvas, origin: Any, work: Path | None):
        self.count, self.shape, self.origin = count, (canvas.height, canvas.width, 3), origin
        self.work = work if is_first() else None  # of several processes one keeps files there
        self.disk = check_room(count, self.shape, self.work, np.uint8)
        self.spool: Spool | None = None

    def __len__(self) -> int:
        return self.count

    def frames_at(self, indices: Iterable[int]) -> Iterator[np.ndarray]:
        """See `Clip`."""
        assert self.spool is not None, "the round before is not made yet"
        return (self.spool[index] for index in indices)


class RoundsJob:
    """Several jobs, each of the clip that the one before it makes; see `gp_jax.methods.method.Job`."""

    def __init__(self, jobs: Sequence[Any], clips: Sequence[MadeClip], canvas: Canvas, work: Path | None):
        self.jobs, self.clips = jobs, clips
        self.total = sum(job.total for job in jobs)
        of = jobs[0].journal and {**jobs[0].journal.of, "canvas": dataclasses.asdict(canvas)}
        self.journal = None if work is None else journal_of(work, of)

    @property
    def estimate(self) -> Estimate:
        """See `Job`; of memory, the most that a round takes beside the frames that it and the next one stand on."""
        parts = [job.estimate for job in self.jobs]
        held = max(len(clip) * int(np.prod(clip.shape)) - clip.disk for clip in self.clips)
        return Estimate(
            sum(part.evaluations for part in parts),
            sum(part.seconds or 0 for part in parts),
            max(part.peak_bytes or 0 for part in parts) + 2 * held,
            sum(part.idle for part in parts),
            sum(part.disk_bytes for part in parts) + sum(clip.disk for clip in self.clips),
        )

    def frames(self, progress: Progress = quiet) -> Generator[np.ndarray, None, None]:
        """See `Job`."""
        with ExitStack() as stack:
            if self.journal is not None:
                stack.enter_context(self.journal)
            before = 0
            for number, (job, clip) in enumerate(zip(self.jobs, [*self.clips, None]), start=1):

                def report(done: int, _: int, label: str, before: int = before, number: int = number) -> None:
                    progress(before + done, self.total, f"round {number} of {len(self.jobs)}, {label}")

                frames = stack.enter_context(closing(job.frames(report)))
                if clip is None:
                    yield from frames
                else:
                    clip.spool = stack.enter_context(Spool(len(clip), clip.shape, clip.work, np.uint8))
                    clip.spool.take(frames)
                before += job.total
