"""Splash attention, the Pallas kernel for TPUs that ships with JAX: no logits in memory, forwards or backwards.

It wants lengths of whole blocks of 128 and heads of whole lanes of 128, so both are padded; a padded key is another
segment, which no query sees. XLA cannot cut a Pallas kernel, so under a mesh each device runs it on its own piece.
Elsewhere than on a TPU it is interpreted, which is for tests.
"""

import functools
import math
from typing import cast

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

from gp_jax.parallel import platform
from gp_jax.parallel.sharding import partition_here

Array = jax.Array

LANES = 128
BLOCKS = (512, 256, 128)  # queries or keys at a time, the largest that divides the padded length
LEAST = 1024  # queries and keys from which logits in memory are what an einsum waits for


def takes(query: Array, key: Array, bias: Array | None, mask: Array | None) -> bool:
    """See `Kernel`."""
    return bias is None and mask is None


def pays(query: Array, key: Array, bias: Array | None, mask: Array | None) -> bool:
    """See `Kernel`."""
    return takes(query, key, bias, mask) and query.shape[2] >= LEAST and key.shape[2] >= LEAST


def run(query: Array, key: Array, value: Array, bias: Array | None, mask: Array | None) -> Array:
    """Arguments and result as for `attend`; takes what `takes` says."""
    queries, keys, width = query.shape[2], key.shape[2], query.shape[-1]
    if jax.sharding.get_abstract_mesh().empty:
        return _run(query, key, value, queries=queries, keys=keys, width=width)
    cut = partition_here(query.shape, ("batch", "window", "window", "heads", None))
    other = jax.P(cut[0], cut[1], None, *cut[3:])
    local = functools.partial(_run, queries=queries, keys=keys, width=width)
    return jax.shard_map(local, in_specs=(cut, other, other), out_specs=cut, check_vma=False)(query, key, value)


def _run(query: Array, key: Array, value: Array, *, queries: int, keys: int, width: int) -> Array:
    batch, groups, count, heads, _ = query.shape
    query, key, value = (_padded(x) for x in (query / math.sqrt(width), key, value))  # [B * N, H, S, D]
    segments = kernels.SegmentIds(
        q=jnp.zeros(query.shape[2], jnp.int32), kv=(jnp.arange(key.shape[2]) >= keys).astype(jnp.int32)
    )
    kernel = _kernel(heads, query.shape[2], key.shape[2], platform() == "cpu")
    made = cast(Array, jax.vmap(functools.partial(kernel, segment_ids=segments))(query, key, value))
    return made[:, :, :count, :width].swapaxes(1, 2).reshape(batch, groups, count, heads, width)


def _padded(x: Array) -> Array:
    """[B, N, S, H, D] -> [B * N, H, S, D], whole blocks and lanes."""
    x = x.reshape(-1, *x.shape[2:]).swapaxes(1, 2)
    return jnp.pad(x, [(0, 0), (0, 0), (0, -x.shape[2] % LANES), (0, -x.shape[3] % LANES)])


def _kernel(heads: int, queries: int, keys: int, interpret: bool) -> kernels.SplashAttentionKernel:
    q, kv = (next(size for size in BLOCKS if length % size == 0) for length in (queries, keys))
    sizes = kernels.BlockSizes(
        block_q=q,
        block_kv=kv,
        block_q_dkv=q,
        block_kv_dkv=kv,
        block_kv_dkv_compute=kv,
        block_q_dq=q,
        block_kv_dq=kv,
    )
    mask = masks.MultiHeadMask([masks.FullMask((queries, keys))] * heads)
    return kernels.make_splash_mha(mask, block_sizes=sizes, head_shards=1, q_seq_shards=1, interpret=interpret)
