"""Which frames are made together, in which order, given what: pure Python.

A network denoises segments of T frames, clips have any number. `plan` cuts a clip into levels of segments:

    level 0    key frames: one segment, spread evenly over the whole clip
    level 1..  interpolation: a segment lies between two neighbouring completed frames and makes frames between them,
               those that split the gap evenly or, in the last level, all of them

Example: 22 frames, T = 8. Three gaps of 7 steps suffice, so that frames 0, 7, 14 and 21 are kept of the key frames, and
level 1 has three segments: 0..7, 7..14 and 14..21, whose first and last frames are known.

    plan(22, 8).levels[0]  -> (Segment(frames=(0, 3, 7, 9, 12, 14, 18, 21), boundary=(), kept=(0, 2, 5, 7)),)
    plan(22, 8).levels[1]  -> (Segment(frames=(0, 1, ..., 7), boundary=(0, 7), kept=(1, 2, 3, 4, 5, 6)), ...)

The plan is made from its end: the last level has as few segments as can be, of nearly equal length; levels above it are
added until the key frames bridge the clip, each splitting gaps into about as many pieces. A segment that splits a gap
is T frames long and evenly spread all the same, as the network was trained; what a finer level makes anew is not kept
of it. A longer clip has more levels, never longer segments.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gp_jax.errors import UserError


@dataclass(frozen=True, slots=True)
class Segment:
    """A window of T frames that the network denoises at once.

    Attributes:
      frames: T source indices, rising; a segment that is too short repeats its last index.
      boundary: the completed frames among them that it is conditioned on, rising; none for key frames.
      kept: positions in `frames` of those that it makes; the others are boundary, repeated, or left to a finer level.
    """

    frames: tuple[int, ...]
    boundary: tuple[int, ...]
    kept: tuple[int, ...]

    @property
    def denoised(self) -> tuple[int, ...]:
        """Source indices of all frames that are not boundary, rising, be they kept or not."""
        return tuple(frame for frame in dict.fromkeys(self.frames) if frame not in self.boundary)

    @property
    def made(self) -> tuple[int, ...]:
        """Source indices of the frames that are kept, rising."""
        return tuple(self.frames[position] for position in self.kept)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a clip is made.

    Attributes:
      levels: coarse to fine. The segments of a level are in the order of time, and their boundary frames come from
        the levels before.
      chained: a segment's boundary frames may come from the segment before it in the same level as well, so segments
        cannot be run side by side.
    """

    levels: tuple[tuple[Segment, ...], ...]
    chained: bool = False


def plan(num_frames: int, segment_frames: int) -> Plan:
    """Key frames, then interpolation levels; a clip of at most `segment_frames` frames is one segment.

    Args:
      num_frames: of the clip, at least 1.
      segment_frames: T, at least 3.

    Raises:
      UserError: a number is below that.
    """
    _check(num_frames, segment_frames)
    last = num_frames - 1
    if num_frames <= segment_frames:
        return Plan(((_segment(0, last, range(num_frames), (), segment_frames),),))
    # Frames that are complete after each level, the last level first: each is chosen from the one below.
    complete = [range(num_frames)]
    for gaps in reversed(_gaps(last, segment_frames - 1)):
        complete.append([complete[-1][i] for i in spread(len(complete[-1]), gaps + 1)])
    coarse_to_fine = complete[::-1]
    levels = [(_segment(0, last, coarse_to_fine[0], (), segment_frames),)]
    for coarse, fine in itertools.pairwise(coarse_to_fine):
        level, rest = [], iter(fine[1:])
        for a, b in itertools.pairwise(coarse):
            if between := list(itertools.takewhile(lambda frame, b=b: frame < b, rest)):
                level.append(_segment(a, b, between, (a, b), segment_frames))
        levels.append(tuple(level))
    return Plan(tuple(levels))


def sequential(num_frames: int, segment_frames: int) -> Plan:
    """Clip after clip, for the ablation: the last two completed frames begin the next segment.

    Two, because that is how many known frames the interpolation network was trained with; both plans then make as
    many frames per segment. Arguments and errors are those of `plan`.
    """
    _check(num_frames, segment_frames)
    starts = range(0, max(num_frames - 2, 1), segment_frames - 2)
    first, *following = (
        _segment(
            start, stop - 1, range(start + 2 if start else 0, stop), (start, start + 1)[: start * 2], segment_frames
        )
        for start in starts
        for stop in [min(start + segment_frames, num_frames)]
    )
    return Plan(((first,), tuple(following)) if following else ((first,),), chained=True)


# By the names of the option; each: (number of frames, frames per segment) -> Plan.
PLANS: dict[str, Callable[[int, int], Plan]] = {"hierarchical": plan, "sequential": sequential}


def spread(num_frames: int, count: int) -> list[int]:
    """`count` indices of `num_frames`, evenly spread and with both ends; all of them where there are fewer."""
    if num_frames <= count:
        return list(range(num_frames))
    # In integers: the nearest to i / (count - 1) of the way.
    return [(2 * i * (num_frames - 1) + count - 1) // (2 * (count - 1)) for i in range(count)]


def _gaps(steps: int, longest: int) -> list[int]:
    """How many gaps are left after each level but the last, coarse to fine.

    Args:
      steps: from the first to the last frame of the clip.
      longest: steps of the longest gap that one segment fills.
    """
    gaps = [-(-steps // longest)]
    levels = next(levels for levels in itertools.count(1) if longest**levels >= gaps[0])
    ratio = next(ratio for ratio in itertools.count(1) if ratio**levels >= gaps[0])
    for _ in range(levels - 1):
        gaps.append(-(-gaps[-1] // ratio))
    return gaps[::-1]


def _segment(first: int, last: int, wanted: Sequence[int], boundary: tuple[int, ...], length: int) -> Segment:
    """The segment from `first` to `last` that makes the frames `wanted`, its other frames evenly spread."""
    even = {first + i for i in spread(last - first + 1, length)}
    others = even - {*wanted, *boundary}
    for frame in (frame for frame in wanted if frame not in even):
        others.remove(min(others, key=lambda other, frame=frame: abs(other - frame)))
    frames = sorted({*boundary, *others, *wanted})
    kept = tuple(frames.index(frame) for frame in wanted)
    return Segment((*frames, *[last] * (length - len(frames))), boundary, kept)


def _check(num_frames: int, segment_frames: int) -> None:
    if num_frames < 1:
        raise UserError("the clip has no frames: there is nothing to continue")
    if segment_frames < 3:
        raise UserError(f"segments of {segment_frames} frames cannot lie between two frames: use 3 at least")
