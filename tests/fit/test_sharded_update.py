"""Cut over a mesh, each device moves its own pieces: the same numbers, and nothing travels but the norm's parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from gp_jax.fit.optimizer import make_optimizer
from gp_jax.fit.state import make_state
from gp_jax.fit.step import Objective, compile_step, make_step, on_mesh
from gp_jax.parallel import make_mesh, parameter_shardings
from gp_jax.training.budget import collectives

SHAPES = {
    "a.query.kernel": (16, 32),
    "a.output.kernel": (32, 16),
    "a.conv_in.kernel": (3, 3, 8, 16),
    "a.query.bias": (32,),
    "b.relative_bias": (7, 3),
}
MULTIPLIERS = dict.fromkeys(SHAPES, 1.0) | {"a.output.kernel": 0.5}
FIELDS = {"rate": 0.1, "schedule": "linear", "warmup": 1, "final": 0.1, "b1": 0.9, "b2": 0.99, "weight_decay": 0.1}
RNG = np.random.default_rng(0)
PARAMS = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
BATCH = {"x": np.linspace(1, 2, 8, dtype=np.float32)}


def losses(params, batch, draws):
    """Its gradient needs nothing from other devices but the mean of the batch."""
    return batch["x"] * sum(jnp.sum(jnp.sin(x)) for x in params.values())


def trained(mesh, devices, steps=3):
    """(the state after some steps, the second of which is not finite; the text of the program)"""
    mesh = make_mesh(mesh, jax.devices()[:devices])
    optimizer = make_optimizer(ConfigDict(FIELDS | {"clip_norm": 1.0}), 10, MULTIPLIERS)
    step = make_step(Objective(lambda key, batch: {}, losses), MULTIPLIERS, optimizer, seed=0, ema=0.5)
    places = parameter_shardings(PARAMS, mesh)
    params = {name: jax.device_put(x, places[name]) for name, x in PARAMS.items()}
    state = make_state(params, MULTIPLIERS, optimizer, mesh)
    program = compile_step(step, state, {}, BATCH, mesh)
    for number in range(steps):
        x = np.full_like(BATCH["x"], np.nan) if number == 1 else BATCH["x"]
        state, _ = program(state, {}, on_mesh({"x": x}, BATCH, mesh))
    return state, program.as_text()


@pytest.fixture(scope="module")
def alone():
    return jax.device_get(trained("data=1", 1)[0])


@pytest.mark.parametrize("mesh", ["fsdp=8", "fsdp=4,tensor=2", "data=2,fsdp=2,tensor=2"])
def test_every_mesh_moves_parameters_as_one_device_does_and_only_scalars_travel(alone, mesh):
    state, text = trained(mesh, 8)
    assert state["skipped"] == 1 and not state["params"]["a.query.kernel"].sharding.is_fully_replicated
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), jax.device_get(state), alone)
    found = collectives(text)
    # Two sums for each parameter, the loss and the norm; no piece of a parameter is so small.
    assert set(found) == {"all-reduce"} and found["all-reduce"].bytes < 4 * 3 * len(SHAPES), found
    assert found["all-reduce"].largest < 4 * 7 * 3, found
