"""How long work takes on this machine, learned from the work that was done here before.

    rates = Rates("cpu")
    clock = Clock()
    with clock("denoise", work=10_236_801_024):          work: of one call; its FLOPs, or pixels, or what else grows
        make(segment)
    rates.learn(clock)                                   for the next process
    rates.seconds("denoise", 10_236_801_024)             -> 0.31, as measured; of other work in proportion to it

What was measured lies in rates.json in the user's cache folder, by machine, device, stage and amount of work, the last
few amounts of each. A file that is missing, damaged or cannot be written costs precision only. No jax here.
"""

import math
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from gp_jax.errors import UserError
from gp_jax.files import cache_folder, read_json, write_json

FILE = "rates.json"
KEPT = 16  # amounts of work of a stage
NEWEST = 0.5  # weight of what was measured last against all before


class Clock:
    """Seconds of wall time, and number of calls, by stage and amount of work of a call."""

    def __init__(self) -> None:
        self.spent: dict[tuple[str, int], tuple[float, int]] = {}

    @contextmanager
    def __call__(self, stage: str, work: int, calls: int = 1) -> Iterator[None]:
        """Counts a block as so many calls of a stage, unless it fails."""
        begin = time.monotonic()
        yield
        self.add(stage, work, time.monotonic() - begin, calls)

    def add(self, stage: str, work: int, seconds: float, calls: int = 1) -> None:
        """Counts `calls` calls that took so long together."""
        before, count = self.spent.get((stage, work), (0.0, 0))
        self.spent[stage, work] = before + seconds, count + calls


class Rates:
    """What calls of stages took on a device of this machine.

    Args:
      device: a name of it, such as jax' `device_kind`.
    """

    def __init__(self, device: str):
        self.device = f"{platform.node()}, {device}"
        self.path = cache_folder() / FILE
        self.known: dict[str, dict[str, float]] = _of(self._read(), self.device)

    def seconds(self, stage: str, work: int) -> float | None:
        """Of one call: that of the nearest amount of work which was measured, in proportion; None where none was."""
        measured = self.known.get(stage)
        if not measured:
            return None
        nearest = min(measured, key=lambda amount: abs(math.log(max(int(amount), 1) / max(work, 1))))
        return measured[nearest] * work / max(int(nearest), 1)

    def learn(self, clock: Clock) -> None:
        """Keeps what a clock says."""
        for (stage, work), (seconds, calls) in clock.spent.items():
            measured = self.known.setdefault(stage, {})
            before = measured.pop(str(work), seconds / calls)
            measured[str(work)] = NEWEST * seconds / calls + (1 - NEWEST) * before
            self.known[stage] = dict(list(measured.items())[-KEPT:])
        with suppress(UserError, OSError):
            write_json(self.path, self._read() | {self.device: self.known})

    def _read(self) -> dict[str, Any]:
        with suppress(UserError):
            return read_json(self.path)
        return {}


def duration(seconds: float) -> str:
    """ "40 s", "3 min 20 s", "2 h 5 min"."""
    whole = max(round(seconds), 1)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _of(everything: dict[str, Any], device: str) -> dict[str, dict[str, float]]:
    """What is known of a device; nothing where somebody else wrote something else there."""
    with suppress(AttributeError, TypeError, ValueError):
        return {
            stage: {str(int(work)): float(seconds) for work, seconds in measured.items() if 0 <= seconds < math.inf}
            for stage, measured in everything.get(device, {}).items()
        }
    return {}
