"""A film of several shots, each of them made by itself, by whatever method.

    shots = shots_of(reader)                                [range(0, 48), range(48, 120), range(120, 250)]
    job = prepare(method, reader, canvas, options, work, shots)
    for frame in job.frames(progress): ...                  of all shots, in the order of time

What a method knows of a clip, tokens of the whole of it, key frames, the flow from frame to frame, a LoRA fitted to it,
is then of one shot: nothing of a kitchen comes into a street. One shot is the method's own job, as if nothing of this
were here. What is done of several lies in folders of their own, within the one that was asked for:

    work.json                      which shots there are
    shot-48-120/                   the journal of one
"""

import dataclasses
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gp_jax.data.shots import THUMBNAIL, cuts
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.jobs.source import identity
from gp_jax.methods.method import Clip, Estimate, Job, Method, Progress, quiet
from gp_jax.methods.together import Together
from gp_jax.video import VideoReader


def shots_of(clip: Clip, progress: Progress = quiet) -> list[range]:
    """The frames of each shot of a clip, which is read once; see `gp_jax.data.shots.cuts`."""
    small = clip.resized(*THUMBNAIL[::-1]) if isinstance(clip, VideoReader) else clip
    starts = [0, *cuts(_told(small, progress)), len(clip)]
    return [range(start, stop) for start, stop in pairwise(starts)]


def prepare(method: Method, clip: Clip, canvas: Canvas, options: Any, work: Path | None, shots: Sequence[range]) -> Job:
    """A job for all shots of a clip, checked; arguments and errors as of `Method.prepare`.

    Raises:
      UserError: also, what is asked for can be had of one shot only.
    """
    if len(shots) == 1:
        return method.prepare(clip, canvas, options, work)
    if method.side_by_side(options) > 1:
        parts = [_part(clip, shot) for shot in shots]
        return method.prepare(Together(parts, work and identity(clip, canvas)), canvas, options, work)
    return Film(method, clip, canvas, options, work, shots)


class Film:
    """The jobs of several shots, one after the other."""

    def __init__(
        self, method: Method, clip: Clip, canvas: Canvas, options: Any, work: Path | None, shots: Sequence[range]
    ):
        if getattr(options, "save_lora", None):
            raise UserError(
                f"a LoRA is fitted to each of the {len(shots)} shots, and only one can be kept: leave save_lora out, "
                "or choose a shot by --frames, or --no-shots"
            )
        its_options = _each(options, clip, canvas, shots)
        self.jobs: list[Job | None] = [
            method.prepare(_part(clip, shot), canvas, own, work and work / f"shot-{shot.start}-{shot.stop}")
            for shot, own in zip(shots, its_options)
        ]
        self.shots, self.journal = shots, None
        # Where the method keeps nothing of a shot, there is nothing of the film to go on with.
        if work is not None and any(getattr(job, "journal", None) for job in self.jobs):
            bounds = [[shot.start, shot.stop] for shot in shots]
            canvas_of = dataclasses.asdict(canvas)
            from gp_jax.jobs.shared_journal import journal_of  # which imports jax

            self.journal = journal_of(work, {"shots": bounds, "source": identity(clip, canvas), "canvas": canvas_of})

    @property
    def estimate(self) -> Estimate:
        """See `Job`; of what was not made yet."""
        each = [job.estimate for job in self.jobs if job is not None]
        seconds = [one.seconds for one in each if one.seconds is not None]
        peaks = [one.peak_bytes for one in each if one.peak_bytes is not None]
        return Estimate(
            sum(one.evaluations for one in each),
            sum(seconds) if len(seconds) == len(each) else None,
            max(peaks) if len(peaks) == len(each) else None,
            idle=sum(one.idle for one in each),
            disk_bytes=sum(one.disk_bytes for one in each),
        )

    def frames(self, progress: Progress = quiet) -> Generator[np.ndarray, None, None]:
        """See `Job`; done are frames, of all shots."""
        total = self.shots[-1].stop
        with ExitStack() as stack:
            if self.journal is not None:
                stack.enter_context(self.journal)
            for number, shot in enumerate(self.shots):

                def report(done: int, of: int, label: str, number: int = number, shot: range = shot) -> None:
                    before = shot.start + len(shot) * done // max(of, 1)
                    progress(before, total, f"shot {number + 1} of {len(self.shots)}, {label}")

                job, self.jobs[number] = self.jobs[number], None  # with it goes what was fitted to the shot
                assert job is not None
                with closing(job.frames(report)) as frames:
                    yield from frames


@dataclasses.dataclass(frozen=True)
class _Part:
    """Some frames of a clip as a clip."""

    clip: Clip
    shot: range

    def __len__(self) -> int:
        return len(self.shot)

    def frames_at(self, indices: Iterable[int]) -> Iterator[np.ndarray]:
        """See `Clip`."""
        return self.clip.frames_at([self.shot[index] for index in indices])


def _part(clip: Clip, shot: range) -> Clip:
    return clip.part(shot.start, shot.stop) if isinstance(clip, VideoReader) else _Part(clip, shot)


def _each(options: Any, clip: Clip, canvas: Canvas, shots: Sequence[range]) -> Iterator[Any]:
    """The options of each shot: of a mask and of a path, which are of all frames, its own."""
    from gp_jax.methods.seen import Masked, Moving  # which imports jax, and commands tell of what is wrong before that

    mask, path = (getattr(options, name, None) for name in ("mask", "path"))
    masked = None if mask is None else Masked.of(clip, canvas, mask).mask
    places = None if path is None else Moving.of(clip, canvas, path).path
    for shot in shots:
        own = {}
        if masked is not None:
            own["mask"] = _part(masked, shot) if len(masked) > 1 else masked
        if places is not None:
            own["path"] = places[shot.start : shot.stop]
        yield dataclasses.replace(options, **own) if own else options


def sources(clip: Clip, canvas: Canvas, options: Any, shots: Sequence[range]) -> Iterator[np.ndarray]:
    """The source as it lies in each frame, uint8 [H, W, 4]: colours, and 255 where it is shown, else 0."""
    from gp_jax.methods.seen import Moving, seen_of

    for shot, own in zip(shots, _each(options, clip, canvas, shots)):
        part, asked = _part(clip, shot), [getattr(own, name, None) for name in ("mask", "path", "stabilize")]
        seen = seen_of(part, canvas, *asked[:2], stabilize=bool(asked[2]))
        yield from (seen or Moving(part, canvas, np.array([[canvas.left, canvas.top]] * len(shot)))).layers()


def _told(clip: Clip, progress: Progress) -> Iterator[np.ndarray]:
    for done, frame in enumerate(clip.frames_at(range(len(clip))), 1):
        yield frame
        progress(done, len(clip), "looking for cuts")
