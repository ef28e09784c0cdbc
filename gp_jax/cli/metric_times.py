"""What `gp-jax bench metrics` prints; its other cases are in bench.py."""

import argparse

from rich.console import Console

from gp_jax.errors import UserError


def show(arguments: argparse.Namespace) -> None:
    """A row for each."""
    from gp_jax.bench.metrics import bench_metric, cases
    from gp_jax.bench.table import Table, span
    from gp_jax.bench.torch_process import check_torch, measure_in_torch, metrics_task

    clips, frames, repeats = arguments.clips or 4, arguments.frames or 16, arguments.repeats or 3
    if clips < 2:
        raise UserError("--clips 1 is too few: FVD is a distance between two sets of clips, which need 2 each")
    known, theirs = cases(clips, frames), {}
    table = Table(
        ["metric", "items", "seconds", "range", "items/s", *["x torch", "difference"] * bool(arguments.against)]
    )
    if arguments.against:
        check_torch("lpips", "torchvision")
        task = metrics_task(clips, frames, [case.name for case in known], repeats)
        with Console(stderr=True).status("torch"):
            theirs = {outcome.mode: outcome for outcome in measure_in_torch(task)}
    table.line(table.headings)
    for case in known:
        times, values = bench_metric(case, repeats)
        cells = {
            "metric": case.name,
            "items": str(case.items),
            "seconds": f"{times.median:.3g}",
            "range": span(times),
            "items/s": f"{case.items / times.median:.3g}",
        }
        if (other := theirs.get(case.name)) and other.times:
            difference = abs(values - other.values).max() / max(map(abs, other.values))
            cells |= {"x torch": f"{other.times.median / times.median:.2f}", "difference": f"{difference:.1e}"}
        elif other:
            cells["x torch"] = other.error
        table.row(cells)
