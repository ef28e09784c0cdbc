"""What `gp-jax bench step --on-paper 8,256 --chip h100` prints; its other cases are in bench.py."""

import argparse
from typing import TYPE_CHECKING

from rich.console import Console

from gp_jax.errors import UserError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from gp_jax.bench.paper import Prediction

CHIPS = ("v5p", "h100", "h200")  # as in bench/chips.py, which is behind what imports jax
SHARE = 0.25  # of the peak, as a call of the video network of Stable Diffusion 2 reached on an H200: see the README
SEGMENTS = 8
_HEADINGS = (
    *("chip    ", "devices", "mesh              ", "memory GB", "TFLOP"),
    *("gather GB", "scatter GB", "sum GB", "other GB"),
    *("compute s", "near s ", "far s  ", "step s ", "efficiency"),
)


def check(arguments: argparse.Namespace) -> None:
    """Raises UserError where something else was asked too, or no number of devices is meant."""
    for name in ("on", "mesh", "against", "profile", "repeats"):
        if getattr(arguments, name):
            raise UserError(f"--on-paper tries all meshes and runs nothing: leave --{name} out")
    if len(arguments.attention or []) > 1:
        raise UserError("--on-paper counts the same for all kernels: give one --attention at most")


def show(arguments: argparse.Namespace, config: "ConfigDict", what: str) -> None:
    """A line for each chip and number of devices."""
    from gp_jax.bench.chips import CHIPS as KNOWN
    from gp_jax.bench.paper import best, meshes, predict, work_of
    from gp_jax.bench.table import Table

    with Console(stderr=True).status("tracing the program and trying meshes, which takes minutes at full size"):
        work = work_of(config, what)
    segments, share = arguments.segments or SEGMENTS, arguments.share or SHARE
    print(
        f"{segments} segments a device, {float(segments) * work.flops / 1e12:.3g} TFLOP (of the networks: "
        f"{float(segments) * work.model_flops / 1e12:.3g}) at {share:.0%} of the peak; nothing overlaps"
    )
    table = Table(_HEADINGS)
    table.line(table.headings)
    for chip in arguments.chip or CHIPS:
        for devices in arguments.on_paper:
            tried = [predict(work, KNOWN[chip], mesh, segments, share) for mesh in meshes(devices, segments)]
            if not tried:
                table.line([chip, str(devices), f"no mesh cuts segments so that {segments} is a device's share"])
            elif chosen := best(tried):
                table.line([chip, str(devices), *_cells(chosen)])
            else:
                least = min(row.memory for row in tried)
                table.line([chip, str(devices), f"nothing fits: {least / 1e9:.3g} GB at least"])


def _cells(row: "Prediction") -> list[str]:
    mesh = ",".join(f"{axis}={size}" for axis, size in row.mesh.items() if size > 1) or "-"
    kinds = ("all-gather",), ("reduce-scatter",), ("all-reduce",), ("all-to-all", "collective-permute")
    traffic = [f"{sum(map(row.traffic, those)) / 1e9:.3g}" for those in kinds]
    times = row.computing + row.updating, row.near, row.far, row.seconds
    return [
        *(mesh, f"{row.memory / 1e9:.3g}", f"{row.flops / 1e12:.3g}"),
        *traffic,
        *(f"{seconds:.3g}" for seconds in times),
        f"{row.efficiency:.1%}",
    ]
