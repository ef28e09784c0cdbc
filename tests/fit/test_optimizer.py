"""Rates follow their schedule, and each parameter its multiplier; kernels decay and nothing else does."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from gp_jax.checkpoint import parameters
from gp_jax.fit.optimizer import SCHEDULES, decays, learning_rate, make_optimizer
from gp_jax.models.clip import TextConfig, TextTower
from tests import small_networks

FIELDS = {
    "rate": 0.1,
    "schedule": "constant",
    "warmup": 4,
    "final": 0.1,
    "b1": 0.9,
    "b2": 0.99,
    "weight_decay": 0.5,
    "clip_norm": 1.0,
}


@pytest.mark.parametrize("name, end", [("constant", 0.1), ("linear", 0.01), ("cosine", 0.01)])
def test_rates_rise_to_their_peak_and_fall_to_their_end(name, end):
    rate = learning_rate(ConfigDict(FIELDS | {"schedule": name}), 20)
    rates = [float(rate(step)) for step in range(21)]
    assert rates[:5] == pytest.approx([0, 0.025, 0.05, 0.075, 0.1]) and rates[20] == pytest.approx(end, rel=1e-3)
    assert all(a >= b for a, b in itertools.pairwise(rates[4:])) and name in SCHEDULES


def test_decay_is_for_kernels_and_multipliers_are_for_everything():
    optimizer = make_optimizer(
        ConfigDict(FIELDS | {"warmup": 0}), 10, {"a.kernel": 1.0, "b.kernel": 0.5, "b.bias": 0.5}
    )
    params = {"a.kernel": jnp.ones((2, 2)), "b.kernel": jnp.ones((2, 2)), "b.bias": jnp.ones(2)}
    nothing = {name: jnp.zeros_like(x) for name, x in params.items()}
    updates, _ = optimizer.update(nothing, optimizer.init(params), params, norm=jnp.float32(0))
    assert float(updates["a.kernel"][0, 0]) == pytest.approx(-0.1 * 0.5)
    assert float(updates["b.kernel"][0, 0]) == pytest.approx(-0.1 * 0.5 * 0.5) and not updates["b.bias"].any()


@pytest.mark.parametrize("size", [1e-3, 1.0], ids=["within the norm", "clipped"])
def test_the_formula_is_that_of_the_chain_of_transformations(size):
    """Six steps, through the warm-up; each part of the state too. Clipping multiplies once where Optax does twice."""
    multipliers = {"a.kernel": 1.0, "b.kernel": 0.5, "b.bias": 0.25}
    config = ConfigDict(FIELDS | {"schedule": "cosine"})
    chain = optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate(config, 10),
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
            mask=lambda params: {name: decays(name) for name in params},
        ),
        optax.stateless(lambda updates, params: {name: multipliers[name] * x for name, x in updates.items()}),
    )
    keys = jax.random.split(jax.random.key(0), 7)
    first, *rest = [
        {name: jax.random.normal(jax.random.fold_in(key, i), (5, 3)) for i, name in enumerate(multipliers)}
        for key in keys
    ]

    def run(optimizer, norm):
        params, state = first, optimizer.init(first)
        for gradient in rest:
            gradient = {name: size * x for name, x in gradient.items()}
            updates, state = optimizer.update(gradient, state, params, **norm(gradient))
            params = optax.apply_updates(params, updates)
        return params, state

    ours = run(make_optimizer(config, 10, multipliers), lambda gradient: {"norm": optax.tree.norm(gradient)})
    theirs = run(chain, lambda gradient: {})
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=5e-7), ours, theirs)


# Of each network the last parts of the names of its parameters that do not decay.
TEXT = TextConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
MOTION = dataclasses.replace(small_networks.UNET, motion_modules=True, block_out_channels=(32,))
NETWORKS = {**small_networks.NETWORKS, "text": (TextTower, TEXT), "motion": (small_networks.UNet, MOTION)}
KEPT = {
    "vae": {"bias", "scale"},
    "unet": {"bias", "scale", "relative_bias"},
    "interpolation_unet": {"bias", "scale", "relative_bias"},
    "motion": {"bias", "scale", "relative_bias"},
    "clip": {"bias", "scale", "class_embedding", "position_embedding"},
    "text": {"bias", "scale", "embedding", "position_embedding"},
    "global_tokens": {"bias", "scale", "queries"},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_decay_takes_the_matrices_of_every_network(name):
    shapes = parameters.shapes(*NETWORKS[name])
    by_last_name = {
        decay: {key.rpartition(".")[2] for key in shapes if decays(key) == decay} for decay in (True, False)
    }
    assert by_last_name == {True: {"kernel"}, False: KEPT[name]}
    assert all(len(shape.shape) > 1 for key, shape in shapes.items() if decays(key))


def test_moments_that_were_saved_when_tables_decayed_still_fit():
    params = {"a.kernel": jnp.ones((2, 2)), "a.relative_bias": jnp.ones((3, 2)), "a.bias": jnp.ones(2)}
    ours = make_optimizer(ConfigDict(FIELDS), 10, dict.fromkeys(params, 1.0)).init(params)
    earlier = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(
            learning_rate(ConfigDict(FIELDS), 10), mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params)
        ),
        optax.stateless(lambda updates, params: updates),
    ).init(params)
    assert jax.tree.structure(ours) == jax.tree.structure(earlier)
