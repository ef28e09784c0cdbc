"""What a job will take, in seconds and in bytes, before it starts.

    stages = [Effort("denoise", work=flops, calls=80, flops=flops), Effort("decode", pixels, 250, bytes=9 * pixels)]
    seconds(stages, rates)       of all, one after the other
    peak_bytes(costs, beside)    of memory

A stage that was done before on this machine takes what it took then, in proportion to its work (rates.py). Of one that
never was, operations and bytes are counted and divided by what this device does in a trial, once, of a tenth of a
second; so little is known then that half or twice as long is no surprise.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.jobs.programs import Cost
from gp_jax.jobs.rates import Clock, Rates
from gp_jax.memory import used_bytes

TRIAL = "trial product", "trial copy"
SHARE = 0.35  # of the speed of a large matrix product, what networks reach


class Effort(NamedTuple):
    """Calls that take about the same each.

    Attributes:
      name: of the stage, the same in all jobs of a method.
      work: of a call, by which it is compared with what was measured.
      calls: how many.
      flops, bytes: of a call, for when nothing was measured.
    """

    name: str
    work: int
    calls: int = 1
    flops: int = 0
    bytes: int = 0


def rates_of_this_device() -> Rates:
    """Of the devices that jax runs on."""
    devices = jax.devices()
    return Rates(f"{len(devices)} {devices[0].device_kind}")


def seconds(stages: Iterable[Effort], rates: Rates) -> float:
    """Of wall time, one call after the other."""
    total = 0.0
    for stage in stages:
        known = rates.seconds(stage.name, stage.work)
        if known is None:
            _try(rates)
            product, copy = rates.seconds(TRIAL[0], 1), rates.seconds(TRIAL[1], 1)
            known = stage.flops * (product or 0.0) / SHARE + stage.bytes * (copy or 0.0)
        total += stage.calls * known
    return total


def peak_bytes(costs: Iterable[Cost], beside: int) -> int:
    """Of memory at once: on a CPU that of the whole process, else that of the device.

    Args:
      costs: of programs, of which one runs at a time.
      beside: what else the process will hold, beside what it holds now.
    """
    largest = max((cost.bytes for cost in costs), default=0)
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return used_bytes() + largest + beside
    return (device.memory_stats() or {}).get("bytes_in_use", 0) + largest


def _try(rates: Rates) -> None:
    """Measures this device, unless somebody has."""
    if rates.seconds(TRIAL[0], 1) is not None:
        return
    on_cpu = jax.default_backend() == "cpu"
    side, dtype = (1024, jnp.float32) if on_cpu else (8192, jnp.bfloat16)
    matrix = jnp.ones((side, side), dtype)
    product = jax.jit(lambda x: x @ x)
    product(matrix).block_until_ready()
    clock = Clock()
    clock.add(TRIAL[0], 1, _quickest(lambda: product(matrix).block_until_ready()) / (2 * side**3))
    array = np.ones(2**22, np.float32)
    clock.add(TRIAL[1], 1, _quickest(array.copy) / array.nbytes)
    rates.learn(clock)


def _quickest(call: Callable[[], Any]) -> float:
    took = []
    for _ in range(3):
        begin = time.monotonic()
        call()
        took.append(time.monotonic() - begin)
    return min(took)
