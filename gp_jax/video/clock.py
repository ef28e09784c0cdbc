"""When frames are shown: from the clock of one file to seconds, and on to the clock of another.

A file counts time in ticks, which may be coarse (1/100 s in a GIF, a whole frame in AVI), and its clock may start again
in the middle, where two recordings were joined. Every hold and every gap is kept; what is only the rounding of a coarse
clock is undone, so that 24000/1001 frames a second come out as such.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from gp_jax.video.info import VideoInfo

DEFAULT_RATE = 24  # frames per second, where nothing says
STATED_TICK = Fraction(1, 500)  # seconds; what a header says of a track's end may be rounded to that
LEAP = 10  # seconds; a clock that may be discontinuous and skips more than that was started anew


class Mark(NamedTuple):
    """What the scan of a file keeps of every frame; times in ticks of the file's clock."""

    pts: int | None
    duration: int
    key: bool


class Timeline(NamedTuple):
    """The times of a clip, as in `VideoInfo`."""

    times: tuple[Fraction, ...]
    duration: Fraction
    frame_rate: Fraction
    start: Fraction
    leaps: tuple[Fraction, ...]


def timeline(
    marks: Sequence[Mark],
    tick: Fraction,
    rates: Iterable[Fraction | None],
    *,
    end: Fraction | None = None,
    in_order: bool = True,
    leaps_forward: bool = False,
) -> Timeline:
    """The times of a file's frames.

    Args:
      marks: of all frames, in the order they are shown.
      tick: seconds of a tick.
      rates: frames per second that the file may have, the likeliest first; they are checked, not believed.
      end: the file's own statement of when its last frame ends, on its clock, in seconds.
      in_order: False where the container guesses times from the order in which frames are stored (AVI).
      leaps_forward: whether a gap of many seconds means a clock that was started anew (MPEG).
    """
    rates = [Fraction(rate) for rate in rates if rate] or [Fraction(DEFAULT_RATE)]
    ticks = [mark.pts for mark in marks if mark.pts is not None]
    if not in_order:
        ticks = sorted(ticks)
    if len(ticks) < len(marks) or (not in_order and len(set(ticks)) < len(ticks)):
        times = _even(len(marks), rates[0])
        return Timeline(times, len(marks) / rates[0], rates[0], Fraction(0), ())
    one_frame = max(1, round(1 / (rates[0] * tick)))
    durations = [mark.duration or one_frame for mark in marks]
    ticks, shifts = _continued(ticks, durations, round(LEAP / tick) if leaps_forward else None)
    leaps = tuple(shift * tick for shift in shifts)
    times = tuple((count - ticks[0]) * tick for count in ticks)

    # How long the last frame stays. A decoder takes durations from the order of storage, which errs where that is not
    # the order of showing: the file's own statement goes first.
    start = ticks[0] * tick
    hold = end - start - times[-1] if end is not None and not leaps else Fraction(0)
    if hold <= 0:
        hold = max(marks[-1].duration * tick, 1 / rates[0])  # decoders may take the length of a field for it
    for rate in rates:
        # More than a tick is no rounding; nor is a good part of a frame, however coarse the clock.
        slack = min(tick, 1 / (4 * rate))
        even = _even(len(times), rate)
        if all(abs(time - steady) <= slack for time, steady in zip(times, even)):
            is_steady = abs(hold - 1 / rate) <= min(max(tick, STATED_TICK), 1 / (4 * rate))
            duration = len(times) / rate if is_steady else even[-1] + hold
            return Timeline(even, duration, rate if is_steady else len(times) / duration, start, leaps)
    duration = times[-1] + hold
    return Timeline(times, duration, len(times) / duration, start, leaps)


def stamps(timing: VideoInfo | Fraction | float, tick: Fraction) -> Iterator[tuple[int, int]]:
    """(start, end) of each frame in ticks; endless for a mere rate."""
    if isinstance(timing, VideoInfo):
        return itertools.pairwise(round(time / tick) for time in (*timing.times, timing.duration))
    return itertools.pairwise(round(index / (rate_of(timing) * tick)) for index in itertools.count())


def exact_tick(timing: VideoInfo | Fraction | float) -> Fraction:
    """Seconds of a tick by which all times are whole, or a microsecond where that were too short."""
    if not isinstance(timing, VideoInfo):
        return 1 / rate_of(timing)
    return Fraction(1, min(math.lcm(*(time.denominator for time in (*timing.times, timing.duration))), 1_000_000))


def rate_of(timing: VideoInfo | Fraction | float) -> Fraction:
    """Frames per second as an encoder takes it."""
    if isinstance(timing, VideoInfo):
        return timing.frame_rate.limit_denominator(10_000)
    return Fraction(timing).limit_denominator(1001)


def thinned(spans: Iterable[tuple[int, int]], least: int) -> Iterator[tuple[int, int] | None]:
    """Gives frames that come too fast for a clock at least `least` ticks each: of those that share them, the one that
    was to stay the longest is shown. None stands for a frame that is left out; no time is lost.
    """
    group = []
    for span in spans:
        group.append(span)
        if span[1] - group[0][0] >= least:
            yield from _shared(group, span[1])
            group = []
    if group:
        yield from _shared(group, group[0][0] + least)


def _shared(group: list[tuple[int, int]], end: int) -> list[tuple[int, int] | None]:
    shown = max(range(len(group)), key=lambda index: group[index][1] - group[index][0])
    return [(group[0][0], end) if index == shown else None for index in range(len(group))]


def _even(count: int, rate: Fraction) -> tuple[Fraction, ...]:
    return tuple(index / rate for index in range(count))


def _continued(ticks: Sequence[int], durations: Sequence[int], leap: int | None) -> tuple[list[int], list[int]]:
    """Strictly increasing ticks of a clock that may restart, and what is added to the clock after each restart."""
    increasing, leaps, shift = [ticks[0]], [], 0
    for now, before in zip(ticks[1:], durations):
        step = now + shift - increasing[-1]
        if step < -before or (leap and step > leap):
            shift = increasing[-1] + before - now
            leaps.append(shift)
        increasing.append(max(now + shift, increasing[-1] + 1))
    return increasing, leaps
