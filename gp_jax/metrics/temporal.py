"""Does the made region move as it should? Warping error, flicker and pulse.

*Warping error* follows Lai et al. (2018, arXiv 1808.00449, section 4.1, and the code of the paper): frame t+1 is
warped onto frame t along the optical flow, and the squared difference of the two is averaged over the pixels that are
not occluded. The flow is that of the reference, which is the motion that both videos ought to have; pixels are
occluded where forward and backward flow disagree or the flow jumps (Sundaram et al. 2010). Flow here is OpenCV's DIS
at its medium preset, where Lai et al. take FlowNet2: compare only numbers of the same preset. A real video has an
error too, the one of the flow and of the noise; `warping_error(reference, reference)` is what a perfect result
reaches.

*Flicker* is dtSSD of Erofeev et al. (2015, "Perceptually motivated benchmark for video matting"), per pixel: the root
mean square of (G[t+1] - G[t]) - (R[t+1] - R[t]). A constant difference in colour costs nothing, a pulsing one does.

*Pulse* is ours, for what a mean hides: a region that is calm but for a flash every few frames, as where a method joins
what it made apart. Of each pair of neighbours it takes the mean of |G[t+1] - G[t]| less that of |R[t+1] - R[t]|, so
that cuts and motion that both have cancel, and gives how far the largest of a clip (the 99th percentile) lie above the
usual (the median). What is constant, drifts or moves at a steady pace costs nothing; a method's plan need not be known.

All are in units of pixels in [0, 1], from pairs of neighbouring frames, and lower is better. Under a mask, pairs of
pixels count that lie inside it in both frames; for the warping error that is the pixel and all four that its partner
is interpolated from.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from gp_jax.metrics.checks import AnyArray
from gp_jax.metrics.metric import FrameValues, frame_metric, full, jit_frames, over_mesh, region, unit

Array = jax.Array


@jit_frames
def flicker_frames(reference: Array, generated: Array, mask: Array) -> tuple[Array, Array]:
    """Flicker between neighbours: [B, T - 1]; arguments as for `Metric`."""
    counts = region(mask, reference)
    counts = counts[:, 1:] & counts[:, :-1]
    change = jnp.diff(unit(generated), axis=1) - jnp.diff(unit(reference), axis=1)
    mean, measured = _mean_over(jnp.square(change).mean(axis=-1), counts)
    return jnp.sqrt(mean), measured


@jit_frames
def pulse_clips(reference: Array, generated: Array, mask: Array) -> tuple[Array, Array]:
    """Pulse of each clip: [B, 1]; arguments as for `Metric`."""
    excess, measured = _excess(reference, generated, mask)
    return _above_usual(jnp.where(measured, excess, jnp.nan)), measured.any(axis=1, keepdims=True)


@jit_frames
def excess_frames(reference: Array, generated: Array, mask: Array) -> tuple[Array, Array]:
    """How much more changes between neighbours than in the reference: [B, T - 1]."""
    return _excess(reference, generated, mask)


def join_excess(excess: np.ndarray) -> np.ndarray:
    """Pulse [1] of a clip from its `excess_frames` [T - 1], NaN where nothing was measured."""
    return np.asarray(_above_usual(excess))


def _excess(reference: Array, generated: Array, mask: Array) -> tuple[Array, Array]:
    counts = region(mask, reference)
    counts = counts[:, 1:] & counts[:, :-1]
    ours, true = (jnp.abs(jnp.diff(unit(video), axis=1)).mean(axis=-1) for video in (generated, reference))
    return _mean_over(ours - true, counts)


def _above_usual(values: AnyArray) -> Array:
    """[..., N] -> [..., 1], NaN left out."""
    return jnp.nanpercentile(values, 99, axis=-1, keepdims=True) - jnp.nanmedian(values, axis=-1, keepdims=True)


def warping_error_frames(reference: AnyArray, generated: AnyArray, mask: AnyArray | None = None) -> FrameValues:
    """Warping error between neighbours: [B, T - 1]; arguments as for `Metric`."""
    forward, backward = optical_flow(np.asarray(reference))
    return _warping_error(generated, full(mask), forward, backward)


def optical_flow(video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flow between neighbouring frames, on the host.

    Args:
      video: [B, T, H, W, 3] uint8, or float in [-1, 1].

    Returns:
      (t to t+1, t+1 to t), both [B, T - 1, H, W, 2] float32: how many pixels right and down a pixel goes.
    """
    batch, frames, height, width, _ = video.shape
    if video.dtype != np.uint8:
        video = np.clip(np.round((video + 1) * 127.5), 0, 255).astype(np.uint8)
    grey = [[cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip] for clip in video]
    pairs = [(clip[t], clip[t + 1]) for clip in grey for t in range(frames - 1)]

    def flow(pair: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        dis: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # its types forbid None
        return dis.calc(*pair, None)

    with ThreadPoolExecutor() as pool:
        flows = list(pool.map(flow, pairs + [(b, a) for a, b in pairs]))
    forward, backward = np.asarray(flows, np.float32).reshape(2, batch, frames - 1, height, width, 2)
    return forward, backward


@jax.jit
def _warping_error(generated: Array, mask: Array, forward: Array, backward: Array) -> FrameValues:
    video = unit(over_mesh(generated))
    counts = region(mask, video)
    here, there = video[:, :-1], warp(video[:, 1:], forward)
    # Interpolated from counting pixels alone, none of them beyond the frame.
    inside = warp(counts[:, 1:, ..., None].astype(jnp.float32), forward)[..., 0] > 0.999
    visible = counts[:, :-1] & inside & ~occluded(forward, backward)
    return FrameValues(*_mean_over(jnp.square(there - here).mean(axis=-1), visible))


def warp(frames: Array, flow: Array) -> Array:
    """`frames` fetched, bilinearly, from where `flow` points; 0 beyond the frame.

    Args:
      frames: [..., H, W, C] float.
      flow: [..., H, W, 2] float32 in pixels, right and down.
    """

    def channel(image: Array, motion: Array) -> Array:
        rows, columns = jnp.indices(image.shape, dtype=jnp.float32)
        return map_coordinates(image, (rows + motion[..., 1], columns + motion[..., 0]), order=1, mode="constant")

    picture = jax.vmap(channel, in_axes=(-1, None), out_axes=-1)
    flat = jax.vmap(picture)(frames.reshape(-1, *frames.shape[-3:]), flow.reshape(-1, *flow.shape[-3:]))
    return flat.reshape(frames.shape)


def occluded(forward: Array, backward: Array) -> Array:
    """[..., H, W] bool: pixels whose flow there and back does not return, or at whose place the flow jumps.

    Args:
      forward, backward: [..., H, W, 2] float32, as `optical_flow` gives them.
    """

    def square(flow: Array) -> Array:
        return jnp.square(flow).sum(axis=-1)

    returned = warp(backward, forward)
    lost = square(forward + returned) > 0.01 * (square(forward) + square(returned)) + 0.5
    down = jnp.diff(forward, axis=-3, append=forward[..., -1:, :, :])
    right = jnp.diff(forward, axis=-2, append=forward[..., -1:, :])
    return lost | (square(down) + square(right) > 0.01 * square(forward) + 0.002)


def _mean_over(values: Array, counts: Array) -> tuple[Array, Array]:
    """Mean of [B, N, H, W] over the pixels that count, and where there are any."""
    pixels = counts.sum(axis=(2, 3), dtype=jnp.float32)
    return jnp.where(counts, values, 0).sum(axis=(2, 3)) / jnp.maximum(pixels, 1), pixels > 0


flicker = frame_metric("flicker", "dtSSD", "lower", flicker_frames, reach=2, min_frames=2)
pulse = frame_metric(
    "pulse", "p99 - median", "lower", pulse_clips, reach=2, parts=(excess_frames, join_excess), min_frames=2
)
warping_error = frame_metric("warping-error", "DIS", "lower", warping_error_frames, reach=2, min_frames=2, min_side=16)
