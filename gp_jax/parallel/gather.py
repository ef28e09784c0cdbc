"""Arrays that lie on several processes, whole on the first.

Each of them takes a collective, which all processes must start in the same order: here it is that of the names. A
dictionary's own order is none, since every process may have built it in another way.
"""

from collections.abc import Iterator, Mapping

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec


def gathered(arrays: Mapping[str, jax.Array]) -> Iterator[tuple[str, np.ndarray | None]]:
    """(name, whole array), in the order of the names; one array in memory at a time.

    All processes must ask for all of them: the first gets the arrays, the others None in their place.
    """
    for name in sorted(arrays):
        x = arrays[name]
        if not (x.is_fully_addressable or x.is_fully_replicated):
            assert isinstance(x.sharding, NamedSharding)
            x = _replicate(x, NamedSharding(x.sharding.mesh, PartitionSpec()))
        yield name, np.asarray(x) if jax.process_index() == 0 else None


def _replicate(x: jax.Array, place: NamedSharding) -> jax.Array:
    return jax.jit(_same, out_shardings=place)(x)


def _same(x: jax.Array) -> jax.Array:
    return x
