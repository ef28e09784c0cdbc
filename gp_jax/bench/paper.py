"""A full-size step on machines that nobody here has: counted from the traced program and the rules of sharding.

    work = work_of(config, "step")                                  traced once, for one segment; nothing is compiled
    rows = [predict(work, CHIPS["h100"], mesh, segments=8, share=0.25) for mesh in meshes(256)]
    best(rows).seconds, best(rows).efficiency

What is counted, for each device:

  FLOPs       of the traced program's matrix products and convolutions, what remat computes again among them, and what
              several devices compute alike because it cannot be cut
  memory      the state where the rules put it, gradients, what the forward pass leaves for the backward pass (the
              residuals of its `jax.vjp`, by shape, cut as the work is), and the parameters once more, as `tensor` cuts
              them, in the type of the computation, since XLA keeps what it has gathered
  traffic     parameters that `fsdp` cuts are gathered in the type of the computation: once, and where remat computes
              anything again, which XLA keeps apart, a second time; gradients are scattered back in float32, and what
              `data` and `context` copy is summed. What `tensor` and `context` make of activations is followed from
              operation to operation (layouts.py); where they do not cut, none travels
  seconds     FLOPs at a share of the chip's peak, the update at the speed of its memory, collectives at that of its
              links (chips.py), one after the other: nothing is taken to overlap

A device has the same number of segments on every mesh, so that where `tensor` and `context` cut segments in four, four
devices have four times as many together. Fewer than one each is for clips that are waited for.

Checked against what XLA compiles of one level of the network for eight CPU devices (tests/bench/test_paper.py). Of a
call cut by `tensor`, `context` or both it sends what is predicted: the same bytes of gathers, sums and permutations,
and 0.95 to 1.01 of all-to-alls. Of a step, sums of data=8 are predicted to 0.02 %; of fsdp=8 and data=2,fsdp=4 XLA
sums 0.87 and 1.14 of what is predicted, and gathers 0.80 and 0.75 of it, since where tokens are few it sends some of
them in the place of parameters. Of a step of data=4,tensor=2 and of data=4,context=2 it exchanges 1.00 and 1.11 of
what is predicted, permutes 1.14 and 1.17, and sums 0.75 of the latter; what it gathers is not told well: 2.3 of
little with `context`, and with `tensor` 0.19 GB in the shapes of parameters, which it updates in pieces though they
lie whole.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh
from ml_collections import ConfigDict

from gp_jax.bench import denoise, step
from gp_jax.bench.case import model_flops, prepare_case
from gp_jax.bench.chips import Chip, Collective, seconds
from gp_jax.bench.layouts import ROWS, Followed, Layout, follow, layout_of
from gp_jax.bench.measure import flops_of_traced
from gp_jax.checkpoint.tensors import is_floating
from gp_jax.fit.state import placed, state_shardings
from gp_jax.fit.step import batch_shardings
from gp_jax.parallel import AXES, parameter_shardings, use_mesh
from gp_jax.parallel.absent import absent_devices
from gp_jax.parallel.sharding import parameter_axes, partition
from gp_jax.seeds import random_key
from gp_jax.training.budget import batch_shapes, bytes_on_device
from gp_jax.training.setup import Run

Shapes = Mapping[str, jax.ShapeDtypeStruct]
_TRACED = {"data": 2, "tensor": 2, "context": 2}  # the least mesh that cuts whatever the rules cut
MOST = {"tensor": 8, "context": 16}  # pieces of a segment that are tried


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
      program, layouts: a `Jaxpr` of two segments on a mesh of 2 x 2 x 2, and how its inputs lie: see layouts.py.
      followed, laid_out: what was counted for a mesh, so that others and other chips need not count it again.
    """

    what: str
    run: Run
    flops: float
    model_flops: float
    residuals: float
    gathers: int
    program: Any
    layouts: Sequence[Layout]
    followed: dict[tuple[int, int], Followed] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    laid_out: dict[tuple[int, ...], tuple[float, float, float, tuple[Collective, ...]]] = dataclasses.field(
        default_factory=dict, compare=False, repr=False
    )

    def on(self, mesh: Mapping[str, int]) -> Followed:
        """What one device does of a segment, and sends of activations."""
        key = mesh["tensor"], mesh["context"]
        if key not in self.followed:
            sizes = {ROWS: _TRACED[ROWS], "tensor": key[0], "context": key[1]}
            self.followed[key] = follow(self.program, self.layouts, sizes)
        return self.followed[key]


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Of one device, for one step or call.

    Attributes:
      chip, mesh, segments: on what, and how many segments each device has.
      memory: bytes, about.
      flops: of the program.
      collectives: all of them.
      alone: seconds that a lone device would compute for its segments.
      computing, updating, near, far: seconds.
    """

    chip: Chip
    mesh: dict[str, int]
    segments: Fraction | int
    memory: float
    flops: float
    collectives: tuple[Collective, ...]
    alone: float
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
        return (self.alone + self.updating) / self.seconds

    def traffic(self, kind: str) -> float:
        """Bytes that a device sends in collectives of a kind."""
        return sum(sum(x.sent(self.chip.island)) for x in self.collectives if x.kind == kind)


def work_of(config: ConfigDict, what: str) -> Work:
    """Traces what a configuration does for one segment.

    Args:
      config: see training/config.py.
      what: "step" or "denoise".

    Raises:
      UserError: this process has used jax before, with fewer CPU devices than 8.
    """
    devices = absent_devices(["8"])[0]
    run = prepare_case(config, devices[:1], segments=1)
    trace = step.trace_step if what == "step" else denoise.trace_denoising
    mesh = ",".join(f"{axis}={size}" for axis, size in _TRACED.items())
    program, layouts = _cut_program(prepare_case(config, devices, segments=1, mesh=mesh, attention="einsum"), what)
    lone, flops = model_flops(config, trace), flops_of_traced(trace(run))
    counted = {"flops": flops, "model_flops": lone, "program": program, "layouts": layouts}
    if what == "denoise":
        return Work(what, run, residuals=0.0, gathers=1, **counted)
    kept = [residuals(prepare_case(config, devices[:1], segments=rows)) for rows in (1, 2)]
    # What a batch of two keeps beyond a batch of one is a segment's; the rest are parameters.
    return Work(what, run, residuals=kept[1] - kept[0], gathers=1 if config.remat == "none" else 2, **counted)


def residuals(run: Run) -> float:
    """Bytes that the forward pass of a batch leaves for the backward pass."""
    loss, shapes = _loss(run)

    def pulled_back(trained: Any, *others: Any) -> Any:
        return jax.vjp(lambda trained: loss(trained, *others), trained)[1]

    leaves = jax.tree.leaves(jax.eval_shape(pulled_back, *shapes))
    return float(sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves))


def _cut_program(run: Run, what: str) -> tuple[Any, list[Layout]]:
    """The program of which is known what a mesh makes of its activations, a step's without the update; and how its
    inputs lie."""
    if what == "denoise":
        shapes, traced = denoise.argument_shapes(run), denoise.trace_denoising(run)
    else:
        loss, (trained, rest, *others) = _loss(run)
        parameters = [placed(x, parameter_shardings(x, run.mesh)) for x in (trained, rest)]
        shapes = *parameters, *(placed(x, batch_shardings(x, run.mesh)) for x in others)
        with use_mesh(run.mesh):
            traced = jax.jit(jax.grad(loss)).trace(*shapes)
    return traced.jaxpr.jaxpr, [layout_of(x.sharding.spec, len(x.shape)) for x in jax.tree.leaves(shapes)]


def _loss(run: Run) -> tuple[Callable[..., jax.Array], tuple[Shapes, Shapes, Shapes, Shapes]]:
    """The mean loss of a batch, and shapes of what it is a function of: trained parameters, others, batch, draws."""
    batch = batch_shapes(run)
    draws = jax.eval_shape(run.objective.draw, jax.eval_shape(lambda: random_key(0)), batch)
    trained = {name: run.networks.shapes[name] for name in run.networks.multipliers}
    rest = {name: x for name, x in run.networks.shapes.items() if name not in trained}

    def loss(trained: Any, rest: Any, batch: Any, draws: Any) -> jax.Array:
        return run.objective.losses(run.networks.bind({**rest, **trained}), batch, draws).mean()

    return loss, (trained, rest, batch, draws)


def meshes(devices: int, segments: Fraction | int = 1) -> Iterator[dict[str, int]]:
    """All, with whole segments for each part of the batch, that cut none in more than `MOST` pieces."""
    for tensor, context in itertools.product(_divisors(devices), repeat=2):
        whole = segments * tensor * context
        if tensor > MOST["tensor"] or context > MOST["context"] or devices % (tensor * context) or whole % 1:
            continue
        rest = devices // (tensor * context)
        for cut in _divisors(rest):
            yield {"data": rest // cut, "fsdp": cut, "tensor": tensor, "context": context}


def _divisors(number: int) -> list[int]:
    return [size for size in range(1, number + 1) if number % size == 0]


def best(rows: Sequence[Prediction]) -> Prediction | None:
    """The fastest that fits; of equals the one that cuts least."""
    there = [row for row in rows if row.fits]
    return min(there, key=lambda row: (row.seconds, -row.mesh["data"])) if there else None


def predict(work: Work, chip: Chip, mesh: Mapping[str, int], segments: Fraction | int, share: float) -> Prediction:
    """What a device does, holds and sends.

    Args:
      work: of one segment.
      chip: what the devices are.
      mesh: sizes of all axes.
      segments: of each device, in whole ones for `tensor` times `context` devices.
      share: of the chip's peak that is reached while it computes.
    """
    key = tuple(mesh[axis] for axis in AXES)
    if key not in work.laid_out:
        work.laid_out[key] = _lay_out(work, mesh)
    held, gradients, gathered, collectives = work.laid_out[key]
    rows = float(segments * mesh["tensor"] * mesh["context"])  # that a device has a part of
    flops, moved = _of_row(work, mesh)
    collectives = (*collectives, *(dataclasses.replace(one, bytes=rows * one.bytes) for one in moved))
    times = [seconds(chip, one) for one in collectives]
    batch = sum(math.prod(x.shape) * x.dtype.itemsize for x in batch_shapes(work.run).values())
    return Prediction(
        chip=chip,
        mesh=dict(mesh),
        segments=segments,
        memory=held + gradients + gathered + rows * (work.residuals * flops / work.flops + batch),
        flops=rows * flops,
        collectives=collectives,
        alone=float(segments) * work.flops / (share * chip.peak),
        computing=rows * flops / (share * chip.peak),
        updating=2 * held / chip.speed if gradients else 0.0,
        near=sum(near for near, _ in times),
        far=sum(far for _, far in times),
    )


def _of_row(work: Work, mesh: Mapping[str, int]) -> tuple[float, list[Collective]]:
    """FLOPs that a device spends on a segment that it has a part of, and what travels of the segment's activations."""
    if mesh["tensor"] * mesh["context"] == 1:
        return work.flops, []
    followed, strides = work.on(mesh), {"tensor": mesh["context"], "context": 1}
    moved = followed.moved.items()
    return followed.flops, [Collective(kind, axis, mesh[axis], strides[axis], size) for (kind, axis), size in moved]


def _lay_out(work: Work, mesh: Mapping[str, int]) -> tuple[float, float, float, tuple[Collective, ...]]:
    """Bytes of state, of gradients, of what is gathered; and the collectives of parameters."""
    width = jnp.dtype(work.run.config.dtype).itemsize
    gathered = _bytes(_used(work), {**mesh, "fsdp": 1}, width) if mesh["fsdp"] > 1 else 0
    gradients = _bytes(_trained(work), mesh, 4) if work.what == "step" else 0
    return _held(work, mesh), gradients, gathered, tuple(traffic(work, mesh))


def traffic(work: Work, mesh: Mapping[str, int]) -> Iterator[Collective]:
    """The collectives of a step or a call that parameters make, those of all together."""
    data, cut, context = mesh["data"], mesh["fsdp"], mesh["context"]
    inner = mesh["tensor"] * context
    width = jnp.dtype(work.run.config.dtype).itemsize
    unsharded = {**mesh, "fsdp": 1}

    def is_cut(name: str, x: jax.ShapeDtypeStruct) -> bool:
        return _cut(name, x, mesh) > _cut(name, x, unsharded)

    if gathered := _bytes({name: x for name, x in _used(work).items() if is_cut(name, x)}, unsharded, width):
        yield Collective("all-gather", "fsdp", cut, inner, work.gathers * gathered)
    if work.what == "denoise":
        return
    trained = _trained(work)
    scattered = _bytes({name: x for name, x in trained.items() if is_cut(name, x)}, unsharded, 4)
    whole = _bytes({name: x for name, x in trained.items() if not is_cut(name, x)}, unsharded, 4)
    if scattered:
        yield Collective("reduce-scatter", "fsdp", cut, inner, scattered)
        if data > 1:
            yield Collective("all-reduce", "data", data, cut * inner, scattered / cut)
    if whole and data * cut > 1:
        yield Collective("all-reduce", "data and fsdp", data * cut, inner, whole)
    if context > 1:
        yield Collective("all-reduce", "context", context, 1, scattered / cut + whole)


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
