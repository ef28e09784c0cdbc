"""Arrays that lie on several processes, whole on the first, or on all of them; and arrays that all have, cut.

    whole(program(parameters, frames))         what a program gave, for every process to read
    gathered(parameters)                       one after the other, for the first alone
    placed(array, sharding)                    the pieces of this process; nobody is asked

The first two take collectives, which all processes must start in the same order; that of `gathered` is the order of the
names, since every process may have built its dictionary in another way.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding


def gathered(arrays: Mapping[str, jax.Array]) -> Iterator[tuple[str, np.ndarray | None]]:
    """(name, whole array), in the order of the names; one array in memory at a time.

    All processes must ask for all of them: the first gets the arrays, the others None in their place.
    """
    for name in sorted(arrays):
        x = _whole(arrays[name])
        yield name, np.asarray(x) if jax.process_index() == 0 else None


def whole(tree: Any) -> Any:
    """The same arrays, of which `numpy.asarray` gives the whole on every process; all must ask, in the same order."""
    return jax.tree.map(_whole, tree)


def placed(array: np.ndarray, sharding: Sharding) -> jax.Array:
    """An array that every process has, where it belongs.

    `jax.device_put` would first send it around, to compare that of all processes.
    """
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _whole(x: jax.Array) -> jax.Array:
    if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
        return x
    assert isinstance(x.sharding, NamedSharding)
    return _replicate(x, NamedSharding(x.sharding.mesh, PartitionSpec()))


def _replicate(x: jax.Array, place: NamedSharding) -> jax.Array:
    return jax.jit(_same, out_shardings=place)(x)


def _same(x: jax.Array) -> jax.Array:
    return x
