"""What a policy keeps for the backward pass, and that nothing changes by it but memory."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gp_jax.models.layers import ResidualBlock
from gp_jax.models.remat import REMAT, keeping


@pytest.fixture(scope="module")
def block():
    return ResidualBlock(8, 8, groups=2, epsilon=1e-5, rngs=nnx.Rngs(0), dtype=jnp.bfloat16)


def kept(block, x, policy):
    """Shapes and types of the maps that lie between the passes."""
    residuals = jax.eval_shape(lambda x: jax.vjp(lambda x: keeping(block, policy)(x).sum(), x)[1], x)
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(residuals) if leaf.size == x.size]


def test_products_alone_are_kept_in_the_type_of_the_network(block):
    x = jnp.ones((1, 4, 6, 6, 8), jnp.bfloat16)
    everything, products, nothing = (kept(block, x, name) for name in ("none", "products", "all"))
    assert sum(dtype == jnp.float32 for _, dtype in everything) >= 4, "norms keep what they count in float32"
    assert [dtype for _, dtype in products] == [jnp.bfloat16] * len(products)
    assert size(nothing) < size(products) < size(everything) / 3


def size(leaves):
    return sum(math.prod(shape) * dtype.itemsize for shape, dtype in leaves)


@pytest.mark.parametrize("policy", REMAT)
def test_no_policy_changes_a_gradient(block, policy):
    x = jax.random.normal(jax.random.key(0), (1, 2, 4, 4, 8), jnp.bfloat16)

    def gradient(name):
        return jax.jit(jax.grad(lambda x: keeping(block, name)(x).astype(jnp.float32).std()))(x)

    np.testing.assert_allclose(*(gradient(name).astype(np.float32) for name in (policy, "none")), atol=1e-2)
