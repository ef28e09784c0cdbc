"""What a tool cannot do is told as the commands tell it: one sentence, and exit status 2."""

import importlib
import sys

import pytest
from jobs import run


@pytest.mark.parametrize(
    "tool, words, sentence",
    [
        ("bench_shots", ["nowhere"], "there is no folder nowhere/JPEGImages/480p"),
        ("bench_seams", ["nowhere"], "there is no folder nowhere/JPEGImages/480p"),
        ("bench_detail", ["nowhere.mp4"], "nowhere.mp4"),
        ("bench_flashes", ["nowhere.mp4"], "nowhere.mp4"),
        ("build_test_clips", ["--data", "/dev/null/x"], "cannot write /dev/null/x/downloads/"),
        ("build_test_clips", ["--data", "out", "--frames", "15"], "--frames 15 is less than the 16"),
        ("fetch_training_data", ["--data", "/dev/null/x"], "cannot write /dev/null/x/downloads/"),
        ("prepare_tfds", ["youtube-vos", "out", "--folder", "nowhere"], "nowhere is not YouTube-VOS"),
    ],
)
def test_mistakes_are_one_sentence(tool, words, sentence, monkeypatch, capsys):
    module = importlib.import_module(tool)
    monkeypatch.setattr(sys, "argv", [f"{tool}.py", *words])
    with pytest.raises(SystemExit) as stopped:
        run(module.prepare if tool == "prepare_tfds" else module.main, module.parse())
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and sentence in told and told.count("\n") == 1


def test_flow_of_a_single_frame_is_refused(monkeypatch, capsys):
    bench_flow = importlib.import_module("bench_flow")
    monkeypatch.setattr(sys, "argv", ["bench_flow.py", "--frames", "1"])
    with pytest.raises(SystemExit):
        bench_flow.main()
    assert "flow is between two frames at least" in capsys.readouterr().err
