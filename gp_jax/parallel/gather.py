"""Arrays that lie on several processes, whole on the first, or on all of them; and arrays that all have, cut.

    whole(program(parameters, frames))         what a program gave, for every process to read
    gathered(parameters)                       one after the other, for the first alone
    from_first({"frames": frames})             what the first has, for all
    placed(array, sharding)                    the pieces of this process; nobody is asked

All but the last take collectives, which all processes must start in the same order; that of `gathered` is the order of
the names, since every process may have built its dictionary in another way.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
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


def from_first(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of process 0, bit for bit; the others give arrays of the same names, shapes and types."""
    # As bytes: jax would narrow numbers of 64 bits, and a sum with the zeros of others forgets the sign of one.
    told = multihost_utils.broadcast_one_to_all({name: _bytes(x) for name, x in arrays.items()})
    return {name: np.asarray(told[name]).view(x.dtype).reshape(x.shape) for name, x in arrays.items()}


def placed(array: np.ndarray, sharding: Sharding) -> jax.Array:
    """An array that every process has, where it belongs.

    `jax.device_put` would first send it around, to compare that of all processes.
    """
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _whole(x: jax.Array) -> jax.Array:
    if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
        return x
    assert isinstance(x.sharding, NamedSharding)
    return _replicate(x, NamedSharding(x.sharding.mesh, PartitionSpec()))


def _replicate(x: jax.Array, place: NamedSharding) -> jax.Array:
    return jax.jit(_same, out_shardings=place)(x)


def _same(x: jax.Array) -> jax.Array:
    return x
