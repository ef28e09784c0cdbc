"""A job that ended well is not run again; one that failed, or had no time, is."""

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

    def printed(words, seconds):
        ran.append(words[2:])
        return None if "step" in words or ("vae" in words and len(ran) < 4) else "a table\n"

    monkeypatch.setattr(bench_accelerator, "_printed", printed)
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
    monkeypatch.setattr(bench_accelerator, "_printed", lambda *_: pytest.fail("there was no time left"))
    clock = iter(range(0, 1000, 60))
    monkeypatch.setattr(bench_accelerator.time, "monotonic", lambda: next(clock))
    assert bench(monkeypatch, tmp_path, "--limit", "30", "--only", "vae") == 1
    assert "missing: vae-256x256 vae-512x512" in capfd.readouterr().err


def test_what_takes_too_long_ends_by_itself_and_what_fails_prints_nothing(tmp_path):
    """A kill would leave behind what it has started."""
    waits = "import sys, time, pathlib\nfrom gp_jax.cli.ending import unwind_at_signals\nunwind_at_signals()\n"
    waits += "try:\n    time.sleep(60)\nfinally:\n    pathlib.Path(sys.argv[1]).touch()"
    assert bench_accelerator._printed(["-c", waits, str(tmp_path / "ended")], 5) is None
    assert (tmp_path / "ended").exists()
    assert bench_accelerator._printed(["-c", "print(1); exit(2)"], 9) is None
    assert bench_accelerator._printed(["-c", "print(1)"], float("inf")) == "1\n"


def test_it_runs_what_is_written(monkeypatch, tmp_path, capfd):
    """A real job, of the small model."""
    options = "--config", "configs/tiny.py:autoencoder", "--sizes", "64x64", "--only", "^vae$"
    assert bench(monkeypatch, tmp_path, *options) == 0
    assert "gp-jax bench vae --config.data.size=64x64" in capfd.readouterr().out


@pytest.mark.parametrize(
    "pattern, sentence",
    [("nothing", "--only nothing finds none of denoise-image"), ("(step", "'(step' is no regular expression")],
)
def test_patterns_that_find_nothing(monkeypatch, tmp_path, capfd, pattern, sentence):
    assert bench(monkeypatch, tmp_path, "--only", pattern) == 2
    assert sentence in capfd.readouterr().err and not list(tmp_path.iterdir())
