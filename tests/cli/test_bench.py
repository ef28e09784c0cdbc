"""`gp-jax bench`: a row for each kernel and each set of devices, counted or timed."""

import importlib.util
import re

import jax
import pytest

from gp_jax.bench import torch_process
from gp_jax.cli.bench import CASES
from gp_jax.cli.main import main

FRAMES = 4
CONFIG = """
from gp_jax.training.config import default_config
from tests.training import small

def get_config():
    config = default_config("keyframes")
    config.networks.update({name: small.NETWORKS[name].to_json() for name in config.networks})
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
        what = [arguments[0]] if arguments and arguments[0] in CASES else []
        assert main(["bench", *what, "--config", str(file), *arguments[len(what) :]]) == 0
        lines = [re.split(r"\s{2,}", line) for line in capsys.readouterr().out.splitlines()]
        return [dict(zip(lines[1], cells)) for cells in lines[2:]]

    return run


def test_devices_that_are_here_are_timed_and_a_kernel_they_lack_is_named(bench):
    here, lacking = bench("--attention", "einsum,cudnn", "--repeats", "1", "--segments", "2")
    assert (here["devices"], here["mesh"], here["segments"]) == ("8 x cpu", "fsdp=8", "16")
    assert float(here["seconds"]) > 0 and here["MFU"] == "-"  # nobody publishes the peak of a CPU
    assert lacking["attention"] == "cudnn" and "does not work here" in lacking["mesh"]


def test_devices_that_are_absent_are_counted(bench):
    (row,) = bench("--on", "1", "--segments", "2")
    assert (row["devices"], row["mesh"], row["segments"]) == ("1 x cpu", "-", "2") and "seconds" not in row
    assert float(row["state GB"]) > 0 and float(row["sum GB"]) == 0  # a lone device has nobody to share with
    assert 0.5 < float(row["compiled"]) / float(row["TFLOP"]) < 1.5


@pytest.mark.parametrize("bench", [CONFIG, pytest.param(M3DDM, marks=pytest.mark.slow)], indirect=True)
def test_a_call_of_the_network_is_less_than_half_of_a_step(bench):
    (step,) = bench("--on", "1", "--segments", "2")  # a program of the test before
    (call,) = bench("denoise", "--on", "1", "--segments", "2")
    assert 0 < float(call["TFLOP"]) < float(step["TFLOP"]) / 2
    assert 0 < float(call["state GB"]) < float(step["state GB"]) / 1.5  # no moments, no average
    (timed,) = bench("denoise", "--repeats", "3")
    low, high = map(float, timed["range"].split("-"))
    assert 0 < low <= float(timed["seconds"]) <= high and float(timed["compile s"]) > 0
    assert float(timed["frames/s"]) == pytest.approx(FRAMES / float(timed["seconds"]), rel=0.01)
    assert float(timed["TFLOP/s"]) == pytest.approx(float(timed["TFLOP"]) / float(timed["seconds"]), rel=0.01)


@pytest.mark.parametrize("names, words", [("9", "9 CPU devices"), ("v5p:2y2", "neither"), ("x", "neither")])
def test_devices_that_cannot_be_had_are_named(tmp_path, capsys, names, words):
    jax.devices()  # from now on there are no more of them
    file = tmp_path / "config.py"
    file.write_text(CONFIG)
    assert main(["bench", "--config", str(file), "--on", names]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "what, image",
    [
        ("denoise", ["--image"]),
        ("step", []),
        # Each of the two by itself is among the others.
        pytest.param("denoise", [], marks=pytest.mark.slow),
        pytest.param("step", ["--image"], marks=pytest.mark.slow),
    ],
    ids=["denoise-image", "step-video", "denoise-video", "step-image"],
)
def test_torch_is_measured_beside_it(bench, what, image, monkeypatch):
    monkeypatch.setattr(torch_process, "MODES", ("eager",))  # compiling takes minutes where others work too
    theirs, ours = bench(what, *image, "--against", "torch", "--repeats", "1")
    assert (theirs["attention"], ours["attention"], ours["devices"]) == ("torch eager", "auto", "1 x cpu")
    assert theirs["TFLOP"] == ours["TFLOP"] and float(theirs["frames/s"]) > 0
    ratio = float(theirs["seconds"]) / float(ours["seconds"])
    assert float(ours["x eager"]) == pytest.approx(ratio, rel=0.02) and ours["x compile"] == "-"


@pytest.mark.slow
def test_torch_compiles(bench):
    _, compiled, ours = bench("denoise", "--against", "torch", "--repeats", "3")
    assert float(compiled["compile s"]) > float(compiled["seconds"]) > 0 and float(ours["x compile"]) > 0


def test_the_autoencoder_is_told_in_its_parts(bench):
    encode, decode = bench("vae", "--repeats", "1", "--mesh", "data=8")
    assert (encode["part"], decode["part"], encode["segments"]) == ("encode", "decode", "8")
    assert float(encode["frames/s"]) > 0 and float(decode["TFLOP"]) > 0


def test_the_pipeline_tells_what_takes_its_time_and_what_another_clip_would(bench, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    what = ["--source", "16x16", "--size", "32x16", "--frames", "7", "--steps", "2", "--repeats", "1"]
    row, told = bench("pipeline", *what)
    shares = [float(row[part].rstrip("%")) for part in ("encode", "denoise", "decode", "other")]
    assert sum(shares) == pytest.approx(100, abs=3) and float(row["frames/s"]) > 0 and row["frames"] == "7"
    assert told["devices"].startswith("projected, not measured: 500 frames of 512x512 to 1280x720 in")
    assert not list(tmp_path.glob("cache/**/rates.json"))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["step", "--steps", "3"], "--steps is of pipeline, not of step"),
        (["vae", "--against", "torch"], "--against is of step and denoise and metrics, not of vae"),
        (["denoise", "--against", "torch", "--on", "1"], "give one of them"),
        (["denoise", "--config.data.size=17x16"], "no whole latents"),
        (["denoise", "--config.stage=foo"], "config.stage is 'foo'"),
        (["denoise", "--config.stage=interpolation", "--image"], "interpolation_unet is neither in a checkpoint"),
        (["metrics"], "--config is of step and denoise and vae and pipeline, not of metrics"),
        (["pipeline", "--steps", "5000"], "cannot be cut into 5000"),
        (["pipeline", "--size", "64x256"], "--size 64x256 is smaller than --source 256x256"),
        (["step", "--on", "0"], "on 0 devices"),
        (["step", "--guidance", "0"], "--guidance is of pipeline, not of step"),
        (["step", "--on", "1", "--repeats", "3"], "--repeats is for devices that are here"),
        (["step", "--on-paper", "8", "--share", "0"], "'0' is not a share above 0, up to 1"),
        (["step", "--share", "1"], "--chip and --share are of --on-paper"),
    ],
)
def test_what_cannot_be_asked_together_is_one_sentence(tmp_path, capsys, arguments, words):
    file = tmp_path / "config.py"
    file.write_text(CONFIG)
    assert main(["bench", arguments[0], "--config", str(file), *arguments[1:]]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--typo"], "metrics takes no --typo"),
        (["--config.foo=1"], "metrics takes no --config.foo=1"),
        (["--init-from", "nowhere"], "--init-from is of step"),
        (["--process-id", "0"], "--process-id is of step"),
    ],
)
def test_metrics_take_nothing_of_networks(arguments, words, capsys):
    assert main(["bench", "metrics", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_configuration_of_nothing_is_one_sentence(tmp_path, capsys):
    file = tmp_path / "config.py"
    file.write_text("import ml_collections\nget_config = ml_collections.ConfigDict")
    assert main(["bench", "--config", str(file)]) == 2
    assert "config.stage is None" in capsys.readouterr().err


def test_networks_have_to_be_named(capsys):
    assert main(["bench", "pipeline"]) == 2
    assert "--config configs/" in capsys.readouterr().err


def test_the_image_network_alone_costs_less(bench):
    (video,), (image,) = bench("denoise", "--on", "1"), bench("denoise", "--on", "1", "--image")
    assert 0 < float(image["TFLOP"]) < float(video["TFLOP"])


def test_torch_that_is_not_there_is_one_sentence(tmp_path, capsys, monkeypatch):
    file = tmp_path / "config.py"
    file.write_text(CONFIG)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["bench", "denoise", "--config", str(file), "--against", "torch"]) == 2
    assert "needs torch, which is not here: pip install" in capsys.readouterr().err


@pytest.mark.slow
def test_metrics_are_those_of_torch(capsys):
    assert main(["fetch"]) == 0
    assert main(["bench", "metrics", "--clips", "2", "--frames", "16", "--repeats", "1", "--against", "torch"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.split()[0] in METRICS]
    assert [line[0] for line in lines] == METRICS
    assert all(float(line[-1]) < 1e-3 and float(line[-2]) > 0 for line in lines)


METRICS = ["fvd", "i3d", "lpips", "lpips-vgg", "frechet"]
