"""Encoders do not take the machine for themselves.

Opened by root, or by who else may ask for it, SVT-AV1 4.1 makes the thread that opens it and its own threads
real-time ones of the highest priority. Every thread and process that this one starts later is one too; what else the
machine has to do then waits until none of them computes any more.
"""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def kept_priority() -> Iterator[None]:
    """Threads that became real-time ones within get their usual priority back, unless the caller was one before."""
    if not hasattr(os, "sched_setscheduler"):  # no Linux
        yield
        return
    realtime = (os.SCHED_FIFO, os.SCHED_RR)
    before = os.sched_getscheduler(0)
    try:
        yield
    finally:
        threads = [] if before in realtime else os.listdir("/proc/self/task")
        for thread in map(int, threads):
            with contextlib.suppress(ProcessLookupError):  # it has ended
                if os.sched_getscheduler(thread) in realtime:
                    os.sched_setscheduler(thread, before, os.sched_param(0))
