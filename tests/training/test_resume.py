"""Killed at any moment and started again, a run is the run that was never killed: every loss, every parameter."""

import time

import numpy as np
import pytest

from gp_jax.checkpoint.components import WEIGHTS_FILE
from gp_jax.checkpoint.tensors import read_tensors
from gp_jax.training.log import read_log
from tests.training import processes


@pytest.mark.parametrize("kills, steps", [(2, 16), pytest.param(12, 60, marks=pytest.mark.slow)])
def test_a_killed_run_equals_an_uninterrupted_one(records, tmp_path, kills, steps):
    fields = {"steps": steps, "checkpoints": {"interval": 2, "keep": 2}}
    config = processes.write_config(tmp_path / "config.py", f"autoencoder({str(records)!r})", **fields)
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"

    def run(workdir):
        return processes.start(config, workdir, tmp_path / "cache")

    processes.finish(run(uninterrupted))
    rng, while_saving = np.random.default_rng(kills), 0
    for number in range(kills):
        process = run(killed)
        first, wait = _last_step(killed), rng.integers(1, 4)
        while process.poll() is None and _last_step(killed) < first + wait:
            time.sleep(0.001)
        if number % 2:  # strikes as soon as a checkpoint is being written, the others somewhere between two steps
            while process.poll() is None and not _saving(killed):
                time.sleep(0.0002)
        else:
            time.sleep(rng.uniform(0, 0.02))
        while_saving += _saving(killed)
        process.kill()
        process.communicate()
        assert _last_step(killed) < steps, "the run was over before it was killed"
    processes.finish(run(killed))

    assert while_saving, "no kill struck a save"
    assert processes.lines(killed) == processes.lines(uninterrupted)
    found, expected = (
        read_tensors(workdir / "checkpoint" / "vae" / WEIGHTS_FILE) for workdir in (killed, uninterrupted)
    )
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(expected[name]), err_msg=name)


def _last_step(workdir) -> int:
    return max((line["step"] for line in read_log(workdir)), default=0)


def _saving(workdir) -> bool:
    """Orbax writes a checkpoint under a temporary name, which it takes away when all is there."""
    return any("tmp" in path.name for path in (workdir / "state").glob("*"))
