"""PSNR and SSIM: pixel against pixel.

Both look simple and are reported in variants that differ by more than papers do. These are:

  psnr       per frame over RGB in [0, 1], then the mean over frames. One bad frame of ten costs little.
  psnr-clip  one mean squared error per clip. One bad frame of ten costs much: 18.2 dB where the other says 26.2.
  ssim       the settings of Wang et al. (2004): an 11-tap Gaussian of sigma 1.5, population variances, windows that lie
             wholly inside the frame, each of the three channels, K = (0.01, 0.03), data range 1. scikit-image gives the
             same with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1`.

Under a mask PSNR averages over the pixels that count, and SSIM over the windows that contain no other pixel: both equal
the metric of the cut-out where the region is a rectangle.
"""

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.metrics.metric import frame_metric, jit_frames, region, unit

Array = jax.Array

# Equal frames, black ones at a fade say, count as 100 dB and not as infinity, as in common_metrics_on_video_quality.
_MIN_ERROR = 1e-10

_TAPS = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
_TAPS = (_TAPS / _TAPS.sum()).astype(np.float32)
_C1, _C2 = 0.01**2, 0.03**2


def _error(reference: Array, generated: Array, mask: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    counts = region(mask, reference)
    squares = jnp.square(unit(reference) - unit(generated)).mean(axis=-1)
    pixels = counts.sum(axis=axes, dtype=jnp.float32)
    return jnp.where(counts, squares, 0).sum(axis=axes) / jnp.maximum(pixels, 1), pixels > 0


def _decibels(error: Array) -> Array:
    return -10 * jnp.log10(jnp.maximum(error, _MIN_ERROR))


@jit_frames
def psnr_frames(reference: Array, generated: Array, mask: Array) -> tuple[Array, Array]:
    """PSNR of each frame in dB: [B, T]; arguments as for `Metric`."""
    error, measured = _error(reference, generated, mask, axes=(2, 3))
    return _decibels(error), measured


@jit_frames
def psnr_clips(reference: Array, generated: Array, mask: Array) -> tuple[Array, Array]:
    """PSNR in dB of the mean squared error of each whole clip: [B, 1]."""
    error, measured = _error(reference, generated, mask, axes=(1, 2, 3))
    return _decibels(error)[:, None], measured[:, None]


@jit_frames
def error_frames(reference: Array, generated: Array, mask: Array) -> tuple[Array, Array]:
    """Mean squared error of each frame: [B, T]."""
    return _error(reference, generated, mask, axes=(2, 3))


def join_errors(errors: np.ndarray) -> np.ndarray:
    """PSNR [1] of a clip from the `error_frames` [T] of its frames, NaN where nothing was measured."""
    measured = errors[~np.isnan(errors)]
    return np.asarray(_decibels(measured.mean(keepdims=True))) if len(measured) else np.array([np.nan])


def ssim_map(reference: Array, generated: Array) -> Array:
    """SSIM of each window of 11 x 11 pixels: [B, T, H - 10, W - 10], at most 1; arguments as for `Metric`."""
    # Variances don't depend on an offset; around 0 less of float32 is lost to it.
    x, y = unit(reference) - 0.5, unit(generated) - 0.5
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _blur(jnp.stack((x, y, x * x, y * y, x * y)))
    variances = mean_xx - mean_x**2 + mean_yy - mean_y**2
    covariance = mean_xy - mean_x * mean_y
    mean_x, mean_y = mean_x + 0.5, mean_y + 0.5
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return (luminance * (2 * covariance + _C2) / (variances + _C2)).mean(axis=-1)


@jit_frames
def ssim_frames(reference: Array, generated: Array, mask: Array) -> tuple[Array, Array]:
    """SSIM of each frame: [B, T]; frames need 11 pixels a side."""
    counts = region(mask, reference)
    for window in ((1, 1, len(_TAPS), 1), (1, 1, 1, len(_TAPS))):
        counts = jax.lax.reduce_window(counts, True, jax.lax.bitwise_and, window, (1,) * 4, "VALID")
    windows = counts.sum(axis=(2, 3), dtype=jnp.float32)
    return jnp.where(counts, ssim_map(reference, generated), 0).sum(axis=(2, 3)) / jnp.maximum(windows, 1), windows > 0


def _blur(video: Array) -> Array:
    """[..., H, W, C] to [..., H - 10, W - 10, C]. Shifted slices fuse; a convolution of depth 1 would be slow."""
    for axis in (-3, -2):
        length = video.shape[axis] - len(_TAPS) + 1
        shifted = (jax.lax.slice_in_dim(video, i, i + length, axis=axis) for i in range(len(_TAPS)))
        parts: list[Array] = [tap * part for tap, part in zip(_TAPS, shifted)]
        video = sum(parts[1:], start=parts[0])
    return video


psnr = frame_metric("psnr", "mean of frames", "higher", psnr_frames)
psnr_clip = frame_metric("psnr", "clip", "higher", psnr_clips, reach=None, parts=(error_frames, join_errors))
ssim = frame_metric("ssim", "gaussian 11", "higher", ssim_frames, min_side=len(_TAPS))
