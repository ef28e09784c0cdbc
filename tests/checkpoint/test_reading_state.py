"""A training state becomes the folder that the training itself would have written, bit for bit, or nothing."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from gp_jax.checkpoint import reading_state
from gp_jax.checkpoint.checksums import write_checksums
from gp_jax.checkpoint.components import CONFIG_FILE, WEIGHTS_FILE
from gp_jax.checkpoint.parameters import flatten
from gp_jax.checkpoint.tensors import read_tensors
from gp_jax.checkpoint.training_state import Checkpoints, signature_of
from gp_jax.cli.main import main
from gp_jax.convert import convert, load
from gp_jax.errors import UserError
from gp_jax.files import read_json
from gp_jax.fit.state import make_state
from gp_jax.training.export import export_checkpoint
from gp_jax.training.networks import initial
from gp_jax.training.setup import prepare
from tests import small_networks
from tests.training import small

COMPONENTS = ("unet", "vae", "clip", "global_tokens")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(working directory, its newest state on the host), as a run of 6 steps leaves it, without having been trained."""
    folder = tmp_path_factory.mktemp("run")
    origin = small_networks.write(folder / "origin", native_area=16 * 24)
    run = prepare(small.config("keyframes", folder, origin, mesh="fsdp=8"))
    params = initial(run.networks, run.networks.live, run.mesh)
    state = make_state(params, run.networks.multipliers, run.optimizer, run.mesh)
    with Checkpoints(folder / "W", 2) as checkpoints:
        for step in (3, 6):
            state |= {"average": jax.tree.map(lambda x: 0.9 * x + 0.01, state["average"])}
            checkpoints.save(step, state, {"signature": signature_of(run.state), **run.describe()})
    options = {"settings": run.settings.to_json(), "scheduler": run.schedule.to_config()}
    export_checkpoint(folder / "W", run.networks, state, origin=origin, **options)
    return folder / "W", jax.device_get(state)


@pytest.fixture
def copied(trained, tmp_path):
    """A working directory that a test may harm."""
    return shutil.copytree(trained[0] / "state", tmp_path / "W" / "state").parent


def tensors(folder):
    return {name: np.asarray(x) for name, x in read_tensors(folder / WEIGHTS_FILE).items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        assert found[name].dtype == x.dtype
        np.testing.assert_array_equal(found[name], x, err_msg=name)


def test_the_newest_state_gives_what_the_run_has_written_itself(trained, tmp_path, monkeypatch):
    workdir, _ = trained
    monkeypatch.setattr(reading_state, "_GROUP_BYTES", 2000)  # many groups, some of a single tensor
    monkeypatch.chdir(workdir.parent)
    convert(Path(workdir.name), tmp_path / "ours")
    theirs = workdir / "checkpoint"
    assert {x.name for x in theirs.iterdir()} == {x.name for x in (tmp_path / "ours").iterdir()}
    for component in COMPONENTS:
        assert_same(tensors(tmp_path / "ours" / component), tensors(theirs / component))
    for file in (CONFIG_FILE, "scheduler/scheduler_config.json", *(f"{x}/{CONFIG_FILE}" for x in COMPONENTS)):
        assert read_json(tmp_path / "ours" / file) == read_json(theirs / file)


def test_raw_weights_are_those_of_the_state(trained, tmp_path):
    workdir, state = trained
    assert main(["convert", str(workdir), str(tmp_path / "raw"), "--raw-weights", "--only", "unet"]) == 0
    raw = {f"unet.{name}": x for name, x in tensors(tmp_path / "raw" / "unet").items()}
    assert_same(raw, {name: x for name, x in state["params"].items() if name.startswith("unet.")})


def test_an_older_state_can_be_named(trained):
    workdir, state = trained
    modules, report = load(workdir / "state" / "3")
    assert "step 3" in str(report) and set(modules) == set(COMPONENTS)
    loaded = flatten(modules["unet"])
    for name in (name for name in state["average"] if name.startswith("unet.")):
        once = 0.9 * state["params"][name] + np.float32(0.01)
        np.testing.assert_allclose(loaded[name.removeprefix("unet.")], once, rtol=1e-6, err_msg=name)


def test_the_start_is_found_from_every_folder(tmp_path, monkeypatch):
    small_networks.write(tmp_path / "origin", native_area=16 * 24)
    monkeypatch.chdir(tmp_path)
    run = prepare(small.config("keyframes", tmp_path, "origin", mesh="fsdp=8"))
    assert run.describe()["init_from"] == str(tmp_path / "origin")


def test_without_the_checkpoint_of_the_start_there_is_what_was_trained(copied, tmp_path):
    file = copied / "state" / "6" / "meta" / "metadata"
    file.write_text(json.dumps(read_json(file) | {"init_from": "gone"}))
    write_checksums(copied / "state" / "6")
    trained = ["unet", "global_tokens"]
    for only in (None, ["unet", "vae"]):
        with pytest.raises(UserError, match=r"started from gone, .* by --only (unet,global_tokens|global_tokens,unet)"):
            convert(copied, tmp_path / "ours", only=only)
    assert not (tmp_path / "ours").exists()
    assert set(convert(copied, tmp_path / "ours", only=trained).loaded) == set(trained)


def lose_data(workdir):
    for file in (workdir / "state" / "6" / "state").rglob("d/*"):
        file.unlink()


def lose_meta(workdir):
    (workdir / "state" / "6" / "meta" / "metadata").write_text("{")


def remove_meta(workdir):
    (workdir / "state" / "6" / "meta" / "metadata").unlink()


def flip_a_bit(workdir):
    file = max((workdir / "state" / "6" / "state").rglob("d/*"), key=lambda file: file.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def change_network(workdir):
    file = workdir / "state" / "6" / "meta" / "metadata"
    meta = read_json(file)
    meta["networks"]["unet"]["layers_per_block"] = 2
    file.write_text(json.dumps(meta))
    write_checksums(workdir / "state" / "6")


@pytest.mark.parametrize(
    "harm, words",
    [
        (lose_data, "state/6 is damaged.*give an older one"),
        (lose_meta, "metadata was changed"),
        (remove_meta, "metadata is missing"),
        (flip_a_bit, "was changed.*give an older one"),
        (change_network, r"missing: down\.0\.residual\.1"),
    ],
)
def test_a_damaged_state_is_refused_and_nothing_is_written(copied, tmp_path, harm, words):
    harm(copied)
    with pytest.raises(UserError, match=f"(?s){words}"):
        convert(copied, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_only_a_training_state_has_raw_weights(trained, tmp_path):
    with pytest.raises(UserError, match="no training state"):
        convert(trained[0] / "checkpoint", tmp_path / "ours", averaged=False)
