"""Where the time of a GPU goes: what its kernels took, by kind.

    for kind in kernels(lambda: program(parameters, batch)):
        kind.name, kind.seconds, kind.count                     of one call; "idle" is what no kernel was running

Kernels are told by their names, which are cuDNN's, cuBLAS' and XLA's. Whatever is none of the others is "elementwise":
XLA's fusions, sums of norms among them.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax

CALLS = 3
# Kind -> what is in the names of its kernels; the first that fits counts.
KINDS = {
    "attention": ("sdpa", "fmha", "flash"),
    "convolutions": ("fprop", "dgrad", "wgrad", "conv"),
    "matrix products": ("nvjet", "gemm", "cutlass", "cublas"),
    "transpositions": ("transpose",),
    "copies": ("memcpy", "memset", "copy", "concatenate", "slice", "pad"),
    "sums": ("reduce",),
}


@dataclasses.dataclass(frozen=True)
class Kind:
    """Of one call: seconds, and number of kernels."""

    name: str
    seconds: float
    count: float


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One run of one, times in nanoseconds."""

    name: str
    begin: float
    duration: float


def kernels(call: Callable[[], Any]) -> list[Kind]:
    """Makes `CALLS` calls, one behind the other, under the profiler; `call` returns arrays. The longest kind first."""
    with tempfile.TemporaryDirectory() as folder:
        jax.block_until_ready(call())
        with jax.profiler.trace(folder):
            jax.block_until_ready([call() for _ in range(CALLS)])
        files = sorted(Path(folder).rglob("*.xplane.pb"))
        planes = [plane for file in files for plane in jax.profiler.ProfileData.from_file(str(file)).planes]
        seen = [
            Kernel(event.name, event.start_ns, event.duration_ns)
            for plane in planes
            if "GPU" in plane.name
            for line in plane.lines
            if line.name.startswith("Stream")
            for event in line.events
        ]
    return by_kind(seen, CALLS)


def by_kind(seen: Iterable[Kernel], calls: int) -> list[Kind]:
    """The shares of one of so many calls, in which these ran."""
    spent: dict[str, list[float]] = {}
    seen = sorted(seen, key=lambda kernel: kernel.begin)
    for kernel in seen:
        spent.setdefault(kind_of(kernel.name), []).append(kernel.duration)
    kinds = [Kind(name, sum(times) / calls / 1e9, len(times) / calls) for name, times in spent.items()]
    if seen:
        idle, until = 0.0, seen[0].begin
        for kernel in seen:
            idle += max(0.0, kernel.begin - until)
            until = max(until, kernel.begin + kernel.duration)
        kinds.append(Kind("idle", idle / calls / 1e9, 0))
    return sorted(kinds, key=lambda kind: -kind.seconds)


def kind_of(name: str) -> str:
    """By the name of a kernel."""
    lower = name.lower()
    return next((kind for kind, words in KINDS.items() if any(word in lower for word in words)), "elementwise")
