"""The update by itself, of a dictionary that belongs to no network."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gp_jax.fit.state import make_state
from gp_jax.fit.step import Objective, compile_step, make_step
from gp_jax.parallel import make_mesh

PARAMS = {"a.kernel": np.ones((3, 2), np.float32), "a.bias": np.zeros(2, np.float32), "fixed": np.float32(2)}
TRAINED = ("a.kernel", "a.bias")
BATCH = {"x": np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)}


def draw(key, batch):
    return {"noise": jax.random.normal(key, batch["x"].shape)}


def losses(params, batch, draws):
    made = (batch["x"] + draws["noise"]) @ params["a.kernel"] + params["a.bias"]
    return ((params["fixed"] * made - batch["x"][:, :2]) ** 2).mean(axis=1)


def after(steps, batch=BATCH, **options):
    """The state, and the last summary, after so many steps of plain descent."""
    mesh = make_mesh("data=1", jax.devices()[:1])
    optimizer = optax.sgd(0.1)
    step = make_step(Objective(draw, losses), TRAINED, optimizer, **{"seed": 3, "ema": 0.5} | options)
    state = make_state(jax.device_put(PARAMS), TRAINED, optimizer, mesh)
    program = compile_step(step, state, {}, batch, mesh)
    for _ in range(steps):
        state, summary = program(state, {}, batch)
    return jax.device_get((state, summary))


def test_a_step_follows_the_gradient_of_the_mean():
    draws = draw(jax.random.fold_in(jax.random.key(3), 0), BATCH)
    mean = lambda params: losses(params, BATCH, draws).mean()  # noqa: E731
    value, gradient = jax.value_and_grad(mean)({name: jnp.asarray(x) for name, x in PARAMS.items()})
    state, summary = after(1)
    assert summary["loss"] == pytest.approx(float(value), rel=1e-6)
    for name in TRAINED:
        np.testing.assert_allclose(state["params"][name], PARAMS[name] - 0.1 * gradient[name], rtol=1e-6)
        assert (state["average"][name] != state["params"][name]).any()
    assert state["params"]["fixed"] == PARAMS["fixed"] and "fixed" not in state["average"]


def test_parts_of_a_batch_get_the_draws_of_the_whole():
    (whole, summary), (parts, same) = after(2), after(2, microbatches=4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), (whole, summary["loss"]), (parts, same["loss"])
    )


def test_a_step_that_is_not_finite_changes_nothing_but_two_counters():
    state, summary = after(1, {"x": np.full_like(BATCH["x"], np.nan)})
    assert (state["step"], state["skipped"], summary["skipped"]) == (1, 1, 1)
    for name in TRAINED:
        np.testing.assert_array_equal(state["params"][name], PARAMS[name])
        np.testing.assert_array_equal(state["average"][name], PARAMS[name])
