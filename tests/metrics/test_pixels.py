"""PSNR against its formula, SSIM against scikit-image, masks against cut-outs."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from gp_jax.metrics import METRICS, psnr, ssim

WANG = {"channel_axis": -1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}


def mean_ssim(a, b):
    pairs = zip(a.reshape(-1, *a.shape[2:]) / 255, b.reshape(-1, *b.shape[2:]) / 255)
    return np.mean([structural_similarity(x, y, **WANG) for x, y in pairs])


@pytest.mark.parametrize("name, axes", [("psnr", (2, 3, 4)), ("psnr-clip", (1, 2, 3, 4))])
def test_psnr_is_its_formula(clips, name, axes):
    a, b = (video / 255 for video in clips)
    expected = np.mean(-10 * np.log10(np.square(a - b).mean(axis=axes)))
    np.testing.assert_allclose(METRICS[name](*clips), expected, rtol=1e-6)


def test_one_bad_frame_costs_a_clip_more_than_its_frames():
    a = np.full((1, 10, 16, 16, 3), 100, np.uint8)
    b = a + 8
    b[:, 3] = 0
    assert METRICS["psnr-clip"](a, b) < psnr(a, b) - 5


def test_uint8_and_float_are_the_same_video(clips):
    signed = [video / np.float32(127.5) - 1 for video in clips]
    for metric in (psnr, ssim):
        np.testing.assert_allclose(metric(*signed), metric(*clips), rtol=1e-5)


def test_ssim_is_that_of_scikit_image(clips):
    np.testing.assert_allclose(ssim(*clips), mean_ssim(*clips), atol=1e-5)


def test_ssim_stays_exact_where_the_picture_is_flat():
    rng = np.random.default_rng(1)
    a = np.full((1, 2, 20, 20, 3), 250, np.uint8)
    b = a - rng.integers(0, 2, a.shape, np.uint8)
    np.testing.assert_allclose(ssim(a, b), mean_ssim(a, b), atol=1e-5)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_a_mask_is_a_cut_out(clips, metric):
    mask = np.zeros((36, 44))
    mask[5:29, 8:40] = 1
    cut = (video[:, :, 5:29, 8:40] for video in clips)
    np.testing.assert_allclose(metric(*clips, mask), metric(*cut), rtol=1e-6)
