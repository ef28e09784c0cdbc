"""Logical axes: models name what an axis means, rules say where on the mesh it lives.

A network writes `constrain(x, "batch", "window", None, "heads", None)` and knows no mesh. Under `use_mesh(mesh)` the
names become mesh axes by `RULES`; without a mesh the call does nothing. Parameters are placed by the table
`PARAMETER_AXES`, from the end of their dotted path.

An axis whose size the mesh does not divide stays whole: a small feature map then simply is not cut.
"""

import contextlib
import contextvars
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

ANY = PartitionSpec.UNCONSTRAINED

RULES: dict[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),
    "frame": ("context",),
    "window": ("context",),
    "heads": ("tensor",),
    "hidden": ("tensor",),
    "embed": ("fsdp",),
}

# From the end of a parameter's path to the logical axes of its last dimensions. The first match counts.
PARAMETER_AXES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"(query|key|value|global_key|global_value)\.kernel", ("embed", "heads")),
    (r"output\.kernel", ("heads", "embed")),
    (r"expand\.kernel", ("embed", "hidden")),
    (r"contract\.kernel", ("hidden", "embed")),
    (r"(convolution|conv\w*|shortcut)\.kernel", ("embed", "hidden")),
    (r"kernel", ("embed", None)),
    (r"embedding", (None, "embed")),
)

_rules: contextvars.ContextVar[Mapping[str, tuple[str, ...]]] = contextvars.ContextVar("rules", default=RULES)


@contextlib.contextmanager
def use_mesh(mesh: Mesh | None, rules: Mapping[str, tuple[str, ...]] = RULES) -> Iterator[None]:
    """Within it `constrain` speaks of `mesh`. None: a single device, nothing to say."""
    token = _rules.set(rules)
    try:
        with jax.set_mesh(mesh) if mesh is not None else contextlib.nullcontext():
            yield
    finally:
        _rules.reset(token)


def constrain(x: jax.Array, *axes: Any) -> jax.Array:
    """Says what each axis of `x` means; the mesh in force decides where the pieces lie.

    Args:
      x: any array with `len(axes)` dimensions.
      *axes: a logical name per dimension, None for one that stays whole, `ANY` for one that is left to XLA.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    return jax.lax.with_sharding_constraint(x, partition_here(x.shape, axes))


def partition_here(shape: tuple[int, ...], axes: tuple[Any, ...]) -> PartitionSpec:
    """`partition` over the mesh that is in force, by the rules that are."""
    return partition(shape, axes, jax.sharding.get_abstract_mesh().shape, _rules.get())


def partition(
    shape: tuple[int, ...],
    axes: tuple[Any, ...],
    mesh_shape: Mapping[str, int],
    rules: Mapping[str, tuple[str, ...]] = RULES,
) -> PartitionSpec:
    """The partition of an array: per dimension the mesh axes of its logical name that divide it and are not taken
    yet."""
    taken, spec = set(), []
    for size, axis in zip(shape, axes, strict=True):
        chosen = []
        for name in rules.get(axis, ()):
            whole = math.prod(mesh_shape[n] for n in [*chosen, name])
            if name not in taken and mesh_shape[name] > 1 and size % whole == 0:
                chosen.append(name)
        taken.update(chosen)
        spec.append(ANY if axis is ANY else tuple(chosen) or None)
    return PartitionSpec(*spec)


def parameter_shardings(
    shapes: Mapping[str, jax.ShapeDtypeStruct], mesh: Mesh, rules: Mapping[str, tuple[str, ...]] = RULES
) -> dict[str, NamedSharding]:
    """Where each parameter lies.

    Args:
      shapes: parameters by dotted path, anything with `.shape`.
      mesh: the mesh of `make_mesh`.
      rules: logical name to mesh axes.
    """
    return {
        path: NamedSharding(mesh, partition(leaf.shape, parameter_axes(path, len(leaf.shape)), mesh.shape, rules))
        for path, leaf in shapes.items()
    }


def parameter_axes(path: str, rank: int) -> tuple[str | None, ...]:
    """Logical axes of the parameter at `path`; leading dimensions that the table does not name stay whole."""
    for pattern, axes in PARAMETER_AXES:
        if re.search(rf"(^|\.){pattern}$", path) and rank >= len(axes):
            return (None,) * (rank - len(axes)) + axes
    return (None,) * rank
