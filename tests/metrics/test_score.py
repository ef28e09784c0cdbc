"""Scoring files: the same numbers as on arrays, and no clip that goes missing quietly."""

import shutil
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from gp_jax.errors import UserError
from gp_jax.metrics import METRICS, flicker, frechet, psnr
from gp_jax.metrics.score import CHUNK, Pair, clip_states, frame_values, measure, pair_up, windows
from gp_jax.video import VideoWriter
from tests.metrics.stand_ins import Pool


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


@pytest.mark.parametrize("name", ["psnr", "psnr-clip", "flicker", "pulse"])
@pytest.mark.parametrize("frames", [2, 15, 16, 17, 19, 33])
def test_a_clip_in_chunks_has_the_values_of_the_whole(name, frames):
    a, b = np.random.default_rng(frames).integers(0, 256, (2, frames, 13, 14, 3), np.uint8)
    mask = np.ones((13, 14), np.float32)
    whole = METRICS[name].frames(a[None], b[None], mask)
    np.testing.assert_allclose(frame_values(METRICS[name], a, b, mask), whole.values[0], rtol=1e-6)
    (state,) = clip_states(a, b, {("whole", name): (METRICS[name], mask)}).values()
    np.testing.assert_allclose(METRICS[name].compute(state), METRICS[name](a[None], b[None]), rtol=1e-6)


@pytest.mark.parametrize("frames", [1, 15, 16, 17, 32, 33, 40])
def test_windows_begin_every_chunk_and_reach_one_frame_further(frames):
    a, b = np.arange(2 * frames).reshape(2, frames)
    for start, here, there in windows(a, b):
        np.testing.assert_array_equal(here, a[start : start + CHUNK + 1])
        np.testing.assert_array_equal(there, b[start : start + CHUNK + 1])
    assert start == (frames - 1) // CHUNK * CHUNK


@pytest.mark.parametrize("preset, frames", [("fvd", 21), ("fvd-stylegan-v", 40), ("fvd-videogpt", 40)])
def test_fvd_of_a_clip_in_chunks_is_that_of_the_whole(preset, frames, monkeypatch):
    monkeypatch.setattr(frechet, "load_i3d", Pool)
    a, b = np.random.default_rng(frames).integers(0, 256, (2, frames, 13, 14, 3), np.uint8)
    mask = np.ones((13, 14), np.float32)
    mask[:, :5] = 0
    (state,) = clip_states(a, b, {("part", preset): (METRICS[preset], mask)}).values()
    for here, there in zip(state, METRICS[preset].state(a[None], b[None], mask)):
        np.testing.assert_allclose(here.mean, there.mean, rtol=1e-6)


def test_memory_does_not_grow_with_the_length_of_a_clip(tmp_path):
    names = [name for name in METRICS if not METRICS[name].weights]

    def peak(frames: int) -> int:
        path = tmp_path / f"{frames}.mp4"
        rows = np.arange(144, dtype=np.uint8)[:, None, None]
        with VideoWriter(path, 25, overwrite=True) as writer:
            for index in range(frames):
                writer.write(np.broadcast_to(rows + np.uint8(index), (144, 176, 3)).copy())
        tracemalloc.start()
        scores = measure(pair_up(path, path), names)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert all(score.frames == frames for score in scores)
        return most

    peak(50)  # compiles
    # 200 frames of both clips are 30 MB; two windows of 2.6 MB each may be alive at once or not.
    assert peak(250) - peak(50) < 2**23


def test_a_region_without_a_pixel_has_a_note_in_every_metric(folders, monkeypatch):
    monkeypatch.setattr(frechet, "load_i3d", Pool)
    scores = measure(pair_up(*folders), list(METRICS), lambda h, w: {"nowhere": np.zeros((h, w), np.float32)})
    assert len(scores) == len(METRICS)
    assert all(score.value is None and ("needed" in score.note or "nothing to" in score.note) for score in scores)


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


def test_a_picture_among_clips_is_named(folders):
    shutil.copy(folders[0] / "pond" / "00003.png", folders[0] / "cover.png")
    with pytest.raises(UserError, match=r"true has the picture cover.png beside pond: give a folder of pictures"):
        pair_up(*folders)


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
