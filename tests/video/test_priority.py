"""Writing a file leaves the process as the machine schedules any other."""

import contextlib
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from gp_jax.video import Coding, VideoWriter
from gp_jax.video.priority import kept_priority

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="Linux alone has these priorities")


def realtime() -> set[int]:
    threads = map(int, os.listdir("/proc/self/task"))
    return {thread for thread in threads if os.sched_getscheduler(thread) in (os.SCHED_FIFO, os.SCHED_RR)}


@pytest.mark.parametrize("codec", ["av1", "h264"])
def test_no_thread_becomes_a_realtime_one(tmp_path: Path, codec):
    """It is root whom SVT-AV1 gives that priority."""
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 10, size=(64, 64), coding=Coding(codec)) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
        assert not realtime()
        for _ in range(20):
            writer.write(np.zeros((64, 64, 3), np.uint8))
        assert not realtime()
    assert not realtime() and path.stat().st_size


def test_who_was_one_before_stays_one():
    """In a thread of its own, so that this process is none afterwards."""
    seen = []

    def work():
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        before = os.sched_getscheduler(0)
        with kept_priority():
            pass
        seen.append((before, os.sched_getscheduler(0)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    [(before, after)] = seen
    if before != os.SCHED_FIFO:
        pytest.skip("this user may not become a real-time process")
    assert after == before
