"""What a plan is made of: windows of frames that a network denoises at once, in levels from coarse to fine.

    Segment(times=(0, 1, 2, 3), frames=(0, 1, 2, 3), boundary=(0, 3), kept=(1, 2))       0 and 3 are known, 1 and 2 made

Each method has a plan of its own; execute.py runs them all.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Segment:
    """A window of T frames that the network denoises at once.

    Attributes:
      times: T times, rising; a segment that is too short repeats its last one.
      frames: T source indices: the times from `start` on, but that these turn back at both ends of the clip.
      boundary: the times of the completed frames that it is conditioned on, rising; none for key frames.
      kept: positions of the frames that it makes; the others are boundary, repeated, or left to a finer level.
      shares: of frames that are complete already, how much of each kept one comes from this segment, in (0, 1]; empty
        where frames are made for the first time.
      start: where its clip begins, whose time is 0 there; not 0 where several lie one after the other.
    """

    times: tuple[int, ...]
    frames: tuple[int, ...]
    boundary: tuple[int, ...]
    kept: tuple[int, ...]
    shares: tuple[float, ...] = ()
    start: int = 0

    @property
    def known(self) -> tuple[bool, ...]:
        """Of each position, whether a boundary frame stands there."""
        return tuple(time in self.boundary for time in self.times)

    @property
    def denoised(self) -> tuple[int, ...]:
        """Source indices of all frames that are not boundary, rising, be they kept or not."""
        return tuple(sorted({frame for frame, known in zip(self.frames, self.known) if not known}))

    @property
    def made(self) -> tuple[int, ...]:
        """Source indices of the frames that are kept, rising."""
        return tuple(self.frames[position] for position in self.kept)

    @property
    def needed(self) -> set[int]:
        """Source indices of the frames that have to be complete before."""
        boundary = {frame for frame, known in zip(self.frames, self.known) if known}
        return boundary.union(self.made if self.shares else ())


def chain(num_frames: int, length: int, overlap: int) -> tuple[Segment, ...]:
    """Windows of all frames in the order of time, each beginning with the last frames of the one before it.

        chain(8, 5, 2)  -> (0 1 2 3 4), (3 4 5 6 7)                    3 and 4 are boundary of the second

    The last window is filled up with the clip's last frame.

    Args:
      num_frames: 1 or more.
      length: of a window.
      overlap: frames that a window knows, from 1 on and fewer than it has.
    """
    windows = []
    for start in range(0, max(num_frames - overlap, 1), length - overlap):
        inside = range(start, min(start + length, num_frames))
        filled = (*inside, *[inside[-1]] * (length - len(inside)))
        known = overlap if start else 0
        windows.append(Segment(filled, filled, tuple(inside[:known]), tuple(range(known, len(inside)))))
    return tuple(windows)


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
