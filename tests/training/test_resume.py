"""Killed at any moment and started again, a run is the run that was never killed: every loss, every parameter."""

import time

import numpy as np
import pytest

from gp_jax.checkpoint.components import WEIGHTS_FILE
from gp_jax.checkpoint.tensors import read_tensors
from gp_jax.training.log import read_log
from tests.training import processes

STEPS = 60


@pytest.fixture(scope="module")
def run(records, tmp_path_factory):
    """run(workdir) -> the process of a run that saves every second step."""
    folder = tmp_path_factory.mktemp("resume")
    fields = {"steps": STEPS, "checkpoints": {"interval": 2, "keep": 2}}
    config = processes.write_config(folder / "config.py", f"autoencoder({str(records)!r})", **fields)
    return lambda workdir: processes.start(config, workdir, folder / "cache")


@pytest.fixture(scope="module")
def uninterrupted(run, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted")
    processes.finish(run(workdir))
    return workdir


@pytest.mark.parametrize("kills", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_a_killed_run_equals_an_uninterrupted_one(run, uninterrupted, tmp_path, kills):
    rng, while_saving = np.random.default_rng(kills), 0
    for number in range(kills):
        process = run(tmp_path)
        first, wait = _last_step(tmp_path), rng.integers(1, 4)
        while process.poll() is None and _last_step(tmp_path) < first + wait:
            time.sleep(0.001)
        if number % 2:  # strikes as soon as a checkpoint is being written, the others somewhere between two steps
            while process.poll() is None and not _saving(tmp_path):
                time.sleep(0.0002)
        else:
            time.sleep(rng.uniform(0, 0.02))
        while_saving += _saving(tmp_path)
        process.kill()
        process.communicate()
        assert _last_step(tmp_path) < STEPS, "the run was over before it was killed"
    processes.finish(run(tmp_path))

    assert while_saving, "no kill struck a save"
    assert processes.lines(tmp_path) == processes.lines(uninterrupted)
    found, expected = (
        read_tensors(workdir / "checkpoint" / "vae" / WEIGHTS_FILE) for workdir in (tmp_path, uninterrupted)
    )
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(expected[name]), err_msg=name)


def _last_step(workdir) -> int:
    return max((line["step"] for line in read_log(workdir)), default=0)


def _saving(workdir) -> bool:
    """Orbax writes a checkpoint under a temporary name, which it takes away when all is there."""
    return any("tmp" in path.name for path in (workdir / "state").glob("*"))
