"""The training state: all that a step changes, as one dictionary of arrays.

    step      int32, updates attempted
    skipped   int32, those of them that were not finite and changed nothing
    params    parameters of the networks that are trained, by name (networks.py); frozen ones among them too
    average   of those that are trained: their moving average, which is what sampling uses
    moments   the optimizer's
    sums      what is added up between two lines of the log

It is made where it lies: no device ever holds all of a sharded state. Random numbers are no part of it, since they
derive from the seed and the step.
"""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, Mesh, NamedSharding

from gp_jax.parallel.sharding import parameter_axes, partition

BUCKETS = 10  # of the diffusion time, for which losses are told apart

State = dict[str, Any]


def make_state(
    params: Mapping[str, jax.Array],
    trained: Collection[str],
    optimizer: optax.GradientTransformation,
    mesh: Mesh | None,
) -> State:
    """The state at step 0.

    Args:
      params: of all networks of which anything is trained, in their places on the mesh.
      trained: names of the parameters that the optimizer moves.
      optimizer: for these.
      mesh: the mesh of `make_mesh`; None for one device.
    """

    def rest(params):
        state = _fresh(params, trained, optimizer)
        del state["params"]
        return state

    shardings = None if mesh is None else state_shardings(jax.eval_shape(rest, params), mesh)
    return {"params": dict(params), **jax.jit(rest, out_shardings=shardings)(params)}


def abstract_state(
    shapes: Mapping[str, jax.ShapeDtypeStruct],
    trained: Collection[str],
    optimizer: optax.GradientTransformation,
    mesh: Mesh | None,
) -> State:
    """What `make_state` gives for parameters of these shapes, as `ShapeDtypeStruct`s, with shardings of a mesh."""
    state = jax.eval_shape(lambda params: _fresh(params, trained, optimizer), dict(shapes))
    return state if mesh is None else placed(state, state_shardings(state, mesh))


def placed(shapes: Any, shardings: Any) -> Any:
    """`ShapeDtypeStruct`s with these shardings, for a tree of anything with shape and type."""
    return jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, shardings)


def no_sums() -> dict[str, jax.Array]:
    """Nothing added up yet."""
    numbers = {name: jnp.float32(0) for name in ("steps", "loss", "grad_norm")}
    return numbers | {name: jnp.zeros(BUCKETS) for name in ("bucket_loss", "bucket_count")}


def state_shardings(state: State, mesh: Mesh | AbstractMesh) -> Any:
    """Where each array lies, by the parameter that it belongs to: its moments and its average lie beside it.

    Args:
      state: or a part of it, of anything with `.shape`.
      mesh: the mesh of `make_mesh`.
    """

    def place(path: tuple, leaf: Any) -> NamedSharding:
        name = str(getattr(path[-1], "key", ""))
        return NamedSharding(mesh, partition(leaf.shape, parameter_axes(name, len(leaf.shape)), mesh.shape))

    return jax.tree_util.tree_map_with_path(place, state)


def _fresh(params: Mapping[str, Any], trained: Collection[str], optimizer: optax.GradientTransformation) -> State:
    moved = {name: params[name] for name in trained}
    return {
        "step": jnp.int32(0),
        "skipped": jnp.int32(0),
        "params": dict(params),
        "average": jax.tree.map(jnp.copy, moved),
        "moments": optimizer.init(moved),
        "sums": no_sums(),
    }
