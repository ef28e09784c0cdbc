"""On any mesh every parameter has the gradient that it has on one device.

Losses alone would not tell: XLA's partitioner can get the backward pass wrong where the forward pass is right.
"""

import jax
import numpy as np
import pytest

from gp_jax.fit.step import batch_shardings
from gp_jax.parallel import make_mesh, use_mesh
from gp_jax.training.networks import initial
from gp_jax.training.setup import prepare
from tests.training import small

MESHES = [
    "data=4,context=2",
    "tensor=2,context=4",
    "data=2,fsdp=2,tensor=2",
    "fsdp=2,tensor=2,context=2",
]
BATCH = small.batch(np.random.default_rng(1))


@pytest.fixture(scope="module")
def gradients(checkpoint):
    """From a mesh to the losses [B] and the gradients of all networks' parameters."""

    def compute(mesh: str, devices: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        config = small.config("keyframes", "unused", checkpoint)
        config.optimizer.groups = ()
        run = prepare(config, make_mesh(mesh, jax.devices()[:devices]))
        params = initial(run.networks, run.networks.live, run.mesh)
        batch = jax.device_put(BATCH, batch_shardings(BATCH, run.mesh))

        def loss(params, batch):
            draws = run.objective.draw(jax.random.key(0), batch)
            losses = run.objective.losses(run.networks.bind(params), batch, draws)
            return losses.mean(), losses

        places = {name: x.sharding for name, x in params.items()}
        with use_mesh(run.mesh):
            step = jax.jit(jax.grad(loss, has_aux=True), out_shardings=(places, None))
            return jax.device_get(step(params, batch))

    return compute


@pytest.fixture(scope="module")
def alone(gradients):
    return gradients("data=1", 1)


@pytest.mark.parametrize("mesh", MESHES)
def test_any_mesh_gives_the_gradients_of_one_device(gradients, alone, mesh):
    (expected, losses), (found, other_losses) = alone, gradients(mesh, 8)
    np.testing.assert_allclose(other_losses, losses, rtol=1e-5)
    scale = max(np.abs(x).max() for x in expected.values())
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-3, atol=1e-6 * scale, err_msg=name)
