"""Times of frames: what is rounding is undone, what is a hold, a gap or a restart is not."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from gp_jax.video.clock import Mark, stamps, thinned, timeline

MS = Fraction(1, 1000)


def marks(ticks, last=0):
    return [Mark(tick, 0, False) for tick in ticks[:-1]] + [Mark(ticks[-1], last, False)]


@pytest.mark.parametrize(
    "rate", [Fraction(24000, 1001), 25, Fraction(30000, 1001), 50, Fraction(60000, 1001), 120, 240]
)
@pytest.mark.parametrize("tick", [MS, Fraction(1, 90_000), Fraction(1, 12_800)])
@pytest.mark.parametrize("rounding", [round, int])
def test_the_rounding_of_a_clock_is_undone(rate, tick, rounding):
    ticks = [7 + rounding(index / rate / tick) for index in range(200)]
    found = timeline(marks(ticks), tick, [rate])
    assert found.times == tuple(index / Fraction(rate) for index in range(200))
    assert (found.duration, found.frame_rate, found.start) == (200 / Fraction(rate), rate, 7 * tick)


@pytest.mark.parametrize("rate", [Fraction(1, 2), 2, 10, 25, 30, 60])
@pytest.mark.parametrize("tick", [Fraction(1, 100), MS, Fraction(1, 90_000), None])
def test_a_frame_that_is_missing_moves_no_other(rate, tick):
    tick = tick or 1 / Fraction(rate)  # a clock as coarse as the frames
    for missing in (1, 2, 30, 58):
        kept = [index for index in range(60) if index != missing]
        ticks = [round(index / rate / tick) for index in kept]
        times = timeline(marks(ticks), tick, [rate]).times
        assert max(abs(time - index / Fraction(rate)) for time, index in zip(times, kept)) <= tick / 2


@pytest.mark.parametrize("last", [1, 39, 41, 100, 3000])
def test_the_last_frame_stays_as_long_as_it_did(last):
    ticks = list(range(0, 400, 40))
    stated = timeline(marks(ticks), MS, [25], end=(360 + last) * MS)
    assert abs(stated.duration - (360 + last) * MS) <= MS
    decoded = timeline(marks(ticks, last=last), MS, [25])  # which may be the length of a field
    assert abs(decoded.duration - (360 + max(last, 40)) * MS) <= MS


def test_a_clock_goes_on_where_it_restarts():
    first, second = [5000 + 40 * k for k in range(10)], [100 + 40 * k for k in range(10)]
    for options in ({}, {"leaps_forward": True}):
        found = timeline(marks(first + second + second), MS, [25], **options)
        assert found.times == tuple(Fraction(k, 25) for k in range(30))
        assert found.leaps == ((5400 - 100) * MS, (5800 - 100) * MS)
    late = [tick + 3_600_000 for tick in first]
    assert timeline(marks(first + late), MS, [25], leaps_forward=True).times == tuple(
        Fraction(k, 25) for k in range(20)
    )
    assert timeline(marks(first + late), MS, [25]).times[10] == 3600  # a gap, where clocks do not leap


def test_times_that_a_container_guesses_are_put_in_order_and_none_are_made_up():
    assert timeline(marks([1, 3, 2, 5, 4, 6]), Fraction(1, 25), [25], in_order=False).times[5] == Fraction(5, 25)
    unknown = [Mark(None, 0, False)] * 4
    assert timeline(unknown, MS, [None, 10]).times == tuple(Fraction(k, 10) for k in range(4))
    assert timeline(marks([0, 40, 40, 80]), MS, [25]).times[1] < timeline(marks([0, 40, 40, 80]), MS, [25]).times[2]


@pytest.mark.parametrize("seed", range(20))
def test_thinning_loses_frames_but_no_time(seed):
    rng = np.random.default_rng(seed)
    ends = np.cumsum(rng.integers(0, (2, 3, 9)[seed % 3], 50)).tolist()
    spans = list(itertools.pairwise([0, *ends]))
    thin = list(thinned(spans, least=2))
    shown = [span for span in thin if span]
    assert len(thin) == len(spans) and all(end - start >= 2 for start, end in shown)
    assert shown[0][0] == 0 and all(a[1] == b[0] for a, b in itertools.pairwise(shown))
    assert 0 <= shown[-1][1] - ends[-1] <= 2
    assert all(span == was for span, was in zip(thin, spans)) or any(b - a < 2 for a, b in spans)


def test_a_rate_alone_goes_on_for_ever():
    assert list(itertools.islice(stamps(60, Fraction(1, 100)), 4)) == [(0, 2), (2, 3), (3, 5), (5, 7)]
