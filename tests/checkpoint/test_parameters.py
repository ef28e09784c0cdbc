import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.components import CONFIG_FILE, WEIGHTS_FILE, load_module, save_module
from gp_jax.checkpoint.tensors import LazyTensor, read_tensors, write_tensors
from gp_jax.errors import UserError
from gp_jax.files import write_json
from gp_jax.parallel import make_mesh, parameter_shardings


class Net(nnx.Module):
    """Two linears in a list and a bare parameter; sizes drawn odd, so that a transposed tensor cannot pass."""

    def __init__(self, width, *, rngs, dtype=None):
        self.layers = nnx.List(nnx.Linear(3, width, dtype=dtype, rngs=rngs) for _ in range(2))
        self.scale = nnx.Param(jnp.full((), 0.5))


class Config:
    @staticmethod
    def from_json(config):
        return config["width"]


@pytest.fixture
def net():
    return Net(5, rngs=nnx.Rngs(1))


def same(a, b):
    a, b = parameters.flatten(a), parameters.flatten(b)
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def test_names_are_dotted_paths(net):
    expected = {"layers.0.kernel", "layers.0.bias", "layers.1.kernel", "layers.1.bias", "scale"}
    assert parameters.flatten(net).keys() == expected


def test_saving_then_loading_is_the_identity(net, tmp_path):
    save_module(net, tmp_path / "a" / "net", {"width": 5})
    assert same(load_module(Net, Config, tmp_path / "a" / "net"), net)
    assert sorted(p.name for p in (tmp_path / "a" / "net").iterdir()) == ["config.json", "model.safetensors"]


def test_a_network_is_hashed_once_and_again_when_it_has_changed(net, monkeypatch):
    first, read = parameters.digest(net), []
    gathered = parameters.gathered
    monkeypatch.setattr(parameters, "gathered", lambda leaves: read.append(1) or gathered(leaves))
    assert parameters.digest(net) == first and not read
    assert parameters.digest(parameters.bind(net, parameters.flatten(net))) == first and len(read) == 1
    net.scale[...] = jnp.full((), 7.0)
    assert parameters.digest(net) != first
    net.config = 3
    third = parameters.digest(net)
    assert third != first and len(read) == 3
    del net.scale
    assert parameters.digest(net) not in (first, third) and len(read) == 4


def test_networks_that_are_built_alike_share_nothing(net, tmp_path):
    other = Net(5, rngs=nnx.Rngs(2))
    for name, network in {"one": net, "other": other}.items():
        save_module(network, tmp_path / name, {"width": 5})
    one, another = (load_module(Net, Config, tmp_path / name) for name in ("one", "other"))
    assert same(one, net) and same(another, other)
    another.scale[...] = jnp.full((), 7.0)
    assert same(one, net)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_stored_dtype_is_kept_or_cast_on_request(net, tmp_path, dtype):
    save_module(net, tmp_path, {"width": 5}, dtype=dtype)
    kept = load_module(Net, Config, tmp_path)
    assert all(x.dtype == dtype for x in parameters.flatten(kept).values())
    wide = load_module(Net, Config, tmp_path, param_dtype=jnp.float32)
    for name, value in parameters.flatten(wide).items():
        assert np.array_equal(value, parameters.flatten(net)[name].astype(dtype).astype(jnp.float32))


def test_loading_places_each_parameter_on_the_mesh(net, tmp_path):
    save_module(net, tmp_path, {"width": 5})
    mesh = make_mesh("fsdp=3", jax.devices()[:3])
    loaded = load_module(Net, Config, tmp_path, place=functools.partial(parameter_shardings, mesh=mesh))
    assert loaded.layers[0].kernel.get_value().sharding == NamedSharding(mesh, jax.P(("fsdp",), None))
    assert same(loaded, net)


def test_every_mismatch_is_named_and_nothing_is_loaded(net):
    tensors = {k: np.zeros(v.shape, np.float32) for k, v in parameters.flatten(net).items()}
    del tensors["scale"]
    tensors["layers.2.kernel"] = np.zeros((3, 5))
    tensors["layers.0.kernel"] = np.zeros((5, 3))
    before = parameters.flatten(net)
    with pytest.raises(UserError) as error:
        parameters.load_into(net, tensors, source="file.x")
    for part in ("file.x", "missing: scale ()", "unexpected: layers.2.kernel (3, 5)", "layers.0.kernel is (5, 3)"):
        assert part in str(error.value)
    assert all(parameters.flatten(net)[k] is before[k] for k in before)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused_by_name(net, bad):
    tensors = {k: np.array(v, np.float16) for k, v in parameters.flatten(net).items()}
    tensors["layers.1.bias"][2] = bad
    with pytest.raises(UserError, match=r"layers\.1\.bias \(float16\)"):
        parameters.load_into(net, tensors)


def test_broken_files_are_refused(net, tmp_path):
    save_module(net, tmp_path, {"width": 5})
    path = tmp_path / WEIGHTS_FILE
    whole = path.read_bytes()
    for broken in (whole[:-1], whole[:5], b""):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=WEIGHTS_FILE):
            load_module(Net, Config, tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="does not exist"):
        load_module(Net, Config, tmp_path)
    (tmp_path / CONFIG_FILE).write_text("[1]")
    with pytest.raises(UserError, match="no JSON object"):
        load_module(Net, Config, tmp_path)


def test_a_failed_write_leaves_the_old_file_alone(net, tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": np.arange(3)})

    def fail():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_tensors(path, {"a": LazyTensor((3,), np.dtype(np.int64), fail)})
    assert np.array_equal(read_tensors(path)["a"], np.arange(3))
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_unwritable_target_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_json(tmp_path / "file" / "config.json", {})
