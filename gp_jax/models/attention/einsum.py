"""The reference: two einsums and a softmax in float32, all logits in memory. Any mesh may cut it."""

import math

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

# Finite, so that a row which may see nothing (a padded query) stays a number.
MASKED = -1e9


def run(query: Array, key: Array, value: Array, bias: Array | None, mask: Array | None) -> Array:
    """Arguments and result as for `attend`."""
    logits = jnp.einsum("bnqhd,bnkhd->bnhqk", query, key, preferred_element_type=jnp.float32)
    weights = weigh(logits / math.sqrt(query.shape[-1]), bias, mask).astype(value.dtype)
    return jnp.einsum("bnhqk,bnkhd->bnqhd", weights, value)


def mask_of(regions: np.ndarray) -> Array:
    """Regions as a mask: [N, S] -> bool [1, N, 1, S, S]."""
    return jnp.asarray(regions[None, :, None, :, None] == regions[None, :, None, None, :])


def weigh(logits: Array, bias: Array | None, mask: Array | None) -> Array:
    """The share of each key: [..., Q, K], of scaled logits."""
    if bias is not None:
        logits = logits + bias
    if mask is not None:
        logits = jnp.where(mask, logits, MASKED)
    return jax.nn.softmax(logits, axis=-1)
