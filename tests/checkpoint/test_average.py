"""Means of weights, and nothing where two checkpoints do not match."""

import numpy as np
import pytest

from gp_jax.checkpoint.average import average
from gp_jax.checkpoint.components import WEIGHTS_FILE
from gp_jax.checkpoint.tensors import read_tensors, write_tensors
from gp_jax.errors import UserError
from gp_jax.files import write_json


@pytest.fixture
def checkpoint(tmp_path):
    def write(name, value, shape=(2, 3), component="unet"):
        folder = tmp_path / name
        write_tensors(folder / component / WEIGHTS_FILE, {"kernel": np.full(shape, value, np.float16)})
        write_json(folder / "config.json", {"name": name})
        return folder

    return write


def test_each_parameter_is_the_mean_and_the_rest_is_the_seconds(checkpoint, tmp_path):
    first, second, target = checkpoint("a", 1), checkpoint("b", 3), tmp_path / "c"
    average(first, second, target, 0.25)
    kernel = np.asarray(read_tensors(target / "unet" / WEIGHTS_FILE)["kernel"])
    assert kernel.dtype == np.float16
    np.testing.assert_array_equal(kernel, np.full((2, 3), 1.5))
    assert (target / "config.json").read_text() == (second / "config.json").read_text()
    with pytest.raises(UserError, match="exists already"):
        average(first, second, target, 0.25)


def test_a_checkpoint_that_is_not_there_is_named(checkpoint, tmp_path):
    there = checkpoint("a", 1)
    for pair in ((there, tmp_path / "nowhere"), (tmp_path / "nowhere", there)):
        with pytest.raises(UserError, match=r"there is no checkpoint .*nowhere"):
            average(*pair, tmp_path / "c", 0.5)


@pytest.mark.parametrize("fields", [{"shape": (3, 2)}, {"component": "vae"}])
def test_another_architecture_is_refused_and_nothing_is_written(checkpoint, tmp_path, fields):
    with pytest.raises(UserError, match=r"kernel|has no unet"):
        average(checkpoint("a", 1, **fields), checkpoint("b", 3), tmp_path / "c", 0.5)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
