"""Queries in blocks, one after the other: logits of one block at a time are in memory, and in a CPU's cache.

Heads come first, so that a block is a plain matrix product. On two busy cores, float32, 1,024 and 4,096 tokens took
0.11 to 0.69 of the einsum's time (tools/bench_attention.py). A backward pass computes each block again instead of
keeping all logits.
"""

import math

import jax
import jax.numpy as jnp

from gp_jax.models.attention.einsum import weigh
from gp_jax.parallel import is_alone

Array = jax.Array

BLOCK = 256  # queries
LEAST_QUERIES, LEAST_KEYS = 128, 64  # from which it is faster than the einsum


def takes(query: Array, key: Array, bias: Array | None, mask: Array | None) -> bool:
    """A mesh may cut the queries, and blocks one after the other would all lie on one device then."""
    return is_alone()


def pays(query: Array, key: Array, bias: Array | None, mask: Array | None) -> bool:
    """See `Kernel`."""
    return query.shape[2] >= LEAST_QUERIES and key.shape[2] >= LEAST_KEYS


def run(query: Array, key: Array, value: Array, bias: Array | None, mask: Array | None) -> Array:
    """Arguments and result as for `attend`."""
    batch, groups, queries, heads, width = query.shape
    query, key, value = (x.swapaxes(2, 3) for x in (query / math.sqrt(width), key, value))  # [B, N, H, S, D]
    size = min(BLOCK, queries)
    count = -(-queries // size)

    def cut(x: Array) -> Array:
        """[..., Q, D] -> [count, ..., size, D], zeros at the end; what is the same for all queries is repeated."""
        x = jnp.broadcast_to(x, (*x.shape[:-2], queries, x.shape[-1]))
        x = jnp.pad(x, [*[(0, 0)] * (x.ndim - 2), (0, count * size - queries), (0, 0)])
        return jnp.moveaxis(x.reshape(*x.shape[:-2], count, size, x.shape[-1]), -3, 0)

    @jax.checkpoint
    def block(given: tuple[Array, Array | None, Array | None]) -> Array:
        query, bias, mask = given
        logits = jnp.einsum("bnhqd,bnhkd->bnhqk", query, key, preferred_element_type=jnp.float32)
        return jnp.einsum("bnhqk,bnhkd->bnhqd", weigh(logits, bias, mask).astype(value.dtype), value)

    if count == 1:
        return block((query, bias, mask)).swapaxes(2, 3)
    made = jax.lax.map(block, (cut(query), *(None if x is None else cut(x) for x in (bias, mask))))
    made = jnp.moveaxis(made, 0, -3).reshape(batch, groups, heads, count * size, -1)
    return made[:, :, :, :queries].swapaxes(2, 3)
