"""What a call costs: seconds of wall time and peak memory."""

import contextlib
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import jax

Value = TypeVar("Value")


class Cost(NamedTuple):
    """Seconds, bytes, and whose bytes they are.

    `memory_of` is "device" where devices count their memory: the most that one of them had in use since the process
    began. Else it is "process": the most main memory that the process had, during the call on Linux, ever elsewhere.
    """

    seconds: float
    peak_memory: int
    memory_of: str


def measured(call: Callable[[], Value]) -> tuple[Value, Cost]:
    """The value of `call()` and what it cost."""
    _reset_process_peak()
    begin = time.perf_counter()
    value = jax.block_until_ready(call())
    seconds = time.perf_counter() - begin
    on_devices = [(device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in jax.local_devices()]
    return value, Cost(seconds, *((max(on_devices), "device") if any(on_devices) else (_process_peak(), "process")))


def _reset_process_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak to what is in use now


def _process_peak() -> int:
    try:
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
