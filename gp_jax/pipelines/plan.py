"""Which frames are made together, in which order, given what: pure Python.

A network denoises segments of T frames, clips have any number. `plan` cuts a clip into levels of segments:

    level 0    key frames: one segment, spread evenly over the whole clip
    level 1..  interpolation: each segment lies between two neighbouring completed frames and makes frames between them;
               where the gap is too long for one segment, it makes the evenly spread frames that split the gap

Example: 22 frames, T = 8. Three gaps of 7 steps each suffice, so key frames 0, 7, 14 and 21 are kept of level 0, and
level 1 has three segments: 0..7, 7..14 and 14..21, whose first and last frames are known.

    plan(22, 8).levels[0]  -> (Segment(frames=(0, 3, 7, 9, 12, 14, 18, 21), boundary=(), kept=(0, 2, 5, 7)),)
    plan(22, 8).levels[1]  -> (Segment(frames=(0, 1, ..., 7), boundary=(0, 7), kept=(1, 2, 3, 4, 5, 6)), ...)

A segment that splits a gap is always T frames long and evenly spread, as the network was trained; those of its frames
that a finer level makes anew are not kept. So the finest level has as few segments as can be. A longer clip has more
levels, never longer segments.
"""

import itertools
from collections.abc import Callable
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
    if num_frames <= segment_frames:
        return Plan(((_whole(range(num_frames), (), segment_frames),),))
    key = _between(0, num_frames - 1, segment_frames, boundary=())
    levels = [(key,)]
    neighbours = key.made
    while True:
        gaps = [(a, b) for a, b in itertools.pairwise(neighbours) if b - a > 1]
        if not gaps:
            return Plan(tuple(levels))
        levels.append(tuple(_between(a, b, segment_frames, boundary=(a, b)) for a, b in gaps))
        neighbours = sorted({*neighbours, *(frame for segment in levels[-1] for frame in segment.made)})


def sequential(num_frames: int, segment_frames: int) -> Plan:
    """Clip after clip, for the ablation: the last two completed frames begin the next segment.

    Two, because that is how many known frames the interpolation network was trained with; both plans then make as
    many frames per segment. Arguments and errors are those of `plan`.
    """
    _check(num_frames, segment_frames)
    first = _whole(range(min(num_frames, segment_frames)), (), segment_frames)
    following = tuple(
        _whole(range(start, min(start + segment_frames, num_frames)), (start, start + 1), segment_frames)
        for start in range(segment_frames - 2, num_frames - 2, segment_frames - 2)
    )
    return Plan(((first,), following) if following else ((first,),), chained=True)


# By the names of the option; each: (number of frames, frames per segment) -> Plan.
PLANS: dict[str, Callable[[int, int], Plan]] = {"hierarchical": plan, "sequential": sequential}


def spread(num_frames: int, count: int) -> tuple[int, ...]:
    """`count` indices of `num_frames`, evenly spread and with both ends; all of them where there are fewer."""
    if num_frames <= count:
        return tuple(range(num_frames))
    return tuple(_fraction(0, num_frames - 1, i, count - 1) for i in range(count))


def _between(first: int, last: int, length: int, boundary: tuple[int, ...]) -> Segment:
    """The segment from `first` to `last`: all frames between them, or those that split the gap evenly."""
    steps, longest = last - first, length - 1
    if steps <= longest:
        return _whole(range(first, last + 1), boundary, length)
    pieces = min(longest, -(-steps // longest))
    frames = [_fraction(first, last, i, longest) for i in range(length)]
    positions = [_fraction(0, longest, i, pieces) for i in range(pieces + 1)]
    for i, position in enumerate(positions):
        frames[position] = _fraction(first, last, i, pieces)  # pieces of equal length need it moved a little
    kept = (position for position in positions if frames[position] not in boundary)
    return Segment(tuple(frames), boundary, tuple(kept))


def _whole(frames: range, boundary: tuple[int, ...], length: int) -> Segment:
    """The segment that makes all of `frames` but the boundary."""
    padded = (*frames, *[frames[-1]] * (length - len(frames)))
    return Segment(padded, boundary, tuple(i for i, frame in enumerate(frames) if frame not in boundary))


def _fraction(first: int, last: int, part: int, parts: int) -> int:
    """The integer nearest to `part / parts` of the way from `first` to `last`."""
    return first + (2 * (last - first) * part + parts) // (2 * parts)


def _check(num_frames: int, segment_frames: int) -> None:
    if num_frames < 1:
        raise UserError("the clip has no frames: there is nothing to continue")
    if segment_frames < 3:
        raise UserError(f"segments of {segment_frames} frames cannot lie between two frames: use 3 at least")
