"""FVD: how far apart two sets of videos are, as distributions of I3D features.

Unterthiner et al. (2018, arXiv 1812.01717) fit a Gaussian to the features of each set and take the Frechet distance

    |mu_1 - mu_2|^2 + tr S_1 + tr S_2 - 2 tr sqrt(S_1 S_2)

The usual code forms 400 x 400 covariances and their matrix root, which needs float64 and a guess at how to treat
small negative eigenvalues. Neither is needed. With the centred features of a set as X = Q R, S is R^T R / (n - ddof),
so that tr sqrt(S_1 S_2) is the nuclear norm of R_1 R_2^T over sqrt((n_1 - ddof)(n_2 - ddof)): one QR per set, one SVD
at the end. (n, mean, R) is also all that another part of the set has to be merged with: parts a and b together have

    R = qr([R_a; R_b; sqrt(n_a n_b / n) (mu_b - mu_a)])

Features are computed on the device; merging and the distance are small and run in float64 on the host.

Published FVDs differ in how a clip becomes I3D's input and in ddof, and are not comparable: see `FLAVOURS`.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gp_jax.errors import UserError
from gp_jax.metrics.checks import AnyArray, check_mask, check_pixels
from gp_jax.metrics.i3d import I3D, MIN_FRAMES, SIZE, load_i3d
from gp_jax.metrics.metric import Metric, full, hide, signed
from gp_jax.parallel import constrain

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Flavour:
    """How a clip becomes I3D's input, and how the covariance is normalised."""

    fit: str  # a name in `FITS`
    frames: str  # "all", the "first" 16, or 16 that are spread "evenly"
    ddof: int

    @property
    def min_frames(self) -> int:
        """Frames that a clip needs."""
        return MIN_FRAMES if self.frames == "all" else 16

    def pick(self, count: int) -> list[int]:
        """Which of a clip's `count` frames are looked at; raises UserError where there are too few."""
        if count < self.min_frames:
            raise UserError(f"this FVD needs clips of at least {self.min_frames} frames, not {count}")
        if self.frames == "all":
            return list(range(count))
        last = count - 1 if self.frames == "evenly" else 15
        return np.linspace(0, last, 16).round().astype(int).tolist()


FLAVOURS = {
    # google-research/frechet_video_distance, and MAGVIT; it has to hold all of a clip
    "tf": Flavour("squash-tf", "all", 1),
    # universome/stylegan-v, fvd2048_16f (there the 16 frames start anywhere; here at the beginning, to be repeatable)
    "stylegan-v": Flavour("squash", "first", 0),
    # wilson1yan/VideoGPT as MOTIA evaluates with it; the crop can cut outpainted sides away
    "videogpt": Flavour("crop", "evenly", 1),
}


class Moments(NamedTuple):
    """What FVD has to know of a set: the number of clips, their mean feature, and R with R^T R the centred scatter."""

    number: AnyArray  # []
    mean: AnyArray  # [D]
    root: AnyArray  # [D, D] upper triangular


class FrechetState(NamedTuple):
    """The moments of both sets."""

    reference: Moments
    generated: Moments


def state(reference: AnyArray, generated: AnyArray, mask: AnyArray | None = None, *, flavour: Flavour) -> FrechetState:
    """Moments of a batch of clips; the two sides may differ in their number and length.

    Args:
      reference, generated: [B, T, H, W, 3] uint8, or float in [-1, 1].
      mask: 1 where a pixel counts, broadcastable to [B, T, H, W]; pixels that don't are grey in both sets.
      flavour: of `FLAVOURS`.

    Raises:
      UserError: the clips are too short, or the weights of I3D were not fetched.
    """
    return FrechetState(_moments(reference, mask, flavour), _moments(generated, mask, flavour))


def video_moments(video: AnyArray, mask: AnyArray | None = None, *, flavour: Flavour) -> Moments:
    """Moments of one side, such as a data set's that is compared with many methods; arguments as for `state`."""
    check_pixels("video", video, "B, T, H, W, 3")
    check_mask(mask, video)
    return _moments(video, mask, flavour)


def _moments(video: AnyArray, mask: AnyArray | None, flavour: Flavour) -> Moments:
    frames = np.asarray(flavour.pick(video.shape[1]))
    mask = full(mask)
    if np.ndim(mask) > 2 and np.shape(mask)[-3] > 1:  # it changes over time
        mask = mask[..., frames, :, :]
    graph, parameters = nnx.split(load_i3d())
    return feature_moments(_features(graph, parameters, video[:, frames], mask, fit=flavour.fit))


@jax.jit
def feature_moments(features: Array) -> Moments:
    """Moments of features [N, D] float32."""
    count, width = features.shape
    mean = features.mean(axis=0)
    root = jnp.linalg.qr(features - mean, mode="r")
    return Moments(jnp.float32(count), mean, jnp.zeros((width, width), features.dtype).at[: len(root)].set(root))


def merge_moments(a: Moments, b: Moments) -> Moments:
    """Moments of the union of two disjoint sets, in float64 on the host."""
    (n_a, mean_a, root_a), (n_b, mean_b, root_b) = (tuple(np.asarray(x, np.float64) for x in m) for m in (a, b))
    count, shift = n_a + n_b, mean_b - mean_a
    rows = np.concatenate([root_a, root_b, [np.sqrt(n_a * n_b / count) * shift]])
    return Moments(count, mean_a + n_b / count * shift, np.asarray(np.linalg.qr(rows, mode="r")))


def merge(a: FrechetState, b: FrechetState) -> FrechetState:
    """The state of both batches together."""
    return FrechetState(*map(merge_moments, a, b))


def compute(state: FrechetState, *, flavour: Flavour) -> float:
    """The distance; NaN where ddof leaves no degree of freedom."""
    return frechet_distance(*state, ddof=flavour.ddof)


def frechet_distance(a: Moments, b: Moments, ddof: int) -> float:
    """Frechet distance of the Gaussians with these moments, in float64."""
    (n_a, mean_a, root_a), (n_b, mean_b, root_b) = (tuple(np.asarray(x, np.float64) for x in m) for m in (a, b))
    if min(n_a, n_b) <= ddof:
        return math.nan
    root_a, root_b = root_a / np.sqrt(n_a - ddof), root_b / np.sqrt(n_b - ddof)
    shared = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    squares = np.square(mean_a - mean_b).sum() + np.square(root_a).sum() + np.square(root_b).sum()
    return float(max(0.0, squares - 2 * shared))


@functools.partial(jax.jit, static_argnames=("graph", "fit"))
def _features(graph: nnx.GraphDef[I3D], parameters: nnx.State, video: Array, mask: Array, fit: str) -> Array:
    video = constrain(video, "batch", None, None, None, None)
    video = fit_frames(hide(signed(video), mask), fit)
    return nnx.merge(graph, parameters)(video)


def fit_frames(video: Array, fit: str) -> Array:
    """[B, T, H, W, C] to [B, T, 224, 224, C], bilinearly and without antialiasing; `fit` is a name in `FITS`."""
    return FITS[fit](video)


def _squash(video: Array) -> Array:
    """As torch's `interpolate`: a pixel's value is that of its middle."""
    return _resize(video, SIZE, SIZE)


def _crop(video: Array) -> Array:
    """The centre square, after the short side was brought to 224 as above."""
    height, width = video.shape[2:4]
    video = _resize(video, *(-(-side * SIZE // min(height, width)) for side in (height, width)))
    top, left = ((side - SIZE) // 2 for side in video.shape[2:4])
    return video[:, :, top : top + SIZE, left : left + SIZE]


def _squash_tf(video: Array) -> Array:
    """As TensorFlow 1's `resize_bilinear`: a pixel's value is that of its corner, so pixel i lies at i * old / 224."""
    for axis in (2, 3):
        size = video.shape[axis]
        place = np.arange(SIZE) * (size / SIZE)
        before = place.astype(int)
        after = np.minimum(before + 1, size - 1)
        share = (place - before).astype(np.float32).reshape(-1, *(1,) * (video.ndim - axis - 1))
        video = video.take(before, axis) * (1 - share) + video.take(after, axis) * share
    return video


def _resize(video: Array, height: int, width: int) -> Array:
    batch, frames, *_, channels = video.shape
    return jax.image.resize(video, (batch, frames, height, width, channels), "linear", antialias=False)


FITS = {"squash": _squash, "crop": _crop, "squash-tf": _squash_tf}


def _fvd(preset: str) -> Metric:
    flavour = FLAVOURS[preset]
    return Metric(
        "fvd",
        preset,
        "lower",
        functools.partial(state, flavour=flavour),
        merge,
        functools.partial(compute, flavour=flavour),
        pick=flavour.pick,
        paired=False,
        min_clips=flavour.ddof + 1,
        min_frames=flavour.min_frames,
        weights="i3d-kinetics-400",
    )


fvd = _fvd("tf")
fvd_stylegan_v = _fvd("stylegan-v")
fvd_videogpt = _fvd("videogpt")
