"""EST modules: the identity when fresh, alive when not, and blind or not blind where they should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gp_jax.checkpoint import parameters
from gp_jax.models.est import SpaceTimeTransformer, TemporalConvolution


def perturb(module, scale=0.3):
    """Moves every parameter off its initial value, zero-initialised ones above all."""
    rng = np.random.default_rng(9)
    moved = {
        name: x + scale * rng.standard_normal(x.shape, np.float32) for name, x in parameters.flatten(module).items()
    }
    parameters.load_into(module, moved)
    return module


def modules():
    positions = jnp.broadcast_to(jnp.arange(4.0), (1, 4))
    options = {"window": (2, 3, 2), "shifted": True, "rngs": nnx.Rngs(0)}
    transformer = SpaceTimeTransformer(8, 2, **options)
    temporal_only = SpaceTimeTransformer(8, 2, **options | {"window": None})
    return {
        "convolution": (TemporalConvolution(8, groups=2, rngs=nnx.Rngs(0)), ()),
        "transformer": (transformer, (positions,)),
        "temporal only": (temporal_only, (positions,)),
    }


X = jax.random.normal(jax.random.key(0), (1, 4, 5, 3, 8))


@pytest.mark.parametrize("name", modules())
def test_a_fresh_module_is_the_identity(name):
    module, arguments = modules()[name]
    np.testing.assert_array_equal(module(X, *arguments), X)


@pytest.mark.parametrize("name", modules())
def test_a_trained_module_carries_information_between_frames(name):
    module, arguments = modules()[name]
    module = perturb(module)
    changed = X.at[0, 1, 2, 1, 0].add(1.0)
    difference = jnp.abs(module(changed, *arguments) - module(X, *arguments)).max(axis=(0, 2, 3, 4))
    assert (difference[:3] > 1e-4).all()


def test_only_windows_carry_information_between_positions_of_other_frames():
    changed = X.at[0, 1, 2, 1, 0].add(1.0)
    reach = {}
    for name in ("transformer", "temporal only"):
        module, arguments = modules()[name]
        module = perturb(module)
        difference = jnp.abs(module(changed, *arguments) - module(X, *arguments)).max(axis=(0, 1, 4))
        reach[name] = int((difference > 1e-6).sum())
    assert reach["temporal only"] == 1
    assert reach["transformer"] > 1


def test_temporal_attention_knows_the_order_of_frames():
    module, _ = modules()["temporal only"]
    module = perturb(module)
    forwards, backwards = jnp.arange(4.0)[None], jnp.arange(4.0)[None, ::-1]
    assert not np.allclose(module(X, forwards), module(X, backwards), atol=1e-4)
    # Frames and positions turned round together are the same clip, seen from behind.
    np.testing.assert_allclose(module(X[:, ::-1], backwards), module(X, forwards)[:, ::-1], atol=1e-5)
