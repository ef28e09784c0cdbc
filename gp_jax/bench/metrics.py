"""LPIPS and FVD (as stylegan-v has it) on random frames, from arrays to numbers; torch_metrics.py has them by torch.

for case in cases(clips=4, frames=16):
    times, values = bench_metric(case, repeats=10)
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from flax import nnx

from gp_jax.bench.measure import Times, timed
from gp_jax.metrics.frechet import feature_moments, frechet_distance, fvd_stylegan_v
from gp_jax.metrics.i3d import FEATURES, load_i3d
from gp_jax.metrics.metric import Metric
from gp_jax.metrics.perceptual import lpips, lpips_vgg

DISTANCE_CLIPS = 512  # a side, of which the Frechet distance alone is taken


@dataclasses.dataclass(frozen=True)
class Case:
    """What is measured: so many clips, or frames, at once."""

    name: str
    items: int
    run: Callable[[], np.ndarray]


def cases(clips: int, frames: int) -> list[Case]:
    """Of `clips` clips of `frames` frames, or of as many frames as clips; at least 2, since FVD takes a covariance."""
    return [
        Case("fvd", 2 * clips, _fvd(clips, frames)),
        Case("i3d", clips, _i3d(clips, frames)),
        Case("lpips", clips, _lpips(lpips, clips)),
        Case("lpips-vgg", clips, _lpips(lpips_vgg, clips)),
        Case("frechet", 1, _distance),
    ]


def bench_metric(case: Case, repeats: int) -> tuple[Times, np.ndarray]:
    """Seconds of `case.run`, and what it returns: the same every time. Raises UserError where weights are missing."""
    return timed(case.run, repeats), np.asarray(case.run()).reshape(-1)


def pairs(*shape: int) -> np.ndarray:
    """Two sets of random videos in [-1, 1], float32 [2, *shape]; the same here as for torch."""
    return np.random.default_rng(0).uniform(-1, 1, (2, *shape)).astype(np.float32)


def features() -> np.ndarray:
    """Two sets of random features."""
    return np.random.default_rng(0).normal(size=(2, DISTANCE_CLIPS, FEATURES)).astype(np.float32)


def _fvd(clips: int, frames: int) -> Callable[[], np.ndarray]:
    a, b = pairs(clips, frames, 256, 256, 3)
    return lambda: np.asarray(fvd_stylegan_v(a, b))


def _i3d(clips: int, frames: int) -> Callable[[], np.ndarray]:
    given, run = pairs(clips, frames, 224, 224, 3)[0], nnx.jit(lambda model, x: model(x))
    return lambda: np.asarray(run(load_i3d(), given))


def _lpips(metric: Metric, clips: int) -> Callable[[], np.ndarray]:
    (a, b), score = pairs(clips, 256, 256, 3), metric.frames
    assert score is not None
    return lambda: np.asarray(score(a[:, None], b[:, None]).values[:, 0])


def _distance() -> np.ndarray:
    return np.asarray(frechet_distance(*map(feature_moments, features()), ddof=1))
