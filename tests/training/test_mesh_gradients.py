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
    "data=2,fsdp=2,tensor=2",
    "fsdp=2,tensor=2,context=2",
    pytest.param("tensor=2,context=4", marks=pytest.mark.slow),  # the pair is in the one before
]
RNG = np.random.default_rng(1)
BATCHES = dict.fromkeys(("keyframes", "motion"), small.batch(RNG)) | {"m3ddm": small.windows(RNG)}
LONG = [pytest.param(name, marks=pytest.mark.slow) for name in ("m3ddm", "motion")]


@pytest.fixture(scope="module", params=["keyframes", *LONG])
def gradients(request, checkpoint, m3ddm):
    """From a mesh to the losses [B] and the gradients of all networks' parameters."""

    def compute(mesh: str, devices: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        batch = BATCHES[request.param]
        config = small.config("keyframes", "unused", checkpoint)
        if request.param == "m3ddm":
            config = small.m3ddm("unused", m3ddm)
        if request.param == "motion":
            config.changes = {"unet": {"motion_modules": True, "motion_heads": 2, "motion_groups": 4}}
        config.optimizer.groups = config.optimizer.groups[:1] if request.param == "m3ddm" else ()  # vae, statistics
        run = prepare(config, make_mesh(mesh, jax.devices()[:devices]))
        params = initial(run.networks, run.networks.configs, run.mesh)
        trained = {name: params.pop(name) for name in run.networks.multipliers}
        if request.param == "motion":  # new modules end in zeros, behind which nothing has a gradient
            trained = {name: x + 0.1 * jax.random.normal(jax.random.key(1), x.shape) for name, x in trained.items()}
        batch = jax.device_put(batch, batch_shardings(batch, run.mesh))

        def loss(trained, params, batch):
            draws = run.objective.draw(jax.random.key(0), batch)
            losses = run.objective.losses(run.networks.bind(params | trained), batch, draws)
            return losses.mean(), losses

        places = {name: x.sharding for name, x in trained.items()}
        with use_mesh(run.mesh):
            step = jax.jit(jax.grad(loss, has_aux=True), out_shardings=(places, None))
            return jax.device_get(step(trained, params, batch))

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
