"""Windows one after another: every frame is made once, from frames that are there."""

import pytest

from gp_jax.methods.segments import chain


@pytest.mark.parametrize("length, overlap", [(16, 1), (16, 4), (5, 4), (8, 2)])
def test_each_window_begins_with_the_last_frames_of_the_one_before(length, overlap):
    for num_frames in (*range(1, 40), 500):
        made: list[int] = []
        for window in chain(num_frames, length, overlap):
            assert len(window.frames) == length and window.frames == window.times
            assert window.boundary == tuple(made[-overlap:]) == window.frames[: len(window.boundary)]
            assert window.made, "no window for nothing"
            made += window.made
        assert made == list(range(num_frames))
