"""Scoring files: the same numbers as on arrays, and no clip that goes missing quietly."""

import shutil

import numpy as np
import pytest
from PIL import Image

from gp_jax.errors import UserError
from gp_jax.metrics import METRICS, flicker, psnr
from gp_jax.metrics.score import Pair, clip_state, frame_values, measure, pair_up


def write(folder, video):
    folder.mkdir(parents=True)
    for index, frame in enumerate(video):
        Image.fromarray(frame).save(folder / f"{index:05}.png")


@pytest.fixture
def folders(tmp_path):
    """Two folders of two clips, 9 and 21 frames of 24x20 pixels."""
    rng = np.random.default_rng(0)
    for name, frames in (("pond", 9), ("reed", 21)):
        reference = rng.integers(0, 256, (frames, 20, 24, 3), np.uint8)
        write(tmp_path / "true" / name, reference)
        write(tmp_path / "made" / name, reference // 2)
    return tmp_path / "true", tmp_path / "made"


@pytest.mark.parametrize("name", ["psnr", "psnr-clip", "flicker"])
@pytest.mark.parametrize("frames", [3, 19])
def test_a_clip_in_chunks_has_the_values_of_the_whole(name, frames):
    a, b = np.random.default_rng(frames).integers(0, 256, (2, frames, 13, 14, 3), np.uint8)
    mask = np.ones((13, 14), np.float32)
    whole = METRICS[name].frames(a[None], b[None], mask)
    np.testing.assert_allclose(frame_values(METRICS[name], a, b, mask), whole.values[0], rtol=1e-6)
    state = clip_state(METRICS[name], a, b, mask)
    np.testing.assert_allclose(METRICS[name].compute(state), METRICS[name](a[None], b[None]), rtol=1e-6)


def test_frames_of_all_clips_count_alike(folders):
    pairs = pair_up(*folders)
    assert [pair.name for pair in pairs] == ["pond", "reed"]
    apart = [measure([pair], ["psnr"])[0] for pair in pairs]
    (both,) = measure(pairs, ["psnr"])
    assert (both.clips, both.frames, both.region, both.resolution) == (2, 30, "whole", "24x20")
    np.testing.assert_allclose(both.value, sum(one.value * one.frames for one in apart) / 30, rtol=1e-6)


def test_regions_are_scored_apart(folders):
    def halves(height, width):
        left = np.zeros((height, width), np.float32)
        left[:, : width // 2] = 1
        return {"left": left, "right": 1 - left}

    scores = measure(pair_up(*folders), ["psnr", "flicker"], halves)
    assert [(s.metric, s.region) for s in scores] == [
        ("psnr", "left"),
        ("flicker", "left"),
        ("psnr", "right"),
        ("flicker", "right"),
    ]
    assert len({score.value for score in scores}) == 4


def test_clips_of_other_sizes_meet_at_the_size_that_is_asked_for(folders, tmp_path):
    write(tmp_path / "small", np.full((9, 10, 12, 3), 9, np.uint8))
    pair = Pair("pond", folders[0] / "pond", tmp_path / "small")
    assert measure([pair], ["psnr"], size=(32, 32))[0].resolution == "32x32"
    with pytest.raises(UserError, match=r"pond.*12x10.*24x20"):
        measure([pair], ["psnr"])


def test_two_clips_are_a_pair(folders):
    (pair,) = pair_up(folders[0] / "pond", folders[1] / "pond")
    assert pair.name == "pond"
    with pytest.raises(UserError, match="one clip"):
        pair_up(folders[0] / "pond", folders[1])


def test_a_clip_that_is_missing_or_short_is_named(folders):
    shutil.rmtree(folders[1] / "pond")
    with pytest.raises(UserError, match="made has no clip pond"):
        pair_up(*folders)
    (folders[1] / "reed" / "00020.png").unlink()
    with pytest.raises(UserError, match=r"reed.*20 frames.*21"):
        measure([Pair("reed", folders[0] / "reed", folders[1] / "reed")], ["psnr"])


def test_two_clips_of_one_name_are_refused(folders):
    (folders[1] / "pond.mp4").write_bytes(b"")
    with pytest.raises(UserError, match="two clips of the name pond"):
        pair_up(*folders)


def test_what_cannot_be_measured_has_a_note_and_no_number(folders):
    pairs = pair_up(*folders)
    scores = {(s.metric, s.preset): s for s in measure(pairs, ["fvd-videogpt", "lpips", "seam", "psnr"])}
    assert "pond has 9 frames, 16 are needed" in scores["fvd", "videogpt"].note
    assert "pond is 24x20, 31 pixels are needed" in scores["lpips", "alex"].note
    assert "nothing to measure" in scores["seam", "slope"].note
    assert {score.metric for score in scores.values() if score.value is not None} == {"psnr"}


def test_unknown_metrics_are_refused(folders):
    with pytest.raises(UserError, match="there is no metric psrn"):
        measure(pair_up(*folders), ["psrn"])


def test_every_metric_has_a_name_of_its_own():
    assert len({(metric.name, metric.preset) for metric in METRICS.values()}) == len(METRICS)
    assert (psnr.better, flicker.better) == ("higher", "lower")
