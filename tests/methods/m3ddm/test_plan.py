"""The hierarchy of M3DDM: of any clip every frame is shown once, and known before it is needed."""

import pytest

from gp_jax.errors import UserError
from gp_jax.methods.execute import refine
from gp_jax.methods.m3ddm.plan import LENGTH, STRIDES, hierarchy

LENGTHS = [*range(1, 130), 225, 226, 240, 241, 242, 256, 500, 1127, 1128]


def test_of_a_published_example_there_are_44_windows():
    assert sum(len(level.windows) for level in hierarchy(500)) == 44


@pytest.mark.parametrize("num_frames", LENGTHS)
def test_windows(num_frames):
    levels = hierarchy(num_frames)
    assert tuple(level.stride for level in levels) == (STRIDES if num_frames >= 50 else (1,))
    for number, (stride, windows) in enumerate(levels):
        before = {frame for level in levels[:number] for window in level.windows for frame in window.frames}
        for window in windows:
            assert len(window.frames) == LENGTH and window.frames == window.times
            steps = {b - a for a, b in zip(window.frames, window.frames[1:]) if b < num_frames - 1}
            assert steps <= {stride}
            # The first level's windows are a chain; those of others stand on coarser levels alone.
            assert window.needed <= before
            assert {frame for frame in window.frames if frame in before} == set(window.boundary)
            if number == 0:
                before.update(window.frames)
    shown = [frame for window in levels[-1].windows for frame in window.made]
    assert set(shown) == set(range(num_frames))
    assert len(levels) == 1 or len(shown) == num_frames


@pytest.mark.parametrize("num_frames, batch", [(1, 1), (2, 4), (16, 1), (17, 2), (49, 3), (60, 1), (242, 2), (700, 5)])
def test_frames_come_in_order_each_made_from_its_first_version(num_frames, batch):
    levels, first, made = hierarchy(num_frames), {}, {}
    completed, most = iter(()), 0

    def maker(number):
        def make(windows, held):
            nonlocal most
            most = max(most, len(held))
            assert len(windows) <= (batch if number else 1)
            for window in windows:
                assert all(held[frame] == first[frame] for frame in window.boundary)
                made.update({frame: (frame, number, window.frames[0]) for frame in window.made})
                for frame in window.made:
                    first.setdefault(frame, made[frame])
            return {frame: made[frame] for window in windows for frame in window.made}

        return make

    for number, level in enumerate(levels):
        completed = refine(completed, level.windows, batch if number else 1, maker(number))
    assert [frame for frame, _ in completed] == list(range(num_frames))
    assert all(value[1] == len(levels) - 1 for value in made.values())
    assert most <= (batch + 1) * LENGTH


def test_no_frames():
    with pytest.raises(UserError, match="no frames"):
        hierarchy(0)
