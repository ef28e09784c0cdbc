"""`gp-jax bench`: a row for each kernel and each set of devices, counted or timed."""

import re

import pytest

from gp_jax.cli.main import main

CONFIG = """
from gp_jax.training.config import default_config
from tests import small_networks

def get_config():
    config = default_config("keyframes")
    config.networks.update({name: small_networks.NETWORKS[name][1].to_json() for name in ("unet", "global_tokens")})
    config.optimizer.groups = ()
    config.settings.update({"native_area": 16 * 16})
    config.data.update({"precomputed": True, "segment_frames": 4, "feature_frames": 2, "view_size": 8, "view_patch": 4})
    return config
"""


M3DDM = """
from tests.training import small

def get_config():
    return small.m3ddm("unused")
"""


@pytest.fixture(params=[CONFIG])
def bench(request, tmp_path, capsys):
    """The rows that the command prints, each a dictionary by heading."""
    file = tmp_path / "config.py"
    file.write_text(request.param)

    def run(*arguments):
        assert main(["bench", "--config", str(file), *arguments]) == 0
        lines = [re.split(r"\s{2,}", line) for line in capsys.readouterr().out.splitlines()]
        return [dict(zip(lines[1], cells)) for cells in lines[2:]]

    return run


def test_devices_that_are_here_are_timed_and_a_kernel_they_lack_is_named(bench):
    here, lacking = bench("--attention", "einsum,cudnn", "--steps", "1", "--segments", "2")
    assert (here["devices"], here["mesh"], here["segments"]) == ("8 x cpu", "fsdp=8", "16")
    assert float(here["seconds"]) > 0 and "MFU" not in here  # nobody publishes the peak of a CPU
    assert lacking["attention"] == "cudnn" and "does not work here" in lacking["mesh"]


def test_devices_that_are_absent_are_counted(bench):
    (row,) = bench("--on", "1", "--segments", "2")
    assert (row["devices"], row["mesh"], row["segments"]) == ("1 x cpu", "-", "2") and "seconds" not in row
    assert float(row["state GB"]) > 0 and float(row["sum GB"]) == 0  # a lone device has nobody to share with
    assert 0.5 < float(row["compiled"]) / float(row["TFLOP"]) < 1.5


@pytest.mark.parametrize("bench", [CONFIG, pytest.param(M3DDM, marks=pytest.mark.slow)], indirect=True)
def test_a_call_of_the_network_is_less_than_half_of_a_step(bench):
    (step,) = bench("--on", "1")
    (call,) = bench("--on", "1", "--denoise")
    assert 0 < float(call["TFLOP"]) < float(step["TFLOP"]) / 2
    assert 0 < float(call["state GB"]) < float(step["state GB"]) / 1.5  # no moments, no average
    (timed,) = bench("--denoise", "--steps", "1")
    assert float(timed["seconds"]) > 0


@pytest.mark.parametrize("names, words", [("9", "9 CPU devices"), ("v5p:2y2", "neither"), ("x", "neither")])
def test_devices_that_cannot_be_had_are_named(tmp_path, capsys, names, words):
    file = tmp_path / "config.py"
    file.write_text(CONFIG)
    assert main(["bench", "--config", str(file), "--on", names]) == 2
    assert words in capsys.readouterr().err
