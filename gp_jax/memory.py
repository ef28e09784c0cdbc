"""How much memory there is, so that what cannot fit is told before the work and not by whoever kills the process.

    require(batch_bytes, "a batch of 4096 segments")        # UserError: ... needs at least 77 GB, and there are 24.6 GB

What is needed is counted from shapes and is a lower bound: what passes may still be too much, what fails certainly is.
"""

import os
import resource
from pathlib import Path
from typing import Any

from gp_jax.errors import UserError

# Of the container that this process runs in, by versions 2 and 1 of Linux' control groups.
_LIMITS = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"


def require(needed: int, what: str, there: int | None = None) -> None:
    """Raises UserError where `what` needs more bytes than are `there`, by default those of the machine."""
    there = machine_bytes() if there is None else there
    if needed > there:
        raise UserError(f"{what} needs at least {needed / 1e9:,.3g} GB of memory, and there are {there / 1e9:,.3g} GB")


def machine_bytes() -> int:
    """Main memory, or what the container may use of it."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in map(Path, _LIMITS):
        text = file.read_text(encoding="ascii").strip() if file.is_file() else ""
        limits += [int(text)] if text.isdecimal() else []
    return min(limits)


def device_bytes(device: Any) -> int:
    """Of a `jax.Device`: its own memory, or, of a CPU, that of the machine."""
    return (device.memory_stats() or {}).get("bytes_limit") or machine_bytes()


def used_bytes() -> int:
    """Of main memory, by this process now."""
    return _status("VmRSS")


def most_used_bytes() -> int:
    """Of main memory, by this process at any time until now."""
    return _status("VmHWM")


def _status(name: str) -> int:
    """A line of Linux' account of this process; elsewhere the most that it ever used."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii", errors="replace").splitlines() if status.is_file() else []
    kilobytes = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(kilobytes[0]) * 1024 if kilobytes else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
