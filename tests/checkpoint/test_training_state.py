"""A state comes back bit for bit, on any mesh; a damaged one is passed over, one of another run refused."""

import itertools

import jax
import numpy as np
import optax
import pytest

from gp_jax.checkpoint.checksums import difference
from gp_jax.checkpoint.training_state import Checkpoints, signature_of
from gp_jax.errors import UserError
from gp_jax.fit.state import abstract_state, make_state
from gp_jax.parallel import make_mesh, parameter_shardings

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


HARMS = {
    "a bit": lambda file, content: file.write_bytes(bytes([content[0] ^ 1]) + content[1:]),
    "the last bit": lambda file, content: file.write_bytes(content[:-1] + bytes([content[-1] ^ 128])),
    "half": lambda file, content: file.write_bytes(content[: len(content) // 2]),
    "more": lambda file, content: file.write_bytes(content + b"0"),
    "all": lambda file, content: file.unlink(),
}


def test_any_change_to_any_file_is_noticed_or_cannot_matter(tmp_path, capfd):
    """What Orbax writes beside its items says when they were saved; all else has a checksum."""
    mesh = mesh_of("data=1", 1)
    newest = state_on(mesh, 2)
    save(tmp_path, {1: state_on(mesh, 1), 2: newest})
    folder = tmp_path / "state" / "2"
    assert difference(folder) is None
    files = [file for file in folder.rglob("*") if file.is_file() and file.stat().st_size]
    beside = [file for file in files if file.parent == folder]
    assert len(files) > len(beside) + 4
    for file, harm in itertools.product(files, HARMS):
        content = file.read_bytes()
        HARMS[harm](file, content)
        if file in beside:
            capfd.readouterr()
            found, _ = restore(tmp_path, abstract_on(mesh))
            aside, printed = tmp_path / "damaged-2", capfd.readouterr().err
            same = [np.array_equal(x, y) for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(newest))]
            assert all(same) or aside.exists(), (file, harm)
            assert printed.count("\n") == aside.exists(), (file, harm, printed)
            if aside.exists():
                aside.rename(folder)
        else:
            assert str(file.relative_to(folder)) in difference(folder), (file, harm)
        file.write_bytes(content)
    (folder / "state" / "one_more").touch()
    assert "one_more was added" in difference(folder)


def test_a_state_of_an_earlier_version_has_no_checksums_and_is_restored(tmp_path, capfd):
    """Damaged, it is passed over in one sentence as well."""
    mesh = mesh_of("data=1", 1)
    save(tmp_path, {1: state_on(mesh, 1), 2: state_on(mesh, 2)})
    for step in ("1", "2"):
        (tmp_path / "state" / step / "checksums.json").unlink()
        meta = tmp_path / "state" / step / "meta" / "metadata"
        meta.write_text(meta.read_text().replace('"checksums"', '"other"'))
    assert restore(tmp_path, abstract_on(mesh))[1]["data"] == {"examples": 2}
    for file in (tmp_path / "state" / "2" / "state").rglob("d/*"):
        file.unlink()
    capfd.readouterr()
    assert restore(tmp_path, abstract_on(mesh))[1]["data"] == {"examples": 1}
    assert capfd.readouterr().err.count("\n") == 1


def test_another_configuration_is_refused_and_nothing_is_found_in_an_empty_folder(tmp_path):
    mesh = mesh_of("data=1", 1)
    assert restore(tmp_path, abstract_on(mesh)) is None
    save(tmp_path, {1: state_on(mesh)})
    with pytest.raises(UserError, match="saved by another configuration"):
        restore(tmp_path, abstract_on(mesh, trained=("unet.a.bias",)))
