"""Plans: laws for every length of the embedded model's segments, and for lengths drawn from others."""

import itertools

import pytest

from gp_jax.errors import UserError
from gp_jax.pipelines.plan import PLANS, plan, sequential, spread

CASES = [("hierarchical", 8, 1), ("sequential", 8, 11), *((name, T, 37) for name in PLANS for T in (3, 5, 16))]


@pytest.mark.parametrize("name, segment_frames, pace", CASES)
def test_every_frame_is_made_once_from_completed_frames(name, segment_frames, pace):
    for num_frames in (*range(1, 40), *range(40, 2001, pace), 2000):
        clip_plan = PLANS[name](num_frames, segment_frames)
        complete = set()
        for level in clip_plan.levels:
            finished = []
            for segment in level:
                frames, made = segment.frames, segment.made
                assert len(frames) == segment_frames and made
                assert complete.issuperset(segment.boundary) and set(frames).issuperset(segment.boundary)
                repeated = frames.count(frames[-1]) - 1
                rising = frames[: segment_frames - repeated]
                assert all(a < b for a, b in itertools.pairwise(rising)), "only the last index may repeat"
                assert segment.kept[-1] < len(rising), "a frame is kept where it first stands"
                finished += made
                if clip_plan.chained:
                    complete.update(made)
            assert finished == sorted(finished), "a level goes forward in time"
            assert clip_plan.chained or complete.isdisjoint(finished), "nothing is made twice"
            complete.update(finished)
        assert complete == set(range(num_frames))
        assert sum(len(segment.kept) for level in clip_plan.levels for segment in level) == num_frames


@pytest.mark.parametrize("segment_frames, pace", [(8, 7), (5, 97), (16, 17)])
def test_hierarchy(segment_frames, pace):
    for num_frames in range(1, 2001, pace):
        ((key,), *finer) = plan(num_frames, segment_frames).levels
        assert key.made[0] == 0 and key.made[-1] == num_frames - 1 and not key.boundary
        assert bool(finer) == (num_frames > segment_frames)
        neighbours = key.made
        for level in finer:
            enclosing = set(itertools.pairwise(neighbours))
            for segment in level:
                assert segment.boundary == (segment.frames[0], segment.frames[-1])
                assert segment.boundary in enclosing, "boundary frames are neighbours among the completed ones"
                assert set(segment.frames).issubset(range(segment.boundary[0], segment.boundary[1] + 1))
            neighbours = sorted({*neighbours, *(frame for segment in level for frame in segment.made)})


def test_segments_that_split_are_evenly_spread():
    for num_frames in range(9, 2001, 23):
        for segment in itertools.chain(*plan(num_frames, 8).levels):
            first, last = segment.frames[0], segment.frames[-1]
            if last - first > 7:
                pace = (last - first) / 7
                assert all(abs(frame - (first + pace * i)) <= pace + 1 for i, frame in enumerate(segment.frames))


def test_longer_clips_need_more_levels_only():
    assert [len(plan(n, 8).levels) for n in (8, 9, 50, 51, 344, 345, 2402, 20_000)] == [1, 2, 2, 3, 3, 4, 4, 6]


def test_the_last_level_has_as_few_segments_as_can_be():
    assert all(len(plan(n, 8).levels[-1]) == -(-(n - 1) // 7) for n in range(9, 500, 13))


def test_sequential_begins_with_the_last_two_frames():
    assert all(segment.boundary == segment.frames[:2] for segment in sequential(100, 8).levels[1])


def test_spread():
    assert spread(3, 5) == [0, 1, 2]
    assert spread(100, 4) == [0, 33, 66, 99]


@pytest.mark.parametrize("num_frames, segment_frames", [(0, 8), (10, 2)])
def test_impossible_plans(num_frames, segment_frames):
    with pytest.raises(UserError):
        plan(num_frames, segment_frames)
