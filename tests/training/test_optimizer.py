"""Rates follow their schedule, and each parameter its multiplier; biases do not decay."""

import itertools

import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from gp_jax.training.optimizer import SCHEDULES, learning_rate, make_optimizer

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
    updates, _ = optimizer.update(nothing, optimizer.init(params), params)
    assert float(updates["a.kernel"][0, 0]) == pytest.approx(-0.1 * 0.5)
    assert float(updates["b.kernel"][0, 0]) == pytest.approx(-0.1 * 0.5 * 0.5) and not updates["b.bias"].any()
