"""Walks along a clip see the frames that a spool would give, hold windows of them, and leave no thread."""

import threading

import numpy as np
import pytest

from gp_jax.jobs.passes import Passes


def clip(reads):
    """Reads frames that are their own index; `reads` gets what was read."""

    def read(indices):
        for index in indices:
            reads.append(index)
            yield np.full(2, index, np.float32)

    return read


def test_levels_walk_side_by_side_and_hold_windows_only():
    walks, reads = {0: [0, 4, 8, 12], 1: [*range(13)]}, []
    with Passes(clip(reads), walks, ahead=2) as frames:
        held = 0
        for first in range(0, 12, 4):
            assert [frames.along(0, first)[index][0] for index in (first, first + 4)] == [first, first + 4]
            window = frames.along(1, first)
            assert [window[index][0] for index in (first + 4, first, first + 2)] == [first + 4, first, first + 2]
            held = max(held, len(window._held))
        assert held == 5
        assert [frame[0] for frame in frames.some([1, 9])] == [1, 9]
    assert sorted(reads) == sorted([*walks[0], *walks[1], 1, 9])  # each of them once a walk
    assert "ahead" not in {thread.name for thread in threading.enumerate()}


def test_a_walk_that_begins_late_reads_nothing_of_before():
    reads = []
    with Passes(clip(reads), {0: [*range(100)]}, ahead=2) as frames:
        assert frames.along(0, 90)[91][0] == 91
    assert min(reads) == 90


def test_what_goes_wrong_is_raised_where_a_frame_is_asked_for():
    def read(indices):
        yield np.zeros(1)
        raise OSError("the disk is gone")

    with Passes(read, {0: [0, 1]}, ahead=1) as frames:
        window = frames.along(0, 0)
        assert window[0] == 0
        with pytest.raises(OSError, match="gone"):
            window[1]
        with pytest.raises(KeyError):
            window[7]
