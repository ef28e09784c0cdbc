"""What is drawn is what the log says."""

import json
import sys

import plot_training
import pytest
from PIL import Image


@pytest.fixture
def workdir(tmp_path):
    folder = tmp_path / "est-0"
    folder.mkdir()
    lines = [{"step": 10, "loss": 0.5}, {"step": 10, "validation_loss": 0.7}, {"step": 20, "loss": None}]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_curve_has_the_numbers_of_the_log(workdir):
    assert plot_training.curve(workdir, "loss") == ([10], [0.5])
    assert plot_training.curve(workdir, "validation_loss") == ([10], [0.7])


def test_a_picture_is_written_and_a_folder_without_log_is_named(workdir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["plot_training.py", str(tmp_path / "curves.png"), str(workdir)])
    plot_training.main()
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1100, 374)
    monkeypatch.setattr(sys, "argv", ["plot_training.py", str(tmp_path / "other.png"), str(tmp_path)])
    with pytest.raises(SystemExit):
        plot_training.main()
    assert "has no log" in capsys.readouterr().err and not (tmp_path / "other.png").exists()


@pytest.mark.parametrize(("name", "told"), [("a", "in no format"), ("a.mp4", "in no format"), ("full.png", "a folder")])
def test_a_picture_that_cannot_be_written_is_told(workdir, tmp_path, monkeypatch, capsys, name, told):
    (tmp_path / "full.png").mkdir()
    monkeypatch.setattr(sys, "argv", ["plot_training.py", str(tmp_path / name), str(workdir)])
    with pytest.raises(SystemExit):
        plot_training.main()
    assert told in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["est-0", "full.png"]
