"""What is drawn is what the log says."""

import json
import sys

import pytest
from jobs import run
from PIL import Image
from plot_training import curve, main, parse


@pytest.fixture
def workdir(tmp_path):
    folder = tmp_path / "est-0"
    folder.mkdir()
    lines = [{"step": 10, "loss": 0.5}, {"step": 10, "validation_loss": 0.7}, {"step": 20, "loss": None}]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_curve_has_the_numbers_of_the_log(workdir):
    assert curve(workdir, "loss") == ([10], [0.5])
    assert curve(workdir, "validation_loss") == ([10], [0.7])


def test_a_picture_is_written_and_a_folder_without_log_is_named(workdir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["plot_training.py", str(tmp_path / "curves.png"), str(workdir)])
    main(parse())
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1100, 374)
    monkeypatch.setattr(sys, "argv", ["plot_training.py", str(tmp_path / "other.png"), str(tmp_path)])
    with pytest.raises(SystemExit):
        run(main, parse())
    assert "has no log" in capsys.readouterr().err and not (tmp_path / "other.png").exists()


def test_a_damaged_log_is_told(workdir, tmp_path, monkeypatch, capsys):
    log = workdir / "log.jsonl"
    log.write_text("no line of a log\n" + log.read_text())
    monkeypatch.setattr(sys, "argv", ["plot_training.py", str(tmp_path / "curves.png"), str(workdir)])
    with pytest.raises(SystemExit) as stopped:
        run(main, parse())
    assert stopped.value.code == 2 and str(log) in capsys.readouterr().err


@pytest.mark.parametrize(("name", "told"), [("a", "in no format"), ("a.mp4", "in no format"), ("full.png", "a folder")])
def test_a_picture_that_cannot_be_written_is_told(workdir, tmp_path, monkeypatch, capsys, name, told):
    (tmp_path / "full.png").mkdir()
    monkeypatch.setattr(sys, "argv", ["plot_training.py", str(tmp_path / name), str(workdir)])
    with pytest.raises(SystemExit):
        run(main, parse())
    assert told in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["est-0", "full.png"]
