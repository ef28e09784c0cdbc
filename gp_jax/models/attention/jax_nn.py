"""`jax.nn.dot_product_attention`: XLA's formulation, and cuDNN's flash attention.

It knows one batch axis, so groups are folded into it. cuDNN takes 16-bit numbers, heads of a multiple of 8 (at most 128
wide, 256 from Hopper on), for a gradient even lengths, a mask of full shape, and a bias that is either, or one for all
groups. So lengths are padded to even ones, and a padded key is kept out by its number, not by a mask.

Regions that do not see each other need no mask either: a few more dimensions of queries and keys tell the region, and
add `APART` to the logits of those that share it. Of two regions and heads of two, say:

    query [q1 q2] of region 0  ->  [q1 q2 c 0]         q . k = q1 k1 + q2 k2 + c     for a key of region 0
    key   [k1 k2] of region 1  ->  [k1 k2 0 1]                 q1 k1 + q2 k2         for one of region 1
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.models.attention.einsum import mask_of

Array = jax.Array

WIDEST = 128  # head, on every GPU that has the kernel
LEAST_QUERIES, LEAST_KEYS = 128, 64  # from which it is faster than the einsum
APART = 128.0  # a key of another region weighs e^-128 of what it would; float32 keeps 1e-5 of a logit beside it


def takes_cudnn(query: Array, key: Array, bias: Array | None, mask: Array | None) -> bool:
    """See `Kernel`."""
    return query.dtype in (jnp.bfloat16, jnp.float16) and query.shape[-1] % 8 == 0 and query.shape[-1] <= WIDEST


def pays_cudnn(query: Array, key: Array, bias: Array | None, mask: Array | None) -> bool:
    """A bias or a mask of full shape costs as much memory as the logits that the kernel spares."""
    is_long = query.shape[2] >= LEAST_QUERIES and key.shape[2] >= LEAST_KEYS
    return is_long and (bias is None or _for_all(bias)) and mask is None and takes_cudnn(query, key, bias, mask)


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


def run_cudnn(
    query: Array, key: Array, value: Array, bias: Array | None, mask: Array | None, scale: float | None = None
) -> Array:
    """Arguments and result as for `attend`; takes what `takes_cudnn` says. `scale`: of the logits, else the usual."""
    batch, groups, queries, heads, _ = query.shape
    keys = key.shape[2]
    padded = [_even(_fold(x), axes=(1,)) for x in (query, key, value)]

    def whole(x: Array) -> Array:
        lead = (1, 1) if x is bias and _for_all(x) else (batch, groups)
        return _even(_fold(jnp.broadcast_to(x, (*lead, heads, queries, keys))), axes=(2, 3))

    logits = [None if x is None else whole(x) for x in (bias, mask)]
    lengths = None
    if keys % 2:
        lengths = jnp.full((batch * groups,), keys, np.int32)
    made = jax.nn.dot_product_attention(
        *padded,
        bias=None if logits[0] is None else logits[0].astype(query.dtype),
        mask=logits[1],
        key_value_seq_lengths=lengths,
        scale=scale,
        implementation="cudnn",
    )
    return made[:, :queries].reshape(query.shape)


def run_cudnn_apart(query: Array, key: Array, value: Array, bias: Array | None, regions: np.ndarray) -> Array:
    """Arguments and result as for `attend`."""
    width, numbers = query.shape[-1], np.unique(regions)
    more = -len(numbers) % 8 + len(numbers)
    if width + more > WIDEST:
        return run_cudnn(query, key, value, bias, mask_of(regions))
    told = np.zeros((1, *regions.shape, 1, more), np.float32)  # [1, N, S, 1, more]
    told[..., : len(numbers)] = regions[None, :, :, None, None] == numbers

    def widened(x: Array, strength: float) -> Array:
        extra = jnp.broadcast_to(jnp.asarray(strength * told, x.dtype), (*x.shape[:-1], more))
        return jnp.concatenate([x, extra], axis=-1)

    wide = widened(query, APART * math.sqrt(width)), widened(key, 1), widened(value, 0)
    return run_cudnn(*wide, bias, None, 1 / math.sqrt(width))[..., :width]


def _fold(x: Array) -> Array:
    """[B, N, ...] -> [B * N, ...]."""
    return x.reshape(-1, *x.shape[2:])


def _for_all(bias: Array) -> bool:
    """Whether it is one bias for all groups."""
    return bias.shape[:2] == (1, 1)


def _even(x: Array, axes: tuple[int, ...]) -> Array:
    """With one more at the end of an axis whose length is odd."""
    return jnp.pad(x, [(0, size % 2 if axis in axes else 0) for axis, size in enumerate(x.shape)])
