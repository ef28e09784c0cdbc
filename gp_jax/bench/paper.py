"""A full-size step on machines that nobody here has: counted from the traced program and the rules of sharding.

    work = work_of(config, "step")                                  traced once, for one segment; nothing is compiled
    rows = [predict(work, CHIPS["h100"], mesh, segments=8, share=0.25) for mesh in meshes(256)]
    best(rows).seconds, best(rows).efficiency

What is counted, for each device:

  FLOPs       of the traced program's matrix products and convolutions, what remat computes again among them
  memory      the state where the rules put it, gradients, what the forward pass leaves for the backward pass (the
              residuals of its `jax.vjp`, by shape), and the parameters once more, whole, in the type of the
              computation, since XLA keeps what it has gathered
  traffic     parameters that `fsdp` cuts are gathered in the type of the computation: once, and where remat computes
              anything again, which XLA keeps apart, a second time; gradients are scattered back in float32, and what
              `data` copies is summed. Of activations nothing travels: each device has whole segments
  seconds     FLOPs at a share of the chip's peak, the update at the speed of its memory, collectives at that of its
              links (chips.py), one after the other: nothing is taken to overlap

Meshes are of `data` and `fsdp`. `tensor` and `context` cut segments, whose activations then travel in every layer: they
are for clips that are waited for, not for throughput, and are not predicted here.

Checked against what XLA compiles of one level of the network for eight CPU devices (tests/bench/test_paper.py): sums
of data=8 are predicted to 0.02 %; of fsdp=8 and data=2,fsdp=4 XLA sums 0.87 and 1.14 of what is predicted, and gathers
0.80 and 0.75 of it, since where tokens are few it sends some of them in the place of parameters.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh
from ml_collections import ConfigDict

from gp_jax.bench import denoise, step
from gp_jax.bench.case import model_flops, prepare_case
from gp_jax.bench.chips import Chip, Collective, seconds
from gp_jax.bench.measure import flops_of_traced
from gp_jax.checkpoint.tensors import is_floating
from gp_jax.fit.state import placed, state_shardings
from gp_jax.parallel import AXES
from gp_jax.parallel.sharding import parameter_axes, partition
from gp_jax.seeds import random_key
from gp_jax.training.budget import batch_shapes, bytes_on_device
from gp_jax.training.setup import Run

Shapes = Mapping[str, jax.ShapeDtypeStruct]


@dataclasses.dataclass(frozen=True)
class Work:
    """Of one segment on one device.

    Attributes:
      what: "step" or "denoise".
      run: on one device, of one segment.
      flops: of the program.
      model_flops: of the networks, without what is computed again.
      residuals: bytes kept for the backward pass; 0 where there is none.
      gathers: how often a step needs each parameter.
      laid_out: what was counted for a mesh, so that other chips need not count it again.
    """

    what: str
    run: Run
    flops: float
    model_flops: float
    residuals: float
    gathers: int
    laid_out: dict[tuple[int, ...], tuple[float, float, float, tuple[Collective, ...]]] = dataclasses.field(
        default_factory=dict, compare=False, repr=False
    )


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Of one device, for one step or call.

    Attributes:
      chip, mesh, segments: on what, and how many segments each device has.
      memory: bytes, about.
      flops: of the program.
      collectives: all of them.
      computing, updating, near, far: seconds.
    """

    chip: Chip
    mesh: dict[str, int]
    segments: int
    memory: float
    flops: float
    collectives: tuple[Collective, ...]
    computing: float
    updating: float
    near: float
    far: float

    @property
    def fits(self) -> bool:
        """With a tenth of the memory left for what is not counted."""
        return self.memory < 0.9 * self.chip.memory

    @property
    def seconds(self) -> float:
        return self.computing + self.updating + self.near + self.far

    @property
    def efficiency(self) -> float:
        """Of weak scaling: the share of the time that a lone device, with room for everything, would take too."""
        return (self.computing + self.updating) / self.seconds

    def traffic(self, kind: str) -> float:
        """Bytes that a device sends in collectives of a kind."""
        return sum(sum(x.sent(self.chip.island)) for x in self.collectives if x.kind == kind)


def work_of(config: ConfigDict, what: str) -> Work:
    """Traces what a configuration does for one segment.

    Args:
      config: see training/config.py.
      what: "step" or "denoise".
    """
    run = prepare_case(config, jax.devices()[:1], segments=1)
    trace = step.trace_step if what == "step" else denoise.trace_denoising
    lone, flops = model_flops(config, trace), flops_of_traced(trace(run))
    if what == "denoise":
        return Work(what, run, flops, lone, 0.0, gathers=1)
    kept = [residuals(prepare_case(config, jax.devices()[:1], segments=rows)) for rows in (1, 2)]
    # What a batch of two keeps beyond a batch of one is a segment's; the rest are parameters.
    return Work(what, run, flops, lone, kept[1] - kept[0], gathers=1 if config.remat == "none" else 2)


def residuals(run: Run) -> float:
    """Bytes that the forward pass of a batch leaves for the backward pass."""
    batch = batch_shapes(run)
    key = jax.eval_shape(lambda: random_key(0))
    draws = jax.eval_shape(run.objective.draw, key, batch)
    trained = {name: run.networks.shapes[name] for name in run.networks.multipliers}
    rest = {name: x for name, x in run.networks.shapes.items() if name not in trained}

    def pulled_back(trained: Any, rest: Any, batch: Any, draws: Any) -> Any:
        def loss(trained: Any) -> jax.Array:
            return run.objective.losses(run.networks.bind({**rest, **trained}), batch, draws).mean()

        return jax.vjp(loss, trained)[1]

    leaves = jax.tree.leaves(jax.eval_shape(pulled_back, trained, rest, batch, draws))
    return float(sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves))


def meshes(devices: int) -> Iterator[dict[str, int]]:
    """All of `data` and `fsdp`; see above for the others."""
    for cut in range(1, devices + 1):
        if devices % cut == 0:
            yield {"data": devices // cut, "fsdp": cut, "tensor": 1, "context": 1}


def best(rows: Sequence[Prediction]) -> Prediction | None:
    """The fastest that fits; of equals the one that cuts least."""
    there = [row for row in rows if row.fits]
    return min(there, key=lambda row: (row.seconds, row.mesh["fsdp"])) if there else None


def predict(work: Work, chip: Chip, mesh: Mapping[str, int], segments: int, share: float) -> Prediction:
    """What a device does, holds and sends.

    Args:
      work: of one segment.
      chip: what the devices are.
      mesh: sizes of all axes.
      segments: of each device.
      share: of the chip's peak that is reached while it computes.
    """
    key = tuple(mesh[axis] for axis in AXES)
    if key not in work.laid_out:
        work.laid_out[key] = _lay_out(work, mesh)
    held, gradients, gathered, collectives = work.laid_out[key]
    times = [seconds(chip, one) for one in collectives]
    batch = sum(math.prod(x.shape) * x.dtype.itemsize for x in batch_shapes(work.run).values())
    return Prediction(
        chip=chip,
        mesh=dict(mesh),
        segments=segments,
        memory=held + gradients + gathered + segments * (work.residuals + batch),
        flops=segments * work.flops,
        collectives=collectives,
        computing=segments * work.flops / (share * chip.peak),
        updating=2 * held / chip.speed if gradients else 0.0,
        near=sum(near for near, _ in times),
        far=sum(far for _, far in times),
    )


def _lay_out(work: Work, mesh: Mapping[str, int]) -> tuple[float, float, float, tuple[Collective, ...]]:
    """Bytes of state, of gradients, of what is gathered; and the collectives."""
    width = jnp.dtype(work.run.config.dtype).itemsize
    gathered = width * sum(math.prod(x.shape) for x in _used(work).values()) if mesh["fsdp"] > 1 else 0
    gradients = _bytes(_trained(work), mesh, 4) if work.what == "step" else 0
    return _held(work, mesh), gradients, gathered, tuple(traffic(work, mesh))


def traffic(work: Work, mesh: Mapping[str, int]) -> Iterator[Collective]:
    """The collectives of a step or a call, those of all parameters together."""
    data, cut = mesh["data"], mesh["fsdp"]
    width = jnp.dtype(work.run.config.dtype).itemsize
    pieces = {name: _cut(name, x, mesh) for name, x in work.run.networks.shapes.items()}
    used = _used(work)
    gathered = sum(width * math.prod(x.shape) for name, x in used.items() if pieces[name] > 1)
    if gathered:
        yield Collective("all-gather", "fsdp", cut, 1, work.gathers * gathered)
    if work.what == "denoise":
        return
    trained = _trained(work)
    scattered = sum(4 * math.prod(x.shape) for name, x in trained.items() if pieces[name] > 1)
    whole = sum(4 * math.prod(x.shape) for name, x in trained.items() if pieces[name] == 1)
    if scattered:
        yield Collective("reduce-scatter", "fsdp", cut, 1, scattered)
        if data > 1:
            yield Collective("all-reduce", "data", data, cut, scattered / cut)
    if whole and data * cut > 1:
        yield Collective("all-reduce", "data and fsdp", data * cut, 1, whole)


def _used(work: Work) -> Shapes:
    """Parameters that a step or a call computes with."""
    if work.what == "step":
        return work.run.networks.shapes
    name = denoise.denoiser_of(work.run)
    return {path: x for path, x in work.run.networks.shapes.items() if path.startswith(f"{name}.")}


def _trained(work: Work) -> Shapes:
    return {name: work.run.networks.shapes[name] for name in work.run.networks.multipliers}


def _held(work: Work, mesh: Mapping[str, int]) -> int:
    """Bytes of the state, or of a denoiser's parameters, on one device."""
    if work.what == "denoise":
        return _bytes(_used(work), mesh, jnp.dtype(work.run.config.dtype).itemsize)
    frozen = work.run.networks.shapes_of(work.run.networks.frozen)
    abstract = AbstractMesh(tuple(mesh[axis] for axis in AXES), AXES)
    bare = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), work.run.state)
    state = bytes_on_device(placed(bare, state_shardings(bare, abstract)))
    return state + sum(_bytes({name: x}, mesh, np.dtype(x.dtype).itemsize) for name, x in frozen.items())


def _bytes(shapes: Shapes, mesh: Mapping[str, int], width: int) -> int:
    """Of arrays on one device, `width` bytes a number where they are no counters."""
    return sum(
        math.prod(x.shape) // _cut(name, x, mesh) * (width if is_floating(x) else x.dtype.itemsize)
        for name, x in shapes.items()
    )


def _cut(name: str, x: jax.ShapeDtypeStruct, mesh: Mapping[str, int]) -> int:
    """Into how many pieces the rules cut a parameter."""
    spec = partition(x.shape, parameter_axes(name, len(x.shape)), mesh)
    return math.prod(mesh[axis] for axes in spec if axes for axis in ([axes] if isinstance(axes, str) else axes))
