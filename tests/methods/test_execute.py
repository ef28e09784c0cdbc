"""The executor alone, with numbers in the place of latents."""

import pytest

from gp_jax.methods.execute import execute, rows_of_calls
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


@pytest.mark.parametrize("slices, share", [(1, 0.05), (2, 0.1), (8, 0.3), (16, 0.5)])
def test_few_rows_of_a_mesh_are_idle(slices, share):
    """Clips of up to 512 frames by segments of 16; the first level is one segment, whatever the mesh."""

    def idle(levels, rows):
        return sum(-(-segments // rows) * rows - segments for segments in levels) + slices - 1

    total = kept = whole = 0
    for frames in range(9, 513, 7):
        levels = [len(level) for level in PLANS["hierarchical"](frames, 16).levels]
        rows = rows_of_calls(levels[1:], slices, 4 * slices)
        assert rows % slices == 0 and slices <= rows <= 4 * slices
        total, kept, whole = total + sum(levels), kept + idle(levels[1:], rows), whole + idle(levels[1:], 4 * slices)
    assert kept < share * (total + kept) and kept < 0.55 * whole
    assert rows_of_calls([4], slices, 1) == slices and rows_of_calls([], slices, 4 * slices) == 4 * slices


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
