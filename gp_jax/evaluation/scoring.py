"""Measures the outputs of an evaluation, each clip by itself and once.

What is measured of a clip is kept as a part: by region and metric the values of all its frames, or for FVD, which
compares sets, its I3D features. `assemble` makes lines and scores of the parts. So it does not matter in how many runs,
or by how many processes, the parts came about. That an output could not be measured is a part too: a sentence on why.
"""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gp_jax.errors import UserError
from gp_jax.evaluation.protocols import Protocol
from gp_jax.evaluation.results import REFERENCE, Entry, Part, Results
from gp_jax.files import read_json, write_json
from gp_jax.geometry import pixel_mask
from gp_jax.metrics import METRICS
from gp_jax.metrics.frechet import FLAVOURS, video_moments
from gp_jax.metrics.metric import Metric
from gp_jax.metrics.score import Pair, frame_values, read_pair
from gp_jax.video.clips import read_clip

REGIONS = ("whole", "unknown")


def score(results: Results, method: str, case: str, clip: str) -> None:
    """Measures one output, or notes why that cannot be; nothing where just that was measured already."""
    reference, generated, protocol = results.reference(clip), results.generated(method, case, clip), results.protocol
    path = results.part("scores", method, case, clip)

    try:
        if generated is None or not generated.exists():
            raise UserError(f"clip {clip}: {method} has no output for the case {case}")
        pair = Pair(clip, reference, generated)
        _keep(path, _stamp(generated, protocol), lambda: measure_clip(*read_pair(pair), protocol, case))
    except UserError as error:
        write_json(path, {"stamp": None, "problem": str(error)})


def score_reference(results: Results, case: str, clip: str) -> None:
    """Measures what FVD has to know of a true clip; nothing where just that was done already."""
    path, protocol = results.reference(clip), results.protocol

    def measure_truth() -> Part:
        return measure_reference(read_clip(path), protocol, case)

    _keep(results.part("scores", REFERENCE, case, clip), _stamp(path, protocol), measure_truth)


def measure_clip(reference: np.ndarray, generated: np.ndarray, protocol: Protocol, case: str) -> Part:
    """All of a protocol's metrics, in the whole frame and in the unknown region.

    Args:
      reference, generated: uint8 [T, H, W, 3] of the protocol's size.
      case: of the protocol.
    """

    def entry(metric: Metric, mask: np.ndarray) -> Entry:
        if note := metric.obstacle(*reference.shape[:3]):
            return {"note": note}
        if metric.frames is None:
            return {"features": _features(metric, generated, mask)}
        values = frame_values(metric, reference, generated, mask)
        return {"per_frame": [None if math.isnan(value) else value for value in values.tolist()]}

    regions = _regions(protocol, case)
    return {region: {name: entry(METRICS[name], mask) for name in protocol.metrics} for region, mask in regions.items()}


def measure_reference(reference: np.ndarray, protocol: Protocol, case: str) -> Part:
    """What metrics that compare sets have to know of a true clip; arguments as for `measure_clip`."""

    def entries(mask: np.ndarray) -> dict[str, Entry]:
        metrics = {name: METRICS[name] for name in protocol.metrics}
        return {
            name: {"features": _features(metric, reference, mask)}
            for name, metric in metrics.items()
            if metric.frames is None and not metric.obstacle(*reference.shape[:3])
        }

    return {region: entries(mask) for region, mask in _regions(protocol, case).items()}


def _regions(protocol: Protocol, case: str) -> dict[str, np.ndarray]:
    unknown = pixel_mask(protocol.cases[case])
    return dict(zip(REGIONS, (np.ones_like(unknown), unknown)))


def _features(metric: Metric, clip: np.ndarray, mask: np.ndarray) -> list[float]:
    """The mean of a set of one is the clip's feature."""
    return np.asarray(video_moments(clip[None], mask, flavour=FLAVOURS[metric.preset]).mean).tolist()


def _keep(path: Path, stamp: str, measure_clip: Callable[[], Part]) -> None:
    if not (path.is_file() and read_json(path).get("stamp") == stamp):
        write_json(path, {"stamp": stamp, "part": measure_clip()})


def _stamp(clip: Path, protocol: Protocol) -> str:
    """sha256 over a clip's files and the metrics: another clip under an old name has to be measured anew."""
    total = hashlib.sha256(" ".join(protocol.metrics).encode())
    for path in filter(Path.is_file, sorted(clip.iterdir()) if clip.is_dir() else [clip]):
        total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()
