"""What no metric takes is refused in one sentence before anything is computed, by every metric alike."""

import jax.numpy as jnp
import numpy as np
import pytest

from gp_jax.checkpoint.parameters import abstract
from gp_jax.errors import UserError
from gp_jax.metrics import METRICS, frechet, lpips_map
from gp_jax.metrics.frechet import FLAVOURS, video_moments
from gp_jax.metrics.perceptual import LPIPS, MIN_SIDES
from tests.metrics.stand_ins import Pool

GOOD = np.zeros((2, 16, 40, 48, 3), np.uint8)
FLOAT = GOOD / np.float32(127.5) - 1

VIDEOS = {
    "int32 pixels": GOOD.astype(np.int32),
    "uint16 pixels": GOOD.astype(np.uint16),
    "int8 pixels": GOOD.astype(np.int8),
    "truth values": GOOD.astype(bool),
    "complex pixels": FLOAT + 0j,
    "no array": GOOD[:1, :1, :1, :1].tolist(),
    "floats to 255": GOOD.astype(np.float32) + 255,
    "floats below -1": FLOAT - 0.01,
    "NaN": np.where(np.arange(3) == 1, np.nan, FLOAT),
    "infinity": jnp.full(GOOD.shape, -jnp.inf),
    "half precision out of range": np.full(GOOD.shape, 2, np.float16),
    "no batch": GOOD[0],
    "grey": GOOD[..., :1],
    "with alpha": np.zeros((2, 16, 40, 48, 4), np.uint8),
    "no clips": GOOD[:0],
    "no frames": GOOD[:, :0],
    "no rows": GOOD[:, :, :0],
    "no columns": GOOD[..., :0, :],
}
MASKS = {
    "other rows": np.ones((39, 48)),
    "an axis too many": np.ones((1, 2, 16, 40, 48)),
    "colours": np.ones((40, 48, 3)),
    "other frames": np.ones((15, 40, 48)),
    "bytes to 255": np.full((40, 48), 255, np.uint8),
    "soft": np.full((40, 48), 0.5),
    "negative": np.full((40, 48), -1),
    "NaN": np.full((40, 48), np.nan),
    "text": np.full((40, 48), "1"),
    "complex": np.ones((40, 48), complex),
    "no array": np.ones((40, 48), int).tolist(),
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(frechet, "load_i3d", Pool)


def one_sentence(refusal) -> bool:
    return "\n" not in str(refusal.value) and len(str(refusal.value)) < 200


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("bad", VIDEOS.values(), ids=VIDEOS)
def test_arrays_that_are_no_videos(name, bad):
    for videos, which in (((bad, GOOD), "reference"), ((GOOD, bad), "generated")):
        for face in (METRICS[name], METRICS[name].state, METRICS[name].frames or METRICS[name]):
            with pytest.raises(UserError, match=which) as refusal:
                face(*videos)
            assert one_sentence(refusal)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_masks_that_do_not_fit(name, mask):
    with pytest.raises(UserError, match="mask") as refusal:
        METRICS[name](GOOD, GOOD, mask)
    assert one_sentence(refusal)


@pytest.mark.parametrize("other", [GOOD[:1], GOOD[:, :15], GOOD[:, :1], GOOD[:, :, :38], GOOD[..., :46, :]])
@pytest.mark.parametrize("name", [name for name in METRICS if METRICS[name].paired])
def test_nothing_is_broadcast(name, other):
    for videos in ((GOOD, other), (other, GOOD)):
        with pytest.raises(UserError, match="of one shape"):
            METRICS[name](*videos)


@pytest.mark.parametrize("name", METRICS)
def test_clips_that_are_too_few_too_short_or_too_small(name):
    metric = METRICS[name]
    side = metric.min_side - 1
    cases = [(GOOD[: metric.min_clips - 1], f"of {metric.min_clips} clips")] * (metric.min_clips > 1)
    few = metric.min_frames - 1
    told = f"has 1 frame, {few + 1} are needed" if few == 1 else f"has {few} frames, {few + 1} are needed"
    cases += [(GOOD[:, :few], told)] * (few > 0)
    cases += [(GOOD[:, :, :side], "pixels are needed"), (GOOD[..., :side, :], "pixels are needed")] * (side > 0)
    for videos, sentence in cases:
        with pytest.raises(UserError, match=sentence):
            metric(videos, videos)


@pytest.mark.parametrize("net", MIN_SIDES)
def test_lpips_as_a_loss_is_refused_where_it_would_see_nothing(net):
    small = jnp.zeros((1, MIN_SIDES[net] - 1, 64, 3))
    with pytest.raises(UserError, match="sees nothing"):
        abstract(LPIPS, net)(small, small)


@pytest.mark.parametrize("bad", [GOOD.astype(np.int32), GOOD[..., :1], GOOD[:, :0], FLOAT + 3, np.nan * FLOAT])
def test_maps_and_moments_are_as_strict(bad):
    with pytest.raises(UserError):
        lpips_map(bad[0], bad[0])
    with pytest.raises(UserError):
        video_moments(bad, flavour=FLAVOURS["tf"])


def test_floats_of_every_kind_and_of_rounded_ends_are_videos():
    psnr = METRICS["psnr"]
    for dtype in (np.float16, np.float32, np.float64, jnp.bfloat16):
        assert psnr(FLOAT.astype(dtype), FLOAT.astype(dtype)) == 100
    assert psnr(FLOAT * np.float32(1 + 1e-6), jnp.asarray(FLOAT)) == 100
