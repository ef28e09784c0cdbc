"""The tables that `gp-jax bench` prints: what each column says, and lines that come one by one."""

from collections.abc import Callable, Iterable, Mapping

from gp_jax.bench.case import Row, mfu
from gp_jax.bench.measure import Times
from gp_jax.bench.pipeline import PipelineRow
from gp_jax.bench.torch_process import Outcome
from gp_jax.training.setup import Run


class Table:
    """Lines of cells, each printed at once."""

    def __init__(self, headings: Iterable[str]):
        self.headings = list(headings)

    def line(self, cells: Iterable[str]) -> None:
        """As narrow as the headings, but where cells are wider as a rule; one that is wider still moves the rest."""
        widths = [_WIDTHS.get(heading, len(heading)) for heading in self.headings]
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths)).rstrip(), flush=True)

    def row(self, cells: Mapping[str, str]) -> None:
        """By heading; what is not there is "-"."""
        self.line(cells.get(heading) or "-" for heading in self.headings)

    def failed(self, cells: list[str], reason: str) -> None:
        """The first cells, and why there are no others."""
        reason = reason.strip().partition("\n")[0][:100]
        self.line([*cells, f"does not work here: {reason}"])


def torch_cells(outcome: Outcome, segments: int, flops: float, frames: int) -> dict[str, str]:
    """Of a row beside ours; `flops` and `frames` of a call."""
    assert outcome.times is not None
    seconds = outcome.times.median
    return {
        "devices": f"1 x {outcome.device}",
        "attention": f"torch {outcome.mode}",
        "segments": str(segments),
        "TFLOP": f"{flops / 1e12:.3g}",
        "compile s": f"{outcome.first:.3g}" if outcome.mode == "compile" else "",
        "seconds": f"{seconds:.3g}",
        "range": span(outcome.times),
        "TFLOP/s": f"{flops / seconds / 1e12:.3g}",
        "MFU": _mfu(flops, outcome.times, outcome.device),
        "frames/s": f"{frames / seconds:.3g}",
        "peak GB": _gigabytes(outcome.peak_bytes),
    }


def _gigabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e9:.3g}"


def devices(run: Run) -> str:
    return f"{run.mesh.size} x {run.mesh.devices.flat[0].device_kind}"


def _mesh(run: Run) -> str:
    return ",".join(f"{axis}={size}" for axis, size in run.mesh.shape.items() if size > 1)


def _mfu(flops: float, times: Times | None, device: str) -> str:
    share = mfu(flops, times.median, device) if times else None
    return f"{share:.1%}" if share else ""


def span(times: Times | None) -> str:
    return f"{times.lowest:.3g}-{times.highest:.3g}" if times else ""


_SUMS = ("all-reduce", "reduce-scatter")
# Heading -> the cell of a `gp_jax.bench.case.Row`.
COLUMNS: dict[str, Callable[[Row], str]] = {
    "devices": lambda row: devices(row.run),
    "attention": lambda row: row.run.config.attention,
    "mesh": lambda row: _mesh(row.run),
    "segments": lambda row: str(row.run.config.batch_size),
    "part": lambda row: row.part,
    "state GB": lambda row: _gigabytes(row.budget.state),
    "temp GB": lambda row: _gigabytes(row.budget.temporaries),
    "all GB": lambda row: _gigabytes(row.budget.memory),
    "gather GB": lambda row: _gigabytes(row.budget.traffic("all-gather")),
    "sum GB": lambda row: _gigabytes(row.budget.traffic(*_SUMS)),
    "other GB": lambda row: _gigabytes(row.budget.traffic() - row.budget.traffic("all-gather", *_SUMS)),
    "TFLOP": lambda row: f"{row.model_flops / 1e12:.3g}",
    "compiled": lambda row: f"{row.budget.flops / 1e12:.3g}",
    "compile s": lambda row: f"{row.compile_seconds:.3g}" if row.compile_seconds else "",
    "seconds": lambda row: f"{row.times.median:.3g}" if row.times else "",
    "range": lambda row: span(row.times),
    "TFLOP/s": lambda row: f"{row.model_flops / row.times.median / 1e12:.3g}" if row.times else "",
    "MFU": lambda row: _mfu(row.model_flops, row.times, row.device),
    "frames/s": lambda row: f"{row.frames / row.times.median:.3g}" if row.times else "",
    "peak GB": lambda row: _gigabytes(row.peak_bytes),
}
# Heading -> the cell of a `gp_jax.bench.pipeline.PipelineRow`.
PIPELINE: dict[str, Callable[[PipelineRow], str]] = {
    "devices": lambda row: devices(row.run),
    "attention": lambda row: row.run.config.attention,
    "mesh": lambda row: _mesh(row.run),
    "frames": lambda row: str(row.frames),
    "TFLOP": lambda row: f"{row.flops / 1e12:.3g}",
    "compile s": lambda row: f"{row.compile_seconds:.3g}",
    "seconds": lambda row: f"{row.times.median:.3g}",
    "range": lambda row: span(row.times),
    "TFLOP/s": lambda row: f"{row.flops / row.times.median / 1e12:.3g}",
    "MFU": lambda row: _mfu(row.flops, row.times, row.run.mesh.devices.flat[0].device_kind),
    "frames/s": lambda row: f"{row.frames / row.times.median:.3g}",
    "encode": lambda row: f"{row.shares['encode']:.0%}",
    "denoise": lambda row: f"{row.shares['denoise']:.0%}",
    "decode": lambda row: f"{row.shares['decode']:.0%}",
    "other": lambda row: f"{row.shares['other']:.0%}",
    "peak GB": lambda row: _gigabytes(row.peak_bytes),
}
_RUN = {"compile s", "seconds", "range", "TFLOP/s", "MFU", "frames/s", "peak GB"}
_COUNTED = {"gather GB", "sum GB", "other GB", "compiled"}
_WIDTHS = {"metric": 9, "devices": 16, "attention": 13, "mesh": 15, "range": 13}


def headings(what: str, *, counted: bool, against: bool) -> list[str]:
    """Of a case's table; `counted`: nothing is run."""
    left_out = (_RUN if counted else _COUNTED) | ({"attention"} if what == "vae" else {"part"})
    return [heading for heading in COLUMNS if heading not in left_out] + ["x eager", "x compile"] * against
