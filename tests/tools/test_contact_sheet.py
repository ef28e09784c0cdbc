"""The picture of a result: the frames that were asked for, where they belong."""

import sys

import contact_sheet as tool
import numpy as np
import pytest
from contact_sheet import GAP, contact_sheet, tile
from PIL import Image

from gp_jax.errors import UserError


class Clip:
    def __init__(self, frames):
        self.frames = frames

    def __len__(self):
        return len(self.frames)

    def frames_at(self, indices):
        return (self.frames[index] for index in indices)


def films(frames=5):
    """A source of 6x4 and a result of 10x4 pixels, whose grey values tell the frame's number."""
    numbers = np.arange(frames, dtype=np.uint8)[:, None, None, None]
    return numbers * np.ones((1, 4, 6, 3), np.uint8), 100 + numbers * np.ones((1, 4, 10, 3), np.uint8)


def test_first_and_last_frame_above_each_other():
    sheet = contact_sheet(*map(Clip, films()), 3)
    assert sheet.shape == (2 * (4 + GAP), 3 * (10 + GAP), 3)
    middle = [(10 + GAP) * i + 8 for i in range(3)]
    assert [sheet[5, x, 0] for x in middle] == [0, 2, 4]
    assert [sheet[15, x, 0] for x in middle] == [100, 102, 104]
    assert (sheet[0, :3] == 255).all()


def test_a_height_scales_source_and_result_alike():
    assert contact_sheet(*map(Clip, films()), 2, height=8).shape == (2 * (8 + GAP), 2 * (20 + GAP), 3)


def test_sheets_of_several_clips_lie_in_columns():
    a, b, c = (np.full((4, 6, 3), value, np.uint8) for value in (1, 2, 3))
    page = tile([a, b, c], columns=2)
    assert page.shape == (2 * (4 + 2 * GAP), 2 * (6 + 2 * GAP), 3)
    assert (page[0, 0, 0], page[0, 6 + 2 * GAP, 0], page[4 + 2 * GAP, 0, 0], page[-1, -1, 0]) == (1, 2, 3, 255)


def test_clips_of_different_length_are_refused():
    clip = np.zeros((3, 2, 2, 3), np.uint8)
    with pytest.raises(UserError, match="2 frames, the result 3"):
        contact_sheet(Clip(clip[:2]), Clip(clip), 2)
    with pytest.raises(UserError, match="--frames 4 is more than the 3 frames"):
        contact_sheet(Clip(clip), Clip(clip), 4)


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".jpeg", ".webp"])
def test_a_picture_takes_the_place_of_the_old_one(tmp_path, monkeypatch, suffix):
    picture = tmp_path / f"sheet{suffix}"
    picture.write_bytes(b"old")
    monkeypatch.setattr(tool, "VideoReader", lambda name: Clip(films()[name == "b"]))
    monkeypatch.setattr(sys, "argv", ["contact_sheet.py", "a", "b", str(picture), "--frames", "2"])
    tool.main()
    with Image.open(picture) as image:
        assert image.size == (2 * (10 + GAP), 2 * (4 + GAP))
    assert list(tmp_path.iterdir()) == [picture]


@pytest.mark.parametrize("option", ["--frames=0", "--columns=0", "--height=-4"])
def test_a_number_that_makes_no_picture_is_refused(tmp_path, monkeypatch, capsys, option):
    monkeypatch.setattr(sys, "argv", ["contact_sheet.py", "a", "b", str(tmp_path / "sheet.png"), option])
    with pytest.raises(SystemExit):
        tool.main()
    assert "is not a whole number from 1 on" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["sheet", "sheet.mp4", "sheet.xyz"])
def test_another_kind_of_file_is_refused_before_the_work(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(sys, "argv", ["contact_sheet.py", "nothing", "nothing", str(tmp_path / name)])
    with pytest.raises(SystemExit):
        tool.main()
    assert "is no picture" in capsys.readouterr().err and not list(tmp_path.iterdir())
