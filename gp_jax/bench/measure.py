"""How a benchmark takes time, memory and FLOPs, and where its weights come from.

    times = timed(lambda: program(parameters, batch), repeats=10)
    times.median, times.lowest, times.highest                      seconds of a call
    flops_of_traced(jax.jit(f).trace(x))                           of its matrix products and convolutions

Calls are waited for one by one, so that a spread can be told; two that are not counted come before them. Where several
processes make them together, each took as long as the slowest process did.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from gp_jax.checkpoint.tensors import is_floating
from gp_jax.fit.step import batch_shardings, on_mesh
from gp_jax.jobs.programs import flops_of
from gp_jax.parallel.gather import placed
from gp_jax.parallel.processes import process_rows

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
    return slowest([seconds_of(lambda: jax.block_until_ready(call())) / parts for _ in range(repeats)])


def slowest(seconds: Sequence[float]) -> Times:
    """Of calls that all processes made: the time of each, this process's being `seconds`; all must ask."""
    if jax.process_count() == 1:
        return Times(tuple(seconds))
    everywhere = multihost_utils.process_allgather(np.array(seconds, np.float32))
    return Times(tuple(map(float, everywhere.max(axis=0))))


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


def random_batch(shapes: Mapping[str, jax.ShapeDtypeStruct], mesh: Mesh) -> dict[str, jax.Array]:
    """A batch on the mesh, its numbers from 0 to 1, and bytes to 255; those of other processes are the same."""
    rng, places = np.random.default_rng(0), batch_shardings(shapes, mesh)

    def draw(name: str, x: jax.ShapeDtypeStruct) -> np.ndarray:
        rows = len(process_rows(places[name], x.shape[0]))
        return (rng.random((rows, *x.shape[1:])) * (255 if x.dtype == np.uint8 else 1)).astype(x.dtype)

    return on_mesh({name: draw(name, x) for name, x in shapes.items()}, shapes, mesh)
