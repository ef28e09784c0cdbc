"""A job that ended well is not run again; one that failed, or had no time, is."""

import subprocess
import sys

import bench_accelerator
import pytest


def bench(monkeypatch, tmp_path, *options):
    """The exit status of the tool."""
    monkeypatch.setattr(sys, "argv", ["bench_accelerator.py", "--output", str(tmp_path / "out"), *options])
    with pytest.raises(SystemExit) as ended:
        bench_accelerator.main()
    return ended.value.code


def test_the_same_command_goes_on(monkeypatch, tmp_path, capfd):
    ran = []

    def run(command, timeout, **_):
        ran.append(command[3:])
        if "step" in command:
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, int("vae" in command and len(ran) < 4), "a table\n")

    monkeypatch.setattr(subprocess, "run", run)
    options = "--only", "^(step|vae|pipeline)$", "--sizes", "64x32", "--config", "my.py"
    assert bench(monkeypatch, tmp_path, *options) == 1
    assert [words[1] for words in ran] == ["step", "pipeline", "vae"]
    assert ran[1][2:] == [
        *("--source", "48x32", "--size", "64x32", "--config.settings.native_area=2048"),
        *("--steps", "25", "--guidance", "2", "--config", "my.py"),
    ]
    out, err = capfd.readouterr()
    assert out.count("a table") == 1 and err.endswith("missing: step-64x32 vae-64x32\n")
    assert bench(monkeypatch, tmp_path, *options) == 1
    assert [words[1] for words in ran[3:]] == ["step", "vae"]
    out, err = capfd.readouterr()
    assert out.count("a table") == 2 and err.endswith("missing: step-64x32\n")


def test_a_limit_ends_them_all(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("there was no time left"))
    clock = iter(range(0, 1000, 60))
    monkeypatch.setattr(bench_accelerator.time, "monotonic", lambda: next(clock))
    assert bench(monkeypatch, tmp_path, "--limit", "30", "--only", "vae") == 1
    assert "missing: vae-256x256 vae-512x512" in capfd.readouterr().err


def test_it_runs_what_is_written(monkeypatch, tmp_path, capfd):
    """A real job, of the small model."""
    options = "--config", "configs/tiny.py:autoencoder", "--sizes", "64x64", "--only", "^vae$"
    assert bench(monkeypatch, tmp_path, *options) == 0
    assert "gp-jax bench vae --config.data.size=64x64" in capfd.readouterr().out


def test_no_job_of_that_name(monkeypatch, tmp_path, capfd):
    assert bench(monkeypatch, tmp_path, "--only", "nothing") == 2
    assert "--only nothing finds none of denoise-image" in capfd.readouterr().err and not list(tmp_path.iterdir())
