"""FVD against the published numbers; the QR form against the textbook's; resizing against torch."""

import numpy as np
import pytest
import torch
from flax import nnx

from gp_jax.bench.torch_metrics import TorchI3D, textbook_distance, to_torch
from gp_jax.errors import UserError
from gp_jax.metrics import METRICS, frechet, fvd
from gp_jax.metrics.frechet import (
    FITS,
    FLAVOURS,
    feature_moments,
    fit_frames,
    frechet_distance,
    merge_moments,
    video_moments,
)
from gp_jax.metrics.i3d import FEATURES, I3D, load_i3d
from tests.products import PLATFORMS, imprecise


@pytest.mark.parametrize("count, other", [(40, 33), (9, 70)])
def test_the_distance_is_the_textbooks(count, other):
    rng = np.random.default_rng(count)
    a = rng.normal(size=(count, 6)).astype(np.float32)
    b = (rng.normal(1, 2, size=(other, 6)) @ rng.normal(size=(6, 6))).astype(np.float32)
    distance = frechet_distance(feature_moments(a), feature_moments(b), ddof=1)
    np.testing.assert_allclose(distance, textbook_distance(a, b), rtol=1e-5)


def test_moments_of_parts_are_those_of_the_whole_in_any_order():
    rng = np.random.default_rng(0)
    features = rng.normal(3, 1, size=(23, 7)).astype(np.float32)
    cuts = [features[:1], features[1:9], features[9:]]
    whole = feature_moments(features)
    for order in ([0, 1, 2], [2, 0, 1]):
        parts = [feature_moments(cuts[i]) for i in order]
        merged = merge_moments(merge_moments(*parts[:2]), parts[2])
        assert merged.number == 23
        np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-6)
        np.testing.assert_allclose(merged.root.T @ merged.root, whole.root.T @ whole.root, rtol=1e-5, atol=1e-4)


def test_one_clip_has_no_covariance_but_where_ddof_is_0():
    one = feature_moments(np.ones((1, 3), np.float32))
    assert np.isnan(frechet_distance(one, one, ddof=1))
    assert frechet_distance(one, one, ddof=0) == 0


@pytest.mark.parametrize("flavour, frames", [("tf", range(33)), ("stylegan-v", range(16))])
def test_which_frames_are_looked_at(flavour, frames):
    assert FLAVOURS[flavour].pick(33) == list(frames)


def test_sixteen_frames_are_spread_over_the_clip():
    picked = FLAVOURS["videogpt"].pick(33)
    assert (picked[0], picked[-1], len(set(picked))) == (0, 32, 16)
    assert set(np.diff(picked)) == {2, 3}


@pytest.mark.parametrize("flavour, frames", [("tf", 9), ("stylegan-v", 15), ("videogpt", 15)])
def test_too_short_clips_are_refused(flavour, frames):
    with pytest.raises(UserError, match=f"not {frames}"):
        video_moments(np.zeros((1, frames, 8, 8, 3), np.uint8), flavour=FLAVOURS[flavour])


@pytest.mark.parametrize("height, width", [(300, 401), (60, 90), (224, 500), (97, 61)])
def test_resizing_is_that_of_torch(height, width):
    frames = np.random.default_rng(0).normal(size=(1, 2, height, width, 3)).astype(np.float32)
    images = to_torch(frames[0])

    def resized(*size):
        return torch.nn.functional.interpolate(images, size=size, mode="bilinear").permute(0, 2, 3, 1).numpy()

    np.testing.assert_allclose(fit_frames(frames, "squash")[0], resized(224, 224), atol=1e-5)
    short = min(height, width)
    whole = resized(-(-height * 224 // short), -(-width * 224 // short))
    top, left = (whole.shape[1] - 224) // 2, (whole.shape[2] - 224) // 2
    np.testing.assert_allclose(fit_frames(frames, "crop")[0], whole[:, top : top + 224, left : left + 224], atol=1e-5)


def resized_as_tensorflow_1(frame: np.ndarray, size: int) -> np.ndarray:
    """`tf.image.resize_bilinear` of TensorFlow 1 without align_corners, pixel by pixel, from its definition."""
    height, width, channels = frame.shape
    out = np.zeros((size, size, channels))
    for i in range(size):
        for j in range(size):
            y, x = i * height / size, j * width / size
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            dy, dx = y - top, x - left
            above = frame[top, left] * (1 - dx) + frame[top, right] * dx
            below = frame[bottom, left] * (1 - dx) + frame[bottom, right] * dx
            out[i, j] = above * (1 - dy) + below * dy
    return out


@pytest.mark.parametrize("height, width", [(97, 133), (300, 224), (1, 2), (448, 7)])
def test_the_preset_tf_resizes_as_tensorflow_1(height, width):
    assert FLAVOURS["tf"].fit == "squash-tf"
    frames = np.random.default_rng(0).uniform(-1, 1, (1, 1, height, width, 3)).astype(np.float32)
    np.testing.assert_allclose(
        fit_frames(frames, "squash-tf")[0, 0], resized_as_tensorflow_1(frames[0, 0], 224), atol=1e-5
    )


def test_frames_of_the_networks_size_are_left_alone():
    frames = np.random.default_rng(0).uniform(-1, 1, (1, 1, 224, 224, 3)).astype(np.float32)
    for fit in FITS:
        np.testing.assert_array_equal(fit_frames(frames, fit), frames)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_product_of_i3d_has_full_precision(platform):
    assert not imprecise(
        lambda x: I3D(FEATURES, rngs=nnx.Rngs(0))(x), np.zeros((1, 10, 224, 224, 3), np.float32), platform=platform
    )


@pytest.mark.usefixtures("weights")
def test_black_against_white_is_the_published_number():
    black = np.full((1, 30, 224, 224, 3), -1, np.float32)
    state = fvd.state(black, -black)
    np.testing.assert_allclose(fvd.compute(fvd.merge(state, state)), 151.39244, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("weights")
def test_the_network_is_that_of_torch_on_an_odd_number_of_frames():
    clip = np.random.default_rng(0).uniform(-1, 1, (1, 11, 224, 224, 3)).astype(np.float32)
    with torch.inference_mode():
        expected = TorchI3D()(to_torch(clip)).numpy()
    features = nnx.jit(lambda model, x: model(x))(load_i3d(), clip)
    np.testing.assert_allclose(features, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.usefixtures("weights")
def test_seeded_noise_is_the_published_number():
    """The clips of universome/fvd-comparison, which feeds [0, 1] to the network."""
    generators, state = [np.random.RandomState(seed) for seed in (1, 2)], None
    for _ in range(32):
        part = fvd.state(*(generator.rand(4, 16, 224, 224, 3).astype(np.float32) for generator in generators))
        state = part if state is None else fvd.merge(state, part)
    np.testing.assert_allclose(fvd.compute(state), 10.1380854, rtol=1e-5)
    np.testing.assert_allclose(METRICS["fvd-stylegan-v"].compute(state), 10.0628, rtol=1e-5)


def test_a_mask_that_changes_over_time_is_thinned_as_the_video_is(monkeypatch):
    class Grid(nnx.Module):
        def __call__(self, video):
            return video.mean(axis=(2, 4)).reshape(len(video), -1)[:, ::97]

    monkeypatch.setattr(frechet, "load_i3d", Grid)
    video = np.random.default_rng(0).integers(0, 256, (3, 33, 32, 32, 3), np.uint8)
    mask = np.zeros((33, 32, 32), np.float32)
    mask[FLAVOURS["videogpt"].pick(33)] = 1
    hidden, seen = (video_moments(video, m, flavour=FLAVOURS["videogpt"]) for m in (mask, None))
    np.testing.assert_array_equal(hidden.root, seen.root)
