"""`jax.nn.dot_product_attention`: XLA's formulation, and cuDNN's flash attention.

It knows one batch axis, so groups are folded into it. cuDNN takes 16-bit numbers, heads of a multiple of 8 (at most 128
wide, 256 from Hopper on), for a gradient even lengths, and a bias of full shape, without which jax has no gradient of
it. So lengths are padded to even ones, and a padded key is kept out by its number, not by a mask.
"""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

WIDEST = 128  # head, on every GPU that has the kernel


def takes_cudnn(query: Array, key: Array, bias: Array | None, mask: Array | None) -> bool:
    """See `Kernel`."""
    return query.dtype in (jnp.bfloat16, jnp.float16) and query.shape[-1] % 8 == 0 and query.shape[-1] <= WIDEST


def pays_cudnn(query: Array, key: Array, bias: Array | None, mask: Array | None) -> bool:
    """A bias of full shape costs as much memory as the logits that the kernel spares."""
    return bias is None and mask is None and takes_cudnn(query, key, bias, mask)


def run_xla(query: Array, key: Array, value: Array, bias: Array | None, mask: Array | None) -> Array:
    """Arguments and result as for `attend`."""
    lead = query.shape[:2]
    logits = [None if x is None else _fold(jnp.broadcast_to(x, (*lead, *x.shape[2:]))) for x in (bias, mask)]
    made = jax.nn.dot_product_attention(
        *map(_fold, (query, key, value)),
        bias=None if logits[0] is None else logits[0].astype(query.dtype),
        mask=logits[1],
        implementation="xla",
    )
    return made.reshape(query.shape)


def run_cudnn(query: Array, key: Array, value: Array, bias: Array | None, mask: Array | None) -> Array:
    """Arguments and result as for `attend`; takes what `takes_cudnn` says."""
    batch, groups, queries, heads, _ = query.shape
    keys = key.shape[2]
    padded = [_even(_fold(x), axes=(1,)) for x in (query, key, value)]
    full = (batch, groups, heads, queries, keys)
    logits = [None if x is None else _even(_fold(jnp.broadcast_to(x, full)), axes=(2, 3)) for x in (bias, mask)]
    lengths = None
    if keys % 2:
        lengths = jnp.full((batch * groups,), keys, np.int32)
    made = jax.nn.dot_product_attention(
        *padded,
        bias=None if logits[0] is None else logits[0].astype(query.dtype),
        mask=logits[1],
        key_value_seq_lengths=lengths,
        implementation="cudnn",
    )
    return made[:, :queries].reshape(query.shape)


def _fold(x: Array) -> Array:
    """[B, N, ...] -> [B * N, ...]."""
    return x.reshape(-1, *x.shape[2:])


def _even(x: Array, axes: tuple[int, ...]) -> Array:
    """With one more at the end of an axis whose length is odd."""
    return jnp.pad(x, [(0, size % 2 if axis in axes else 0) for axis, size in enumerate(x.shape)])
