"""How a benchmark takes time, memory and FLOPs, and where its weights come from.

    times = timed(lambda: program(parameters, batch), repeats=10)
    times.median, times.lowest, times.highest                      seconds of a call
    flops_of_traced(jax.jit(f).trace(x))                           of its matrix products and convolutions

Calls are waited for one by one, so that a spread can be told; two that are not counted come before them.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.checkpoint.tensors import is_floating
from gp_jax.jobs.programs import flops_of
from gp_jax.parallel.gather import placed

WARM_UP = 2  # calls that are not counted
CALLS_IN_A_ROW = 4  # of a denoiser, as a sampler makes them: none waits for the host
_POOL = 65_537  # random numbers that weights repeat: prime, so that no two rows of a kernel are alike


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of calls, each waited for."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def lowest(self) -> float:
        return min(self.seconds)

    @property
    def highest(self) -> float:
        return max(self.seconds)


def timed(call: Callable[[], Any], repeats: int, parts: int = 1) -> Times:
    """Of so many calls, behind `WARM_UP` others; `call` returns arrays, which are waited for. Told is the time of one
    of its equal parts."""
    for _ in range(WARM_UP):
        jax.block_until_ready(call())
    return Times(tuple(seconds_of(lambda: jax.block_until_ready(call())) / parts for _ in range(repeats)))


def compiled(lower: Callable[[], jax.stages.Lowered]) -> tuple[jax.stages.Compiled, float]:
    """A program, and the seconds that tracing, lowering and compiling it took."""
    begin = time.perf_counter()
    program = lower().compile()
    return program, time.perf_counter() - begin


def seconds_of(call: Callable[[], Any]) -> float:
    """Wall time of a single call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def peak_bytes() -> int | None:
    """The most memory that this process had in use on the first device; None where the device does not tell."""
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def flops_of_traced(traced: jax.stages.Traced) -> int:
    """FLOPs of the matrix products and convolutions in a traced function, as the model has them: no compiler has
    touched it yet."""
    return flops_of(traced.jaxpr.jaxpr)


def random_weights(shapes: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
    """Weights by name that keep the scale of what passes through them; zeros would make some devices faster.

    Args:
      shapes: with shardings, or None in their place for the first device.
    """
    pool = np.random.default_rng(0).normal(size=_POOL).astype(np.float32)

    def make(name: str, shape: jax.ShapeDtypeStruct) -> jax.Array:
        if not is_floating(shape):
            values = np.zeros(1)
        elif len(shape.shape) > 1:
            values = pool / math.sqrt(math.prod(shape.shape[:-1]))
        else:
            values = 0.1 * pool
            values = np.abs(1 + values) if name.endswith(("scale", "variance")) else values
        array = np.resize(values.astype(jnp.dtype(shape.dtype)), shape.shape)
        if shape.sharding is None:
            return jnp.asarray(array)
        return placed(array, shape.sharding)

    return {name: make(name, shape) for name, shape in shapes.items()}


def random_arrays(shapes: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, np.ndarray]:
    """The rows of this process of a batch: from 0 to 1, and bytes to 255."""
    rng, share = np.random.default_rng(0), jax.process_count()
    return {
        name: (rng.random((x.shape[0] // share, *x.shape[1:])) * (255 if x.dtype == np.uint8 else 1)).astype(x.dtype)
        for name, x in shapes.items()
    }
