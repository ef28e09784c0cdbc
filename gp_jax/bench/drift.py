"""How far one record is from another, stage by stage: what is within tolerance, where it starts, and whether it ends in
what people see.

    lines = compare(Record.read("float32.safetensors"), Record.read("bfloat16.safetensors"))
    lines[0]                              Line("text", drift=7.7e-3, tolerance=3e-2, ...)
    told(reference, other, lines)         "starts at text (7.7e-03); steps: 1.6e-03 to 1.0e-02 over 10; ..."

A drift is |other - reference| / |reference|, Euclidean, over all numbers of a stage; of pixels it is the mean
difference in levels of 255 where nothing was observed, of a metric the difference of the two numbers.
"""

import dataclasses
import itertools

import numpy as np

from gp_jax.bench.record import STAGES, Record
from gp_jax.errors import UserError

# By the coarser rounding of the two sides. In float32 on CPUs products are summed in other orders, no more. Other
# devices may round the factors of float32 products to the 10 bits of TF32, so an eighth of what bfloat16's 7 bits do is
# allowed them; that is derived and not measured. The autoencoder computes in float32 throughout.
_NETWORKS = ("text", "features", "tokens", "call")
TOLERANCES: dict[str, dict[str, float]] = {
    "float32": {**dict.fromkeys(_NETWORKS, 1e-5), "latents": 5e-5, "steps": 1e-4, "pixels": 0.02},
    "tf32": {**dict.fromkeys(_NETWORKS, 5e-3), "latents": 1e-4, "steps": 1e-2, "pixels": 0.25},
    "narrow": {**dict.fromkeys(_NETWORKS, 4e-2), "latents": 1e-4, "steps": 8e-2, "pixels": 2.0},
}
SCORE_TOLERANCES: dict[str, dict[str, float]] = {
    "float32": {"psnr": 0.01, "ssim": 1e-4, "seam": 1e-4, "flicker": 1e-4},
    "tf32": {"psnr": 0.05, "ssim": 2e-3, "seam": 2e-3, "flicker": 2e-3},
    "narrow": {"psnr": 0.2, "ssim": 1e-2, "seam": 1e-2, "flicker": 1e-2},
}
_SAME = {"inputs": "inputs", "weights": "weights", "steps": "numbers of steps"}


@dataclasses.dataclass(frozen=True)
class Line:
    """Of a stage or a metric.

    Attributes:
      name: of it.
      drift: see above.
      tolerance: of the drift.
      largest: the largest difference by the largest number of the reference; of pixels in levels; of a metric the same.
      seconds: of a call by the reference and by the other; None where it was not taken.
    """

    name: str
    drift: float
    tolerance: float
    largest: float
    seconds: tuple[float | None, float | None] = (None, None)

    @property
    def is_within(self) -> bool:
        return bool(self.drift <= self.tolerance)  # NaN is not


def compare(reference: Record, other: Record) -> list[Line]:
    """A line for each stage and metric that both have. Raises UserError where they were not given the same."""
    check_same(reference, other)
    kind = rounding(reference, other)
    lines = []
    for name in STAGES:
        if name in reference.arrays and name in other.arrays:
            times = [side.seconds.get(name, {}) for side in (reference, other)]
            drift, largest = _pixels(reference, other) if name == "pixels" else _distance(reference, other, name)
            seconds = times[0].get("median"), times[1].get("median")
            lines.append(Line(name, drift, TOLERANCES[kind][name], largest, seconds))
    for name, tolerance in SCORE_TOLERANCES[kind].items():
        if name in reference.metrics and name in other.metrics:
            change = abs(other.metrics[name] - reference.metrics[name])
            lines.append(Line(name, change, tolerance, change))
    return lines


def check_same(reference: Record, other: Record) -> None:
    """Raises UserError where two records differ in what they were given."""
    for key, what in _SAME.items():
        if reference.about[key] != other.about[key]:
            sides = [f"{side.about['checkpoint']}, {side.about['steps']} steps" for side in (reference, other)]
            raise UserError(
                f"the records were made of other {what} ({sides[0]}; {sides[1]}), and their difference would say "
                "nothing: record both with the same --checkpoint and --steps"
            )


def rounding(*sides: Record) -> str:
    """A key of `TOLERANCES`."""
    if any(side.about["dtype"] != "float32" for side in sides):
        return "narrow"
    return "float32" if all(side.about["device"] == "cpu" for side in sides) else "tf32"


def by_step(reference: Record, other: Record) -> list[float]:
    """The drift of latents after each step."""
    return [_relative(a, b) for a, b in zip(reference.arrays["steps"], other.arrays["steps"])]


def told(reference: Record, other: Record, lines: list[Line]) -> str:
    """In a sentence: where the difference starts, how it grows, whether it reaches the metrics."""
    off = [line for line in lines if line.drift != 0]  # or NaN
    if not off:
        return "equal to the last bit"
    equal = [line.name for line in itertools.takewhile(lambda line: not line.drift, lines)]
    parts = [f"equal to the last bit: {', '.join(equal)}"] if equal else []
    parts.append(f"the difference starts at {off[0].name} ({off[0].drift:.1e})")
    steps = by_step(reference, other)
    parts.append(f"from step 1 to {len(steps)} it goes from {steps[0]:.1e} to {steps[-1]:.1e}")
    scores = [line for line in lines if line.name in other.metrics]
    if scores:
        worst = max(scores, key=lambda line: line.drift / line.tolerance)
        reached = "does not reach the metrics" if all(line.is_within for line in scores) else "reaches the metrics"
        parts.append(f"it {reached} ({worst.name} {other.metrics[worst.name] - reference.metrics[worst.name]:+.1e})")
    beyond = [line.name for line in lines if not line.is_within]
    parts.append(f"beyond tolerance: {', '.join(beyond)}" if beyond else "all within tolerance")
    return "; ".join(parts)


def label(side: Record) -> str:
    """What a record was made on and by."""
    about = side.about
    package = f"torch {about['torch']}" if about["backend"] == "torch" else f"jax {about['versions']['jax']}"
    devices = f"{about['devices']} x {about['device']}" + f" ({about['mesh']})" * bool(about["mesh"])
    return ", ".join([about["checkpoint"], devices, about["dtype"], about["attention"], package])


def _distance(reference: Record, other: Record, name: str) -> tuple[float, float]:
    a, b = reference.arrays[name], other.arrays[name]
    largest = np.abs(b - a).max() / max(np.abs(a).max(), np.finfo(np.float32).tiny)
    return _relative(a, b), float(largest)


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.linalg.norm(b - a) / max(np.linalg.norm(a), np.finfo(np.float32).tiny))


def _pixels(reference: Record, other: Record) -> tuple[float, float]:
    a, b = reference.arrays["pixels"], other.arrays["pixels"]
    unknown = np.ones(a.shape[1:3], bool)
    unknown[tuple(slice(*ends) for ends in reference.about["observed"])] = False
    error = np.abs(b.astype(np.int16) - a)[:, unknown]
    return float(error.mean()), float(error.max())
