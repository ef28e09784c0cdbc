"""Frames come out of a spool as they went in, from memory and from disk; a thread that fails ends the work."""

import os
import threading
import time

import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.jobs import spool
from gp_jax.jobs.spool import Spool, check_room

SHAPE = (3, 5, 3)
FRAMES = np.random.default_rng(0).normal(size=(7, *SHAPE)).astype(np.float32)


@pytest.fixture(params=["memory", "disk"])
def folder(request, monkeypatch, tmp_path):
    """A folder for a spool that lies in memory, or there."""
    monkeypatch.setattr(spool, "MEMORY", 2**20 if request.param == "memory" else 0)
    return tmp_path / "work"


def test_frames_come_back_in_any_order(folder):
    with Spool(7, SHAPE, folder) as kept:
        kept.fill(iter(FRAMES))
        for index in (6, 0, 3, 3, 1):
            np.testing.assert_array_equal(kept[index], FRAMES[index], strict=True)
    assert not folder.exists() or not any(folder.iterdir()), "the file has no name"


def test_frames_are_waited_for(folder):
    go = threading.Event()

    def slow():
        yield FRAMES[0]
        go.wait(10)
        yield from FRAMES[1:]

    with Spool(7, SHAPE, folder) as kept:
        kept.fill(slow())
        np.testing.assert_array_equal(kept[0], FRAMES[0])
        threading.Timer(0.05, go.set).start()
        np.testing.assert_array_equal(kept[6], FRAMES[6])


def test_errors_are_told_where_the_frame_is_missed(folder):
    def broken():
        yield FRAMES[0]
        raise UserError("the clip is broken")

    with Spool(7, SHAPE, folder) as kept:
        kept.fill(broken())
        for _ in range(2):
            with pytest.raises(UserError, match="the clip is broken"):
                kept[1]
        np.testing.assert_array_equal(kept[0], FRAMES[0])
    with Spool(7, SHAPE, folder) as kept:
        kept.fill(iter(FRAMES[:2]))
        with pytest.raises(EOFError, match="2 frames came, and 7"):
            kept[6]


def test_the_end_ends_the_thread(folder):
    def endless():
        while True:
            time.sleep(0.001)
            yield FRAMES[0]

    with pytest.raises(KeyboardInterrupt), Spool(10**4, SHAPE, folder) as kept:
        kept.fill(endless())
        kept[1]
        raise KeyboardInterrupt
    assert "spool" not in {thread.name for thread in threading.enumerate()}


def test_its_size_is_said_and_checked_before(monkeypatch, tmp_path):
    assert check_room(7, SHAPE) == 0
    monkeypatch.setattr(spool, "MEMORY", 0)
    assert check_room(7, SHAPE, tmp_path / "not" / "there") == FRAMES.nbytes
    with pytest.raises(UserError, match=r"take 1.8e\+10 GB in .*work while .* GB are free"):
        check_room(10**17, SHAPE, tmp_path / "work")
    assert not any(tmp_path.iterdir())


def test_a_disk_that_is_full_at_last_is_an_error_in_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(spool, "MEMORY", 0)

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match="No space left"):
        Spool(7, SHAPE, tmp_path)
    assert not any(tmp_path.iterdir())


def test_nobody_waits_for_what_nobody_makes(folder):
    with Spool(7, SHAPE, folder) as kept, pytest.raises(RuntimeError, match="nobody fills"):
        kept[0]


def test_frames_of_another_type_are_taken_here_and_now(folder):
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    assert check_room(3, (4, 5, 3), folder, np.uint8) == (0 if spool.MEMORY else frames.nbytes)
    with Spool(3, (4, 5, 3), folder, np.uint8) as kept:
        kept.take(iter(frames))
        for index in (2, 0, 1):
            np.testing.assert_array_equal(kept[index], frames[index], strict=True)
