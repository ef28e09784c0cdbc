"""What the training step of a configuration costs on some devices: counted, and, where they are here, timed.

    run = prepare_bench(config, devices, segments=2)
    row = bench(run, model_flops(config), steps=10)
    row.seconds, row.mfu, row.budget.temporaries

Data are not needed: parameters are those that training starts from, batches are random, and neither changes the cost.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gp_jax.fit.state import State, make_state
from gp_jax.fit.step import on_mesh
from gp_jax.parallel import make_mesh
from gp_jax.parallel.mesh import Device
from gp_jax.training.budget import Budget, batch_shapes, check_memory, count, lower
from gp_jax.training.networks import check_sources, initial
from gp_jax.training.rules import check_fields
from gp_jax.training.setup import Run, prepare
from gp_jax.training.speed import PEAK_FLOPS

_FSDP = 8  # devices over which a mesh that nobody asked for cuts the state; more of them stand side by side
_WARM_UP = 2  # steps that are not counted


@dataclasses.dataclass(frozen=True)
class Row:
    """Of one device.

    Attributes:
      run: what was compiled.
      budget: the counts of the compiled program.
      model_flops: FLOPs of the networks in a step.
      seconds: of a step; None where it was not run.
      peak_bytes: the most memory in use at any time; None where the device does not tell.
    """

    run: Run
    budget: Budget
    model_flops: float
    seconds: float | None = None
    peak_bytes: int | None = None

    @property
    def mfu(self) -> float | None:
        """Share of what the device could do; None where nothing was timed or its peak is not in the table."""
        peak = PEAK_FLOPS.get(self.run.mesh.devices.flat[0].device_kind)
        return self.model_flops / self.seconds / peak if self.seconds and peak else None


def prepare_bench(
    config: ConfigDict, devices: Sequence[Device], *, segments: int, mesh: str = "", attention: str = ""
) -> Run:
    """The run of a configuration on other devices, without accumulation.

    Args:
      config: its mesh, batch size and microbatches do not count.
      devices: here or not.
      segments: per step, along each slice of the mesh's axes data and fsdp.
      mesh: see `make_mesh`; by default the state is cut over 8 devices.
      attention: one of `attention.NAMES`, by default the configuration's.
    """
    cut = math.gcd(len(devices), _FSDP)
    check_fields(config)
    made = make_mesh(mesh or f"data={len(devices) // cut},fsdp={cut}", devices)
    rows = segments * made.shape["data"] * made.shape["fsdp"]
    chosen = config.copy_and_resolve_references()
    chosen.update({"attention": attention or config.attention, "microbatches": 1, "batch_size": rows})
    return prepare(chosen, made)


def check_bench(run: Run) -> None:
    """Raises UserError where the step of `prepare_bench` cannot be run here: a checkpoint is missing, or memory."""
    check_sources(run.networks, run.networks.frozen)
    check_memory(run, batch_shapes(run))


def bench(run: Run, model_flops: float, *, steps: int) -> Row:
    """Compiles the step, and runs it `steps` times unless that is 0.

    Args:
      run: of `prepare_bench`.
      model_flops: of one segment.
      steps: to take the time of, behind two that are not counted.

    Raises:
      UserError: a network that is not trained has no checkpoint to come from.
    """
    model_flops *= run.config.batch_size / run.mesh.size
    if not steps:
        return Row(run, count(run), model_flops)
    params = initial(run.networks, run.networks.live, run.mesh)
    state = make_state(params, run.networks.multipliers, run.optimizer, run.mesh)
    frozen = initial(run.networks, run.networks.frozen, run.mesh)
    shapes = batch_shapes(run)
    program = lower_step(run).compile()
    batch = on_mesh(random_arrays(shapes), shapes, run.mesh)

    def update() -> State:
        nonlocal state
        state, _ = program(state, frozen, batch)
        return state

    return Row(run, Budget.of(run, program), model_flops, *timed(update, steps))


def timed(call: Callable[[], Any], steps: int) -> tuple[float, int | None]:
    """Seconds of a call, of which so many are made one behind the other, and the device's peak of bytes in use; None
    where it does not tell."""
    jax.block_until_ready([call() for _ in range(_WARM_UP)][-1])
    begin = time.perf_counter()
    jax.block_until_ready([call() for _ in range(steps)][-1])
    seconds = (time.perf_counter() - begin) / steps
    used = jax.local_devices()[0].memory_stats() or {}
    return seconds, used.get("peak_bytes_in_use")


def lower_step(run: Run) -> jax.stages.Lowered:
    """The step for batches as the configuration asks for them, ready to be compiled."""
    return lower(run, batch_shapes(run))


def model_flops(config: ConfigDict, lowered: Callable[[Run], jax.stages.Lowered] = lower_step) -> float:
    """FLOPs of one segment as XLA counts them before it optimises: what remat computes again is not among them, and
    attention is that of the einsum, whatever kernel is used. `lowered`: what is done with a segment."""
    lone = config.copy_and_resolve_references()
    lone.update({"attention": "einsum", "remat": "none", "batch_size": 1, "microbatches": 1})
    run = prepare(lone, make_mesh(None, jax.devices()[:1]))
    cost = lowered(run).cost_analysis()
    assert cost is not None  # XLA counts on every kind of device
    return float(cost["flops"])


def random_arrays(shapes: dict[str, jax.ShapeDtypeStruct]) -> dict[str, np.ndarray]:
    """The rows of this process: from 0 to 1, and bytes to 255."""
    rng, share = np.random.default_rng(0), jax.process_count()
    return {
        name: (rng.random((x.shape[0] // share, *x.shape[1:])) * (255 if x.dtype == np.uint8 else 1)).astype(x.dtype)
        for name, x in shapes.items()
    }
