"""Which frames M3DDM makes together: windows of 16 frames, first of every 15th frame, then of every 5th, then of all.

    level 0    0 15 30 ... 225 | 225 240 ... 450 | ...     one window after another: each begins with the last one's end
    level 1    0 5 10 ... 75 | 75 80 ... 150 | ...         what level 0 has made is known
    level 2    0 1 2 ... 15 | 15 16 ... 30 | ...           every frame is made once more, knowing what level 1 has made

A clip of fewer than 50 frames has the last level alone, whose windows then come one after another. The last window of
a level is filled up with the clip's last frame. What a finer level knows of a frame is what was made of it first; what
is shown of it is what the last level made.

Example: 60 frames.

    hierarchy(60)[0]  -> Level(15, (0 15 30 45 59 59 ... 59))
    hierarchy(60)[1]  -> Level(5, (0 5 10 ... 55 59 59 59 59))          known: 0 15 30 45 59
    hierarchy(60)[2]  -> Level(1, (0 ... 15), (15 ... 30), (30 ... 45), (45 ... 59 59))

Source: https://github.com/alimama-creative/M3DDM-Video-Outpainting (e2ccd7c). Its output has frames beyond the clip's
last one, which are left out here.
"""

from collections.abc import Sequence
from typing import NamedTuple

from gp_jax.errors import UserError
from gp_jax.methods.segments import Segment

LENGTH = 16  # frames of a window
STRIDES = (15, 5, 1)
SHORT = 50  # frames: shorter clips have no coarse levels


class Level(NamedTuple):
    """The windows of one stride, in the order of time."""

    stride: int
    windows: tuple[Segment, ...]


def hierarchy(num_frames: int) -> tuple[Level, ...]:
    """The levels of a clip, coarse to fine.

    Of each window `boundary` are the frames whose latents are known when it is made, which in levels but the first
    come from the levels before; `kept` are the positions that it makes.

    Raises:
      UserError: there are no frames.
    """
    if num_frames < 1:
        raise UserError("the clip has no frames: there is nothing to continue")
    levels, known = [], set()
    for stride in STRIDES if num_frames >= SHORT else STRIDES[-1:]:
        frames = range(0, num_frames, stride)
        starts = range(0, max(num_frames // stride - 1, 1), LENGTH - 1)
        windows = []
        for start in starts:
            inside = frames[start : start + LENGTH]
            window = (*inside, *[num_frames - 1] * (LENGTH - len(inside)))
            kept = _shown(window, known, start == starts[-1]) if stride == STRIDES[-1] else _new(window, known)
            windows.append(Segment(window, window, tuple(sorted(known.intersection(window))), kept))
            known.update(window)
        levels.append(Level(stride, tuple(windows)))
    return tuple(levels)


def _new(window: Sequence[int], known: set[int]) -> tuple[int, ...]:
    """Positions of frames that nobody made yet."""
    return tuple(at for at in _once(window) if window[at] not in known)


def _shown(window: Sequence[int], known: set[int], last: bool) -> tuple[int, ...]:
    """Positions of all frames, but for a known one that the next window begins with."""
    return tuple(at for at in _once(window) if last or at < LENGTH - 1 or window[at] not in known)


def _once(window: Sequence[int]) -> list[int]:
    """The first position of each frame."""
    return [at for at, frame in enumerate(window) if frame not in window[:at]]
