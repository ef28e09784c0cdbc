"""One update of a flat dictionary of parameters, as one compiled program.

    step = make_step(objective, trained, optimizer, seed=0, ema=0.999)
    program = compile_step(step, state, frozen, batch_shapes, mesh)       ahead of the loop, once per shape of a batch
    state, summary = program(state, frozen, batch)

Networks are not known here: the objective is two functions, and what they make of parameters is theirs.
The state is donated: its memory becomes the next state's. `summary` holds means since the last line of the log; nothing
leaves the device unless somebody reads it.

A step whose loss or gradient is not finite changes no parameter; it is counted in `state["skipped"]`.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding

from gp_jax.fit.state import BUCKETS, State
from gp_jax.parallel import constrain, use_mesh
from gp_jax.parallel.processes import process_rows
from gp_jax.parallel.sharding import partition
from gp_jax.seeds import random_key

Array = jax.Array
Arrays = Mapping[str, Array]
Step = Callable[[State, Arrays, Arrays], tuple[State, dict[str, Array]]]


@dataclasses.dataclass(frozen=True)
class Objective:
    """What is minimised.

    Attributes:
      draw: (key, batch) -> all that is random, for the whole batch: each [B, ...]. Apart from the losses, so that a
        batch can be cut into parts which get the draws of the whole.
      losses: (parameters, batch, draws) -> [B] float32; the parameters are all there are, by name.
      timesteps: where `draws["t"]`, int32 [B], is a diffusion time: of how many; losses are then told apart by it.
    """

    draw: Callable[[Array, Arrays], Arrays]
    losses: Callable[[Arrays, Arrays, Arrays], Array]
    timesteps: int | None = None


def make_step(
    objective: Objective,
    trained: Collection[str],
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    ema: float,
    microbatches: int = 1,
    log_interval: int = 1,
) -> Step:
    """The update as a pure function `(state, frozen, batch) -> (state, summary)`.

    Args:
      objective: its mean over the batch is minimised.
      trained: names of the parameters that are moved.
      optimizer: for these; it may ask for `norm`, that of the whole gradient.
      seed: of all draws, with the number of the step.
      ema: decay of the moving average, which warms up.
      microbatches: parts of a batch that go through the networks one after the other.
      log_interval: steps after which the sums in the state begin anew.
    """
    update = optax.with_extra_args_support(optimizer).update

    def step(state: State, frozen: Arrays, batch: Arrays) -> tuple[State, dict[str, Array]]:
        old = {name: state["params"][name] for name in trained}

        def loss(moving, batch, draws):
            losses = objective.losses({**frozen, **state["params"], **moving}, batch, draws)
            return losses.mean(), losses

        draws = objective.draw(jax.random.fold_in(random_key(seed), state["step"]), batch)
        compute = _accumulated(jax.value_and_grad(loss, has_aux=True), microbatches)
        (value, losses), gradient = compute(old, batch, draws)
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(value) & jnp.isfinite(norm)

        def move(params, moments, average):
            updates, moments = update(gradient, moments, params, norm=norm)
            params = optax.apply_updates(params, updates)
            decay = average_decay(ema, state["step"])
            return params, moments, jax.tree.map(lambda a, x: decay * a + (1.0 - decay) * x, average, params)

        # Not a choice between new and old for each array: a branch costs less to compile, and no pass over memory.
        kept = old, state["moments"], state["average"]
        params, moments, average = jax.lax.cond(finite, move, lambda *kept: kept, *kept)
        sums = jax.tree.map(lambda x: jnp.where(state["step"] % log_interval == 0, 0.0, x), state["sums"])
        added = {"steps": jnp.float32(1), "loss": value, "grad_norm": norm}
        if objective.timesteps:
            bucket = draws["t"] * BUCKETS // objective.timesteps
            added["bucket_loss"] = jax.ops.segment_sum(losses, bucket, BUCKETS)
            added["bucket_count"] = jax.ops.segment_sum(jnp.ones_like(losses), bucket, BUCKETS)
        state = {
            "step": state["step"] + 1,
            "skipped": state["skipped"] + ~finite,
            "params": {**state["params"], **params},
            "average": average,
            "moments": moments,
            "sums": {name: x + jnp.where(finite, added.get(name, 0.0), 0.0) for name, x in sums.items()},
        }
        return state, _summary(state)

    return step


def compile_step(
    step: Step, state: State, frozen: Mapping[str, Any], batch: Mapping[str, Any], mesh: Mesh
) -> jax.stages.Compiled:
    """Compiles the update for a shape of batches.

    Args:
      step: of `make_step`.
      state, frozen: arrays, or `ShapeDtypeStruct`s with shardings; results lie as they do.
      batch: name -> array or `ShapeDtypeStruct` of the global batch.
      mesh: the mesh of `make_mesh`.
    """
    return lower_step(step, state, frozen, batch, mesh).compile()


def lower_step(
    step: Step, state: State, frozen: Mapping[str, Any], batch: Mapping[str, Any], mesh: Mesh
) -> jax.stages.Lowered:
    """`compile_step` before XLA: arguments as there."""
    places = jax.tree.map(lambda x: x.sharding, state)
    inputs = (places, {name: x.sharding for name, x in frozen.items()}, batch_shardings(batch, mesh))
    replicated = NamedSharding(mesh, jax.sharding.PartitionSpec())
    with use_mesh(mesh):
        jitted = jax.jit(step, in_shardings=inputs, out_shardings=(places, replicated), donate_argnums=0)
        return jitted.lower(state, dict(frozen), dict(batch))


def batch_shardings(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, NamedSharding]:
    """Rows of a batch lie along the data axes of the mesh; anything with `.shape` will do."""
    return {
        name: NamedSharding(mesh, partition(x.shape, ("batch", *[None] * (len(x.shape) - 1)), mesh.shape))
        for name, x in batch.items()
    }


def on_mesh(batch: Mapping[str, np.ndarray], spec: Mapping[str, Any], mesh: Mesh) -> dict[str, Array]:
    """The global batch of the shapes `spec`, of which `batch` are the rows of this process, as `process_rows` says."""
    places = batch_shardings(spec, mesh)

    def place(name: str, local: np.ndarray) -> Array:
        shape = spec[name].shape
        rows = process_rows(places[name], shape[0])

        def piece(index: Any) -> np.ndarray:
            return local[np.searchsorted(rows, np.arange(shape[0])[index[0]])]

        return jax.make_array_from_callback(shape, places[name], piece)

    return {name: place(name, x) for name, x in batch.items()}


def average_decay(limit: float, step: Array) -> Array:
    """The decay of the moving average at an update: it warms up, so that the first parameters are soon forgotten."""
    return jnp.minimum(limit, (1.0 + step) / (10.0 + step))


def _accumulated(compute: Callable, microbatches: int) -> Callable:
    """`compute(params, batch, draws) -> ((mean, losses), gradient)`, in equal parts, of which the means are taken.

    Part i gets rows i, i + M, i + 2 M, ...: then each device finds its share of every part among its own rows.
    """
    if microbatches == 1:
        return compute

    def cut(x: Array) -> Array:
        parts = x.reshape(-1, microbatches, *x.shape[1:]).swapaxes(0, 1)
        return constrain(parts, None, "batch", *[None] * (x.ndim - 1))

    def run(params, batch, draws):
        def add(total, part):
            (value, losses), gradient = compute(params, *part)
            return jax.tree.map(lambda t, x: t + x / microbatches, total, (value, gradient)), losses

        nothing = jnp.float32(0), jax.tree.map(jnp.zeros_like, params)
        (value, gradient), losses = jax.lax.scan(add, nothing, jax.tree.map(cut, (dict(batch), draws)))
        return (value, losses.swapaxes(0, 1).reshape(-1)), gradient

    return run


def _summary(state: State) -> dict[str, Array]:
    sums, steps = state["sums"], jnp.maximum(state["sums"]["steps"], 1.0)
    return {
        "loss": sums["loss"] / steps,
        "grad_norm": sums["grad_norm"] / steps,
        "loss_by_time": sums["bucket_loss"] / sums["bucket_count"],  # NaN where there was none
        "skipped": state["skipped"],
    }
