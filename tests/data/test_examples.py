"""A segment keeps to its clip, its canvas and its stride, and the vision tower sees the observed rectangle alone."""

import dataclasses

import numpy as np
import pytest

from gp_jax.data.clips import Clip, pack_clip
from gp_jax.data.config import DataConfig
from gp_jax.data.examples import make_example
from gp_jax.errors import UserError

SIZE, TOTAL = (16, 24), 23
CONFIG = DataConfig(
    records=("unused",),
    segment_frames=4,
    strides=(2, 3, 9),
    paces=(1, 5),
    feature_frames=5,
    view_size=8,
    view_patch=4,
    downsampling=4,
)


def clip_of(video, **facts):
    return Clip.from_record(pack_clip(video, {"key": "a", **facts}, "png"))


@pytest.fixture(scope="module")
def video():
    return np.random.default_rng(0).integers(0, 256, (TOTAL, *SIZE, 3)).astype(np.uint8)


def draws(video, config=CONFIG, count=40):
    clip = clip_of(video)
    return [make_example(clip, SIZE, np.random.default_rng(seed), config) for seed in range(count)]


def test_frames_are_evenly_spaced_and_are_the_frames_of_the_pixels(video):
    seen = set()
    for example in draws(video):
        pace = next(p for p in (1, 5) for f in [example["frames"] // p] if _shows(example, video, f))
        frames = example["frames"] // pace
        assert frames[0] >= 0 and frames[-1] < TOTAL
        [stride] = set(np.diff(frames))
        seen.add((int(stride), pace))
    # A stride of 9 does not fit 23 frames; 7 does.
    assert seen == {(stride, pace) for stride in (2, 3, 7) for pace in (1, 5)}


def _shows(example, video, frames):
    if frames[-1] >= TOTAL or np.any(example["frames"] % frames.clip(1)):
        return False
    return any(np.array_equal(example["pixels"], video[frames][:, :, ::step]) for step in (1, -1))


def test_masks_agree_and_canvases_lie_within_bounds(video):
    config = dataclasses.replace(CONFIG, ratio_range=(0.3, 0.5))
    for example in draws(video, config):
        unknown = example["pixel_mask"].mean()
        assert 0.2 < unknown < 0.6  # rounding to whole pixels of a small frame
        cells = example["pixel_mask"].reshape(4, 4, 6, 4).max(axis=(1, 3))
        np.testing.assert_array_equal(example["latent_mask"], cells)


def test_unknown_pixels_change_nothing_but_pixels(video):
    for seed in range(10):
        one = make_example(clip_of(video), SIZE, np.random.default_rng(seed), CONFIG)
        mask = one["pixel_mask"][None, ..., None] == 1
        mirrored = not any(np.array_equal(one["pixels"][0], frame) for frame in video)
        mask = mask[:, :, ::-1] if mirrored else mask
        other = make_example(clip_of(np.where(mask, 255 - video, video)), SIZE, np.random.default_rng(seed), CONFIG)
        assert np.any(one["pixels"] != other["pixels"])
        for key in one.keys() - {"pixels"}:
            np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_views_lie_within_the_observed_rectangle_and_fill_up_with_invalid_ones(video):
    for example in draws(video[:4], count=10):
        assert example["valid"].tolist() == [True] * 4 + [False]
        np.testing.assert_allclose(example["times"], [0, 1 / 3, 2 / 3, 1, 0], atol=1e-6)
        rows, columns = (example["positions"][0] * SIZE).astype(int).T
        assert np.all(example["pixel_mask"][rows, columns] == 0)
        assert example["views"].shape == (5, 8, 8, 3)


def test_flips_canvases_and_boundaries_can_be_chosen(video):
    config = dataclasses.replace(CONFIG, flip=False, known="ends", directions=("vertical",), feature_frames=0)
    for example in draws(video, config, count=10):
        assert _shows(example, video, example["frames"]) or _shows(example, video, example["frames"] // 5)
        assert example["known"].tolist() == [True, False, False, True]
        assert set(example["pixel_mask"].mean(axis=1)) <= {0.0, 1.0}  # whole rows
        assert "views" not in example
    images = draws(video, dataclasses.replace(config, segment_frames=1, known="none"), count=5)
    assert all(image["pixels"].shape == (1, *SIZE, 3) for image in images)


WHOLE = dataclasses.replace(
    CONFIG,
    strides=(1, 2, 3, 9),
    short="fewer",
    paces=(1,),
    feature_frames=0,
    global_frames=6,
    known="m3ddm",
    flip=False,
)


def test_whole_frames_are_spread_over_the_clip_and_hidden_where_they_are_to_be_made(video):
    for example in draws(video, WHOLE):
        np.testing.assert_array_equal(example["clip"], video[[0, 4, 8, 13, 17, 22]])
        first, last = example["frames"][[0, -1]]
        for frame, is_hidden in zip([0, 4, 8, 13, 17, 22], example["clip_hidden"]):
            place = np.flatnonzero(example["frames"] == frame)
            assert is_hidden == (first <= frame <= last and not example["known"][place].any())


@pytest.mark.parametrize("facts, rate", [({}, 24), ({"frame_rate": 25.0}, 25), ({"frame_rate": 29.97}, 29.97)])
def test_the_rate_is_that_of_the_segment_in_whole_frames(video, facts, rate):
    for seed in range(10):
        example = make_example(clip_of(video, **facts), SIZE, np.random.default_rng(seed), WHOLE)
        stride = example["frames"][1] - example["frames"][0]
        assert example["rate"] == rate // stride and example["rate"].dtype == np.float32


def test_strides_that_do_not_fit_are_left_out_and_where_none_does_the_longest_is_taken(video):
    strides = [x["frames"][1] - x["frames"][0] for x in draws(video, WHOLE, 600)]
    np.testing.assert_allclose(np.bincount(strides, minlength=4), [0, 200, 200, 200], atol=40)
    lone = draws(video, dataclasses.replace(WHOLE, strides=(9,)), 5)
    assert {x["frames"][1] - x["frames"][0] for x in lone} == {7}


def test_m3ddm_knows_no_frame_or_the_ends_or_half_of_them(video):
    known = np.stack([x["known"] for x in draws(video, WHOLE, 800)])
    none, ends = ~known.any(axis=1), (known == [True, False, False, True]).all(axis=1)
    half = 0.35 / 16  # of the third kind, those that look like the others
    np.testing.assert_allclose([none.mean(), ends.mean()], [0.3 + half, 0.35 + half], atol=0.05)
    others = known[~none & ~ends]
    np.testing.assert_allclose(others.mean(axis=0), [0.5] * 4, atol=0.1)


def test_a_clip_of_another_size_is_told(video):
    with pytest.raises(UserError, match="24x16, not 16x24"):
        make_example(clip_of(video), (24, 16), np.random.default_rng(0), CONFIG)


@pytest.mark.parametrize(
    "changes",
    [{"known": "middle"}, {"known": "ends", "segment_frames": 2}, {"ratio_range": (0.5, 0.2)}, {"view_patch": 3},
     {"strides": (0,)}, {"records": ()}, {"directions": ("inwards",)}, {"short": "none"},
     {"global_frames": 3, "segment_frames": 1}],
)  # fmt: skip
def test_contradictions_are_told(changes):
    with pytest.raises(UserError, match="data configuration"):
        dataclasses.replace(CONFIG, **changes)
