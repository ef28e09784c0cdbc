"""Plans: laws for every length of the embedded model's segments, and for lengths drawn from others."""

import itertools

import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.methods.globalpaint.plan import PLANS, plan, sequential, spread

CASES = [("hierarchical", 8, 37), ("sequential", 8, 37), *((name, T, 149) for name in PLANS for T in (3, 4, 5, 16))]


@pytest.mark.parametrize("name, segment_frames, pace", CASES)
def test_every_frame_is_made_from_completed_frames(name, segment_frames, pace):
    for num_frames in (*range(1, 40), *range(40, 2001, pace), 2000):
        clip_plan = PLANS[name](num_frames, segment_frames)
        complete = set()
        for level in clip_plan.levels:
            finished = []
            for segment in level:
                times, made = segment.times, segment.made
                assert len(times) == len(segment.frames) == segment_frames and made
                assert complete.issuperset(segment.needed) and set(times).issuperset(segment.boundary)
                repeated = times.count(times[-1]) - 1
                rising = times[: segment_frames - repeated]
                assert all(a < b for a, b in itertools.pairwise(rising)), "only the last time may repeat"
                assert segment.kept[-1] < len(rising), "a frame is kept where it first stands"
                assert not any(segment.known[position] for position in segment.kept)
                assert len(segment.shares) == (len(segment.kept) if complete.issuperset(made) else 0)
                finished += made
                if clip_plan.chained:
                    complete.update(made)
            assert finished == sorted(set(finished)), "a level goes forward in time and makes nothing twice"
            complete.update(finished)
        assert complete == set(range(num_frames))
        first = sum(len(segment.kept) for level in clip_plan.levels for segment in level if not segment.shares)
        assert first == num_frames, "only what is complete is made anew"


@pytest.mark.parametrize("segment_frames, pace", [(8, 37), (5, 97), (16, 37)])
def test_hierarchy(segment_frames, pace):
    for num_frames in range(1, 2001, pace):
        ((key,), *finer) = plan(num_frames, segment_frames).levels
        assert key.made[0] == 0 and key.made[-1] == num_frames - 1 and not key.boundary
        assert bool(finer) == (num_frames > segment_frames)
        neighbours = key.made
        for level in finer[:-1]:
            enclosing = set(itertools.pairwise(neighbours))
            for segment in level:
                assert segment.frames == segment.times and not segment.shares
                assert segment.boundary == (segment.frames[0], segment.frames[-1])
                assert segment.boundary in enclosing, "boundary frames are neighbours among the completed ones"
                assert set(segment.frames).issubset(range(segment.boundary[0], segment.boundary[1] + 1))
            neighbours = sorted({*neighbours, *(frame for segment in level for frame in segment.made)})


@pytest.mark.parametrize("segment_frames, pace", [(4, 7), (5, 11), (8, 5), (15, 11), (16, 11)])
def test_the_last_level_leads_from_middle_to_middle(segment_frames, pace):
    for num_frames in range(segment_frames + 1, 400, pace):
        *_, finest, last = plan(num_frames, segment_frames).levels
        middles = [frame for segment in last for frame in segment.boundary][1:-1]
        assert len(last) == len(finest) + 1 and middles[::2] == middles[1::2], "each segment begins where one ends"
        for middle, segment in zip(middles[::2], finest):
            assert middle in segment.made
            before, after = middle - segment.boundary[0], segment.boundary[1] - middle
            assert 0 <= after - before <= 1
        assert [frame for segment in last for frame in segment.made] == sorted(set(range(num_frames)) - set(middles))
        for segment in last:
            assert set(np.diff(segment.times)) <= {0, 1}
            assert set(np.abs(np.diff(segment.frames))) <= {0, 1}, "time turns back at the ends of the clip"


@pytest.mark.parametrize("segment_frames, pace", [(4, 7), (5, 11), (8, 5), (15, 11), (16, 11)])
def test_no_frame_stands_out(segment_frames, pace):
    """A number stands for what each level makes of all frames: nothing but the finest one's is left, without a step."""
    for num_frames in range(segment_frames + 1, 400, pace):
        *coarser, last = plan(num_frames, segment_frames).levels
        clip = np.full(num_frames, np.nan)
        for number, segment in ((n, segment) for n, level in enumerate(coarser) for segment in level):
            clip[list(segment.made)] = 100 * (len(coarser) - 1 - number)
        for segment in last:
            made = list(segment.made)
            clip[made] += segment.shares * (1 - clip[made])
        assert clip.min() == 0 and clip.max() == 1
        halves = min((segment.boundary[1] - segment.boundary[0]) // 2 for segment in coarser[-1])
        assert np.abs(np.diff(clip)).max() <= 1.5 / halves


def test_segments_that_split_are_evenly_spread():
    for num_frames in range(9, 2001, 23):
        for segment in itertools.chain(*plan(num_frames, 8).levels[:-1]):
            first, last = segment.frames[0], segment.frames[-1]
            if last - first > 7:
                pace = (last - first) / 7
                assert all(abs(frame - (first + pace * i)) <= pace + 1 for i, frame in enumerate(segment.frames))


def test_longer_clips_need_more_levels_only():
    assert [len(plan(n, 8).levels) for n in (8, 9, 50, 51, 344, 345, 2402, 20_000)] == [1, 3, 3, 4, 4, 5, 5, 7]


def test_the_finest_level_has_as_few_segments_as_can_be():
    assert all(len(plan(n, 8).levels[-2]) == -(-(n - 1) // 7) for n in range(9, 500, 13))


def test_sequential_begins_with_the_last_two_frames():
    assert all(segment.boundary == segment.frames[:2] for segment in sequential(100, 8).levels[1])


def test_spread():
    assert spread(3, 5) == [0, 1, 2]
    assert spread(100, 4) == [0, 33, 66, 99]


@pytest.mark.parametrize("num_frames, segment_frames", [(0, 8), (10, 2)])
def test_impossible_plans(num_frames, segment_frames):
    with pytest.raises(UserError):
        plan(num_frames, segment_frames)
