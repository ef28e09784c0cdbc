"""Which frames are made together, in which order, given what: pure Python.

A network denoises segments of T frames, clips have any number. `plan` cuts a clip into levels of segments:

    level 0    key frames: one segment, spread evenly over the whole clip
    level 1..  interpolation: a segment lies between two neighbouring completed frames and makes frames between them,
               those that split the gap evenly or, at last, all of them
    last level the same once more, from middle to middle of the segments before, over the frames where these met

Example: 22 frames, T = 8. Three gaps of 7 steps suffice, so that frames 0, 7, 14 and 21 are kept of the key frames, and
level 1 has three segments: 0..7, 7..14 and 14..21, whose first and last frames are known. Level 2 has four.

    plan(22, 8).levels[0]  -> (Segment(frames=(0, 3, 7, 9, 12, 14, 18, 21), boundary=(), kept=(0, 2, 5, 7)),)
    plan(22, 8).levels[1]  -> (Segment(frames=(0, 1, ..., 7), boundary=(0, 7), kept=(1, 2, 3, 4, 5, 6)), ...)
    plan(22, 8).levels[2]  -> (Segment(times=(-3, -2, ..., 2, 3, 3), frames=(3, 2, 1, 0, 1, 2, 3, 3), ...),
                               Segment(frames=(3, 4, ..., 10), boundary=(3, 10), kept=(1, ..., 6), shares=(...)), ...)

What a network makes of a frame differs with the frame's company, so a frame that a coarser level made flashes among
those that the finest one made around it. The last level mends that: the frames where two segments met are made anew in
the middle of a third. From there to its ends, which stay as they are, its share in a frame falls to none, so that one
version passes into the other without a step. Beyond the first and the last frame time turns back; so they, too, are
made in the middle.

The plan is made from its end: the finest level has as few segments as can be, of nearly equal length; levels above it
are added until the key frames bridge the clip, each splitting gaps into about as many pieces. A segment that splits a
gap is T frames long and evenly spread all the same, as the network was trained; what a finer level makes anew is not
kept of it. A longer clip has more levels, never longer segments.
"""

import itertools
from collections.abc import Callable, Sequence

from gp_jax.errors import UserError
from gp_jax.methods.segments import Plan, Segment, chain

KNOWN = 2  # frames that begin a segment of `sequential`


def plan(num_frames: int, segment_frames: int) -> Plan:
    """Key frames, then interpolation levels; a clip of at most `segment_frames` frames is one segment.

    Args:
      num_frames: of the clip, at least 1.
      segment_frames: T, at least 3. Segments of 3 have no room to overlap: they do without the last level.

    Raises:
      UserError: a number is below that.
    """
    _check(num_frames, segment_frames)
    last = num_frames - 1
    if num_frames <= segment_frames:
        return Plan(((_segment(0, last, range(num_frames), (), segment_frames),),))
    # Frames that are complete after each level, the last level first: each is chosen from the one below.
    complete: list[Sequence[int]] = [range(num_frames)]
    for gaps in reversed(_gaps(last, segment_frames - 1)):
        complete.append([complete[-1][i] for i in spread(len(complete[-1]), gaps + 1)])
    coarse_to_fine = complete[::-1]
    levels: list[tuple[Segment, ...]] = [(_segment(0, last, coarse_to_fine[0], (), segment_frames),)]
    for coarse, fine in itertools.pairwise(coarse_to_fine):
        level, rest = [], iter(fine[1:])
        for a, b in itertools.pairwise(coarse):
            if between := list(itertools.takewhile(lambda frame, b=b: frame < b, rest)):
                level.append(_segment(a, b, between, (a, b), segment_frames))
        levels.append(tuple(level))
    if segment_frames > 3:
        levels.append(_middle_to_middle(levels[-1], last, segment_frames))
    return Plan(tuple(levels))


def sequential(num_frames: int, segment_frames: int) -> Plan:
    """Clip after clip, for the ablation: the last two completed frames begin the next segment.

    Two (`KNOWN`), because that is how many known frames the interpolation network was trained with; both plans then
    make as many frames per segment. Arguments and errors are those of `plan`.
    """
    _check(num_frames, segment_frames)
    first, *following = chain(num_frames, segment_frames, KNOWN)
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


def _middle_to_middle(level: Sequence[Segment], last: int, length: int) -> tuple[Segment, ...]:
    """The level that makes anew what lies around the boundary frames of `level`, which has all frames of the clip."""
    middles = [segment.made[(len(segment.made) - 1) // 2] for segment in level]
    # At both ends from a middle to its mirror image, or as far as a segment goes.
    anchors = [-middles[0], *middles, min(2 * last - middles[-1], middles[-1] + length - 1)]
    segments = []
    for start, seam, stop in zip(anchors, (0, *(segment.boundary[-1] for segment in level)), anchors[1:]):
        rising = range(start, stop + 1)
        times = (*rising, *[stop] * (length - len(rising)))
        frames = tuple(last - abs(last - abs(time)) for time in times)
        anew = [time for time in rising[1:-1] if 0 <= time <= last]
        ways = ((t - start) / (seam - start) if t <= seam else (stop - t) / (stop - seam) for t in anew)
        # Faster than the way at first: what is taken the place of is the worse the nearer it was to the coarser frame.
        shares = (way * (5 - way) / 4 for way in ways)
        kept = tuple(time - start for time in anew)
        segments.append(Segment(times, frames, (start, stop), kept, tuple(shares)))
    return tuple(segments)


def _segment(first: int, last: int, wanted: Sequence[int], boundary: tuple[int, ...], length: int) -> Segment:
    """The segment from `first` to `last` that makes the frames `wanted`, its other frames evenly spread."""
    even = {first + i for i in spread(last - first + 1, length)}
    others = even - {*wanted, *boundary}
    for frame in (frame for frame in wanted if frame not in even):
        others.remove(min(others, key=lambda other, frame=frame: abs(other - frame)))
    frames = sorted({*boundary, *others, *wanted})
    kept = tuple(frames.index(frame) for frame in wanted)
    filled = (*frames, *[last] * (length - len(frames)))
    return Segment(filled, filled, boundary, kept)


def _check(num_frames: int, segment_frames: int) -> None:
    if num_frames < 1:
        raise UserError("the clip has no frames: there is nothing to continue")
    if segment_frames < 3:
        raise UserError(f"segments of {segment_frames} frames cannot lie between two frames: use 3 at least")
