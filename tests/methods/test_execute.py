"""The executor alone, with numbers in the place of latents."""

import pytest

from gp_jax.methods.execute import execute
from gp_jax.methods.globalpaint.plan import PLANS


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("num_frames, batch", [(1, 4), (8, 4), (9, 1), (100, 3), (700, 2), (700, 1000)])
def test_frames_come_in_order_each_made_from_what_it_needs(name, num_frames, batch):
    plan, made = PLANS[name](num_frames, 8), []
    levels = {frame: [] for frame in range(num_frames)}
    for number, segment in ((number, segment) for number, level in enumerate(plan.levels) for segment in level):
        for frame in segment.made:
            levels[frame].append(number)

    def make(number, segments, completed):
        assert len(segments) <= (1 if plan.chained else batch)
        for segment in segments:
            assert segment in plan.levels[number]
            for frame in segment.needed:
                assert completed[frame] == (frame, [n for n in levels[frame] if n < number or plan.chained][-1])
        made.extend(segments)
        return {frame: (frame, number) for segment in segments for frame in segment.made}

    latest = [(frame, (frame, numbers[-1])) for frame, numbers in levels.items()]
    assert list(execute(plan, make, batch)) == latest
    assert sorted(map(hash, made)) == sorted(hash(segment) for level in plan.levels for segment in level)


@pytest.mark.parametrize("name", PLANS)
def test_memory_does_not_grow_with_the_clip(name):
    def most_held(num_frames):
        most = 0

        def make(number, segments, completed):
            nonlocal most
            most = max(most, len(completed))
            return {frame: frame for segment in segments for frame in segment.made}

        for _ in execute(PLANS[name](num_frames, 8), make, 4):
            pass
        return most

    assert max(most_held(n) for n in range(2000, 2400, 37)) <= 4 * 8
    assert most_held(20_000) <= 4 * 8
