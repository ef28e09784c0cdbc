"""The command's own part: what it refuses, in one sentence, before anything is made; and overrides."""

from types import SimpleNamespace

import pytest

from gp_jax.cli.main import main
from gp_jax.evaluation import harness, results
from gp_jax.training import loop

FILE = """
from gp_jax.training.config import default_config
def get_config(arm="a"):
    return default_config("keyframes")
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "c.py").write_text(FILE)
    return str(tmp_path / "c.py")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--config", "nothing.py", "--workdir", "w"],
        ["--config", "FILE", "--workdir", "w", "--config.stage=other"],
        ["--config", "FILE", "--workdir", "w", "--config.steps=x"],
        ["--config", "FILE", "--workdir", "w", "--step", "3"],
        ["--config", "FILE", "--workdir", "w", "--init-from", "nowhere"],
        ["--config", "FILE", "--workdir", "w", "--process-id", "1"],
        ["--config", "FILE", "--workdir", "w", "--coordinator", "auto", "--num-processes", "2", "--process-id", "1"],
        ["--config", "FILE", "--workdir", "w", "--coordinator", "127.0.0.1:1"],
        ["--config", "FILE", "--workdir", "w", "--config.data.records=('nowhere',)"],
        ["--config", "FILE", "--workdir", "w", "--config.samples.interval=1", "--config.evaluation.protocol=m3ddm256"],
        ["--config", "FILE", "--workdir", "w", "--config.samples.interval=1", "--config.evaluation.protocol=m3ddm-256"],
        ["--config", "FILE", "--workdir", "w", "--config.evaluation.protocol=m3ddm-256"],
    ],
    ids=lambda arguments: " ".join(arguments[4:] or arguments),
)
def test_mistakes_are_one_sentence_and_exit_code_2(file, tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *(file if x == "FILE" else x for x in arguments)]) == 2
    printed = capsys.readouterr()
    assert not printed.out and printed.err.startswith("gp-jax: ") and printed.err.count("\n") == 1
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("finished, printed", [(True, "7 steps, stage keyframes"), (False, "stopped by SIGTERM")])
def test_overrides_reach_the_run_and_its_end_is_told(file, tmp_path, monkeypatch, capsys, finished, printed):
    def train(config, workdir, *, show, **_):
        assert (config.steps, config.init_from, workdir) == (7, "tiny", tmp_path / "w")
        show({"step": 1, "loss": 0.5, "loss_by_time": [1.0], "mfu": None})
        return finished

    monkeypatch.setattr(loop, "train", train)
    arguments = ["--config", f"{file}:b", "--workdir", str(tmp_path / "w"), "--config.steps=7", "--init-from", "tiny"]
    assert main(["train", *arguments]) == 0
    found = capsys.readouterr()
    assert printed in found.out + found.err and "step 1  loss 0.5\n" in found.err


def test_a_protocol_is_evaluated_with_each_sample(file, tmp_path, monkeypatch):
    calls = []
    score = SimpleNamespace(case="0.25", region="unknown", metric="psnr", value=12.5)
    monkeypatch.setattr(harness, "evaluate", lambda output, **options: calls.append((output, options)))
    monkeypatch.setattr(results, "Results", lambda output: SimpleNamespace(scores=lambda: [score]))
    monkeypatch.setattr(loop, "train", lambda *_, evaluate, **__: calls.append(evaluate("tiny", 30)) or True)
    monkeypatch.setattr(harness, "open_clips", lambda *names: calls.append(names))
    overrides = ["--config.evaluation.protocol=m3ddm-256", "--config.evaluation.data=DAVIS"]
    overrides.append("--config.samples.interval=10")
    assert main(["train", "--config", file, "--workdir", str(tmp_path), *overrides]) == 0
    looked_for, (output, options), found = calls
    assert looked_for == ("m3ddm-256", "davis", "DAVIS", None)
    assert output == tmp_path / "evaluation" / "0000030" and options["protocol"] == "m3ddm-256"
    assert options["methods"]["globalpaint"].method.checkpoint == "tiny" and found == {"0.25/unknown/psnr": 12.5}
