"""Means of weights, and nothing where two checkpoints do not match."""

import dataclasses
import shutil

import numpy as np
import pytest

from gp_jax.checkpoint.average import average
from gp_jax.checkpoint.components import WEIGHTS_FILE
from gp_jax.checkpoint.tensors import read_tensors, write_tensors
from gp_jax.errors import UserError
from gp_jax.files import write_json
from tests import small_networks


@pytest.fixture
def checkpoint(tmp_path):
    def write(name, value, config=small_networks.UNET, component="unet", kernel=(2, 3), **schedule):
        folder = tmp_path / name
        write_tensors(folder / component / WEIGHTS_FILE, {"kernel": np.full(kernel, value, np.float16)})
        write_json(folder / component / "config.json", config.to_json())
        schedule = dataclasses.replace(small_networks.SCHEDULE, **schedule)
        write_json(folder / "scheduler" / "scheduler_config.json", schedule.to_config())
        write_json(folder / "config.json", {"name": name})
        return folder

    return write


def test_each_parameter_is_the_mean_and_the_rest_is_the_seconds(checkpoint, tmp_path):
    first, second, target = checkpoint("a", 1, timestep_spacing="linspace"), checkpoint("b", 3), tmp_path / "c"
    average(first, second, target, 0.25)
    kernel = np.asarray(read_tensors(target / "unet" / WEIGHTS_FILE)["kernel"])
    assert kernel.dtype == np.float16
    np.testing.assert_array_equal(kernel, np.full((2, 3), 1.5))
    assert (target / "config.json").read_text() == (second / "config.json").read_text()
    with pytest.raises(UserError, match="exists already"):
        average(first, second, target, 0.25)


VAE = small_networks.NETWORKS["vae"][1]


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"kernel": (3, 2)}, "wrong shape: kernel"),
        ({"config": VAE, "component": "vae"}, "a has no unet: give two"),
        ({"config": dataclasses.replace(small_networks.UNET, masked_fill="edge")}, "b/unet has masked_fill=grey, not"),
        ({"prediction_type": "sample"}, "b/scheduler has prediction_type=v_prediction, not sample as .*a/scheduler"),
    ],
)
def test_another_architecture_is_refused_and_nothing_is_written(checkpoint, tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        average(checkpoint("a", 1, **fields), checkpoint("b", 3), tmp_path / "c", 0.5)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_sources_are_checkpoints_and_keep_out_of_each_others_way(checkpoint, tmp_path):
    first, second = checkpoint("W", 1), checkpoint("b", 3)
    shutil.copytree(first, tmp_path / "run" / "checkpoint")
    for one, other in ((tmp_path / "run", second), (second, tmp_path / "run")):
        with pytest.raises(UserError, match="run is no checkpoint"):
            average(one, other, tmp_path / "c", 0.5)
    with pytest.raises(UserError, match="there is no checkpoint"):
        average(tmp_path / "nowhere", second, tmp_path / "c", 0.5)
    for source in (first, second):
        with pytest.raises(UserError, match="choose a folder elsewhere"):
            average(first, second, source / "c", 0.5)
    assert {path.name for path in tmp_path.iterdir()} == {"W", "b", "run"}
