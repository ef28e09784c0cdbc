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

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.flow.estimate import flows
from gp_jax.flow.warp import occluded, warp
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
    forward, backward = zip(*map(flows, np.asarray(reference)))
    return _warping_error(generated, full(mask), np.stack(forward), np.stack(backward))


@jax.jit
def _warping_error(generated: Array, mask: Array, forward: Array, backward: Array) -> FrameValues:
    video = unit(over_mesh(generated))
    counts = region(mask, video)
    here, there = video[:, :-1], warp(video[:, 1:], forward)
    # Interpolated from counting pixels alone, none of them beyond the frame.
    inside = warp(counts[:, 1:, ..., None].astype(jnp.float32), forward)[..., 0] > 0.999
    visible = counts[:, :-1] & inside & ~occluded(forward, backward)
    return FrameValues(*_mean_over(jnp.square(there - here).mean(axis=-1), visible))


def _mean_over(values: Array, counts: Array) -> tuple[Array, Array]:
    """Mean of [B, N, H, W] over the pixels that count, and where there are any."""
    pixels = counts.sum(axis=(2, 3), dtype=jnp.float32)
    return jnp.where(counts, values, 0).sum(axis=(2, 3)) / jnp.maximum(pixels, 1), pixels > 0


flicker = frame_metric("flicker", "dtSSD", "lower", flicker_frames, reach=2, min_frames=2)
pulse = frame_metric(
    "pulse", "p99 - median", "lower", pulse_clips, reach=2, parts=(excess_frames, join_excess), min_frames=2
)
warping_error = frame_metric("warping-error", "DIS", "lower", warping_error_frames, reach=2, min_frames=2, min_side=16)
