"""Several clips, or several shots of a film, that share a mesh: segments of all of them are rows of the same calls.

    clips = Together([street, kitchen, harbour])                           one clip, which is three
    whole = joint([plan(48, 16), plan(72, 16), plan(30, 16)], lengths_of(clips))
    whole.levels[0]                                   three segments of key frames, for the rows of one call

A clip by itself leaves rows of a mesh idle: its key frames are one segment, and its last calls are rarely full. Of what
else is known of a clip, its tokens and the times of its frames, each row has its own, so each clip is what it is alone
(but for the last bits of sums).
"""

import bisect
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

import numpy as np

from gp_jax.methods.method import Clip
from gp_jax.methods.segments import Plan


class Together:
    """A clip that is several, one after the other.

    Args:
      clips: of frames of one size.
      origin: all that they depend on, JSON, for a journal; None where they are read for that.
    """

    def __init__(self, clips: Sequence[Clip], origin: Any = None):
        self.clips, self.origin = clips, origin
        *starts, self.count = itertools.accumulate(map(len, clips), initial=0)
        self.starts = tuple(starts)

    def __len__(self) -> int:
        return self.count

    def frames_at(self, indices: Iterable[int]) -> Iterator[np.ndarray]:
        """See `Clip`."""
        for number, inside in itertools.groupby(indices, lambda index: bisect.bisect_right(self.starts, index) - 1):
            yield from self.clips[number].frames_at([index - self.starts[number] for index in inside])


def lengths_of(clip: Clip) -> list[int]:
    """How many frames each of the clips has that `clip` is."""
    ends = (*getattr(clip, "starts", (0,)), len(clip))
    return [end - start for start, end in itertools.pairwise(ends)]


def apart(frames: Iterator[np.ndarray], clips: Sequence[Sized]) -> list[np.ndarray]:
    """uint8 [T, H, W, 3] of each clip, of frames that come clip by clip; they are asked for to their end, since what a
    job does behind its last frame belongs to it."""
    each = [*(itertools.islice(frames, len(clip)) for clip in clips[:-1]), frames]
    return [np.stack(list(part)) for part in each]


def joint(plans: Sequence[Plan], lengths: Sequence[int]) -> Plan:
    """The plan of clips that lie one after the other, of plans that are not chained; `lengths` in frames."""
    starts = list(itertools.accumulate(lengths, initial=0))

    def moved(start: int, level: int, plan: Plan) -> Iterator[Any]:
        for segment in plan.levels[level] if level < len(plan.levels) else ():
            frames = tuple(start + frame for frame in segment.frames)
            yield dataclasses.replace(segment, frames=frames, start=start)

    levels = range(max(len(plan.levels) for plan in plans))
    return Plan(
        tuple(tuple(s for start, plan in zip(starts, plans) for s in moved(start, level, plan)) for level in levels)
    )
