"""Several programs compiled at once, where there are cores for them.

    programs = side_by_side([lambda: compile(a), lambda: compile(b)], at_once(mesh.devices.flat[0], 2))

XLA compiles most of a program on one core and lets Python go meanwhile, so on two cores two programs take little more
time than one. Not for GPUs: there XLA chooses kernels by timing them on the device, and programs that are compiled at
the same time disturb each other's measurements.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from gp_jax.parallel.mesh import Device

T = TypeVar("T")


def at_once(device: Device, count: int) -> int:
    """How many of `count` programs for this device to compile at the same time."""
    return 1 if device.platform == "gpu" else min(count, len(os.sched_getaffinity(0)))


def side_by_side(
    works: Sequence[Callable[[], T]], threads: int, done: Callable[[int], None] = lambda n: None
) -> list[T]:
    """What each of `works` returns, in their order.

    Args:
      works: done by `threads` threads, none of which the end of the process waits for: compiling cannot be interrupted.
      threads: from 1 on.
      done: called with 1, 2, ... as works end, from the thread that calls this function.

    Raises:
      The first error of any of them, at once; what has begun goes on, and nothing else begins.
    """
    waiting, ended = deque(enumerate(works)), threading.Condition()
    results: dict[int, Any] = {}
    errors: list[BaseException] = []

    def run() -> None:
        while True:
            try:
                number, work = waiting.popleft()
            except IndexError:
                return
            try:
                result = work()
            except BaseException as error:
                with ended:
                    waiting.clear()
                    errors.append(error)
                    ended.notify()
                return
            with ended:
                results[number] = result
                ended.notify()

    for _ in range(threads):
        threading.Thread(target=run, daemon=True).start()
    for told in range(len(works)):
        with ended:
            while len(results) <= told and not errors:
                ended.wait()
            if errors:
                raise errors[0]
        done(told + 1)
    return [results[number] for number in range(len(works))]
