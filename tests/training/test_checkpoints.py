"""A state comes back bit for bit, on any mesh; a damaged one is passed over, one of another run refused."""

import jax
import numpy as np
import optax
import pytest

from gp_jax.errors import UserError
from gp_jax.parallel import make_mesh, parameter_shardings
from gp_jax.training.checkpoints import Checkpoints, signature_of
from gp_jax.training.state import abstract_state, make_state

SHAPES = {"unet.a.query.kernel": (64, 64), "unet.a.bias": (8,), "vae.conv_in.kernel": (3, 3, 8, 16)}
OPTIMIZER = optax.adamw(1e-3)


def state_on(mesh, seed=0):
    rng = np.random.default_rng(seed)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    places = parameter_shardings(arrays, mesh)
    params = {name: jax.device_put(x, places[name]) for name, x in arrays.items()}
    return make_state(params, list(SHAPES), OPTIMIZER, mesh)


def abstract_on(mesh, trained=tuple(SHAPES)):
    shapes = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in SHAPES.items()}
    return abstract_state(shapes, trained, OPTIMIZER, mesh)


def mesh_of(shape, count):
    return make_mesh(shape, jax.devices()[:count])


def save(workdir, states):
    signature = signature_of(abstract_on(mesh_of("data=1", 1)))
    with Checkpoints(workdir, keep=5) as checkpoints:
        for step, state in states.items():
            checkpoints.save(step, state, {"signature": signature, "data": {"examples": step}})


def restore(workdir, abstract):
    with Checkpoints(workdir, keep=5) as checkpoints:
        return checkpoints.restore(abstract, signature_of(abstract))


@pytest.mark.parametrize("shape, count", [("fsdp=8", 8), ("fsdp=2,tensor=2", 4), ("data=2", 2), ("data=1", 1)])
def test_saved_on_eight_devices_restored_on_others(tmp_path, shape, count):
    state = state_on(mesh_of("fsdp=4,tensor=2", 8))
    save(tmp_path, {3: state})
    abstract = abstract_on(mesh_of(shape, count))
    found, meta = restore(tmp_path, abstract)
    assert meta["data"] == {"examples": 3}
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), jax.device_get(found))
    for x, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(abstract), strict=True):
        assert x.sharding.is_equivalent_to(wanted.sharding, x.ndim)
    kernel = found["average"]["unet.a.query.kernel"]
    assert kernel.addressable_shards[0].data.size * (1 if shape.startswith("data") else count) == kernel.size


def test_damaged_ones_are_passed_over_and_put_aside(tmp_path, capsys):
    mesh = mesh_of("data=1", 1)
    save(tmp_path, {step: state_on(mesh, step) for step in (1, 2, 3)})
    for file in (tmp_path / "state" / "3" / "state").rglob("*"):
        if file.is_file() and file.stat().st_size > 10_000:
            file.write_bytes(file.read_bytes()[:5_000])
    (tmp_path / "state" / "2" / "meta" / "metadata").write_text("{")
    found, meta = restore(tmp_path, abstract_on(mesh))
    assert meta["data"] == {"examples": 1}
    printed = capsys.readouterr().err
    assert "checkpoint 3 is damaged" in printed and "checkpoint 2 is damaged" in printed and printed.count("\n") == 2
    np.testing.assert_array_equal(found["params"]["unet.a.bias"], state_on(mesh, 1)["params"]["unet.a.bias"])
    save(tmp_path, {3: state_on(mesh, 4)})  # its step is free again
    assert restore(tmp_path, abstract_on(mesh))[1]["data"] == {"examples": 3}

    for step in ("1", "3"):
        (tmp_path / "state" / step / "meta" / "metadata").unlink()
    with pytest.raises(UserError, match=r"all checkpoints in .* are damaged"):
        restore(tmp_path, abstract_on(mesh))


def test_another_configuration_is_refused_and_nothing_is_found_in_an_empty_folder(tmp_path):
    mesh = mesh_of("data=1", 1)
    assert restore(tmp_path, abstract_on(mesh)) is None
    save(tmp_path, {1: state_on(mesh)})
    with pytest.raises(UserError, match="saved by another configuration"):
        restore(tmp_path, abstract_on(mesh, trained=("unet.a.bias",)))
