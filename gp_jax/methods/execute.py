"""Runs a plan as a stream, so that memory does not grow with the length of the clip.

Levels depend on coarser levels, but only on what lies near in time. So a level is a stage of a pipe: it takes completed
frames in the order of time from the level before, and passes on these, and the frames that it made between them or in
the place of them. A stage works when the next one asks for more:

    level 0  ->  0 . . . . . . 7 . . . . . . 14 ...         frames 0, 7, 14, ... are complete
    level 1  ->  0 1 2 3 4 5 6 7 8 9 10 ...                 asks for frame 7 when it is to run the segment 0..7

A stage holds the frames of one batch of segments, the latents of each of them: 64 KiB with the 64 x 64 x 4 float32
latents of Stable Diffusion. What a frame is, is left to the caller.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from gp_jax.methods.segments import Plan, Segment

Frame = TypeVar("Frame")
Completed = Iterator[tuple[int, Frame]]
Make = Callable[[Sequence[Segment], Mapping[int, Frame]], Mapping[int, Frame]]


def execute(plan: Plan, make: Callable[..., Mapping[int, Frame]], batch: int) -> Completed:
    """All frames of the clip in the order of time.

    Args:
      plan: of the clip.
      make: (number of the level, segments, completed frames by index) -> the frames that the segments make, by index.
        For each level it is called in the order of time. The completed frames hold what every segment needs.
      batch: the most segments that `make` gets at once. The segments of a chained plan come one by one.

    Yields:
      (index, frame), the index counting up from 0.
    """
    completed = iter(())
    for number, level in enumerate(plan.levels):
        size = 1 if plan.chained else batch
        completed = refine(completed, level, size, functools.partial(make, number))
    return completed


def batches(plan: Plan, level: Sequence[Segment], batch: int) -> list[Sequence[Segment]]:
    """The segments of a level of a plan as `make` gets them; see `execute`."""
    return cut(level, 1 if plan.chained else batch)


def cut(level: Sequence[Segment], size: int) -> list[Sequence[Segment]]:
    """The segments of a level as `refine` takes them."""
    return [level[begin : begin + size] for begin in range(0, len(level), size)]


def refine(completed: Completed, level: Sequence[Segment], size: int, make: Make) -> Completed:
    """One stage of the pipe: `completed` and what `level` adds to it; both, and the result, in the order of time.

    Args:
      completed: of coarser levels.
      level: its segments.
      size: the most segments that `make` gets at once; 1 where a segment may stand on the one before it.
      make: (segments, completed frames by index) -> the frames that the segments make, by index.
    """
    held = {}
    for segments in cut(level, size):
        needed = set().union(*(segment.needed for segment in segments))
        # Only what the batch stands on is held, and what it makes; everything before it is passed on.
        start = min(needed or (segment.frames[0] for segment in segments))
        yield from _release(held, before=start)
        while not needed <= held.keys():
            index, frame = next(completed)
            if index < start:
                yield index, frame
            else:
                held[index] = frame
        held |= make(segments, held)
    yield from _release(held, before=float("inf"))
    yield from completed


def _release(held: dict[int, Frame], before: float) -> Completed:
    """Takes the frames before `before` out of `held`."""
    for index in sorted(index for index in held if index < before):
        yield index, held.pop(index)
