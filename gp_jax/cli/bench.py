"""What work costs: memory, FLOPs, what devices send each other, and, on devices that are here, its time.

  step     a training step, all of it
  denoise  one call of the denoising network, as sampling makes it; with --image, of the image network within it

Without --on it is compiled for the devices of this machine and run: seconds, FLOP/s and their share of what the
device could do in bfloat16 (MFU). With --on it is only compiled, for devices that may be anywhere: CPU devices by
number, or TPU slices by shape, for which libtpu has to be installed (pip install 'gp_jax[tpu]') but no TPU be there.
Neither needs data nor a checkpoint: weights and frames are random. Other sizes are asked for as in training, by
--config.data.size=WIDTHxHEIGHT and --config.data.segment_frames=N, other types by --config.dtype=float32.

Numbers are those of one device. "seconds" is the median of calls that were waited for one by one, "range" the fastest
and the slowest of them. "TFLOP" are those of the networks' matrix products and convolutions, in a step forwards and
backwards, from which MFU is taken; "compiled" those of the program, in which what remat computes again counts and fused
attention kernels may not. CPUs compute bfloat16 as float32, which doubles their memory and traffic.

With --against torch the same network, sizes and type are run in torch first, in a process of its own, as it is and by
torch.compile, on one device; "x eager" and "x compile" say how many times as fast as these ours is. Image networks
are diffusers', video networks the same layers in plain torch. A step is there the network forwards and backwards and
AdamW, and keeps everything for its gradient, whatever the configuration's remat.

examples:
  gp-jax bench --config configs/sd2.py:keyframes --attention einsum,cudnn
  gp-jax bench --config configs/sd2.py:keyframes --on 1,8,256
  gp-jax bench denoise --config configs/sd2.py:keyframes --config.data.size=512x512 --image --against torch
  gp-jax bench denoise --config configs/m3ddm.py --on 1
  gp-jax bench --config configs/sd2.py:keyframes --on v5p:1x1x1,v5p:2x2x2,v5p:4x8x8 --segments 2
"""

import argparse
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from rich.console import Console

from gp_jax.cli import arguments as parse
from gp_jax.cli.methods import ATTENTIONS
from gp_jax.errors import UserError

if TYPE_CHECKING:
    from gp_jax.bench.case import Row
    from gp_jax.bench.torch_process import Outcome
    from gp_jax.training.setup import Run

CASES = ("step", "denoise")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what the command takes."""
    parser.add_argument("what", nargs="?", default="step", choices=CASES, help="what is run")
    parser.add_argument("--config", required=True, metavar="FILE[:ARG]", help="configs/sd2.py:keyframes and the like")
    parser.add_argument(
        "--init-from", metavar="DIR|NAME", help="a checkpoint whose networks are meant, as config.init_from"
    )
    parser.add_argument(
        "--image", action="store_true", help="the image network alone: without what makes it one of video"
    )
    parser.add_argument("--on", type=_names, metavar="A,B", help="8, or v5p:2x2x2: compile for these, run nothing")
    parser.add_argument("--mesh", default="", metavar="AXES", help="such as data=2,fsdp=4; by default data=N/8,fsdp=8")
    parser.add_argument("--segments", type=parse.count, default=1, metavar="N", help="per call, along each data slice")
    parser.add_argument(
        "--attention",
        type=_names,
        metavar="A,B",
        help=f"kernels, of {', '.join(ATTENTIONS)}; by default the config's",
    )
    parser.add_argument("--against", choices=("torch",), help="what else is run, on the first device")
    parser.add_argument("--repeats", type=parse.count, default=10, metavar="N", help="how many calls are timed")
    parser.set_defaults(overrides=[])  # takes what begins with --config. (see main.py)


def run(arguments: argparse.Namespace) -> None:
    """Prints a line of the table as soon as it is known."""
    if arguments.against and arguments.on:
        raise UserError("--against runs on a device that is here, and --on runs nothing: give one of them")
    if arguments.against:  # jax leaves room for torch, which has the same device
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

    from gp_jax.parallel.absent import absent_devices
    from gp_jax.training.config import load_config

    config = load_config(arguments.config, arguments.overrides)
    if arguments.init_from:
        config.init_from = arguments.init_from
    places = absent_devices(arguments.on) if arguments.on else None

    import jax

    from gp_jax.bench import denoise, step
    from gp_jax.bench.case import image_alone, model_flops, prepare_case
    from gp_jax.bench.torch_process import check_torch, measure_in_torch, task_of
    from gp_jax.models.attention import check_kernel

    if arguments.against:
        check_torch(image=arguments.image)
    config = image_alone(config) if arguments.image else config
    here = jax.devices()[:1] if arguments.against else jax.devices()
    runs = [
        prepare_case(config, devices, segments=arguments.segments, mesh=arguments.mesh, attention=attention)
        for devices in places or [here]
        for attention in arguments.attention or [config.attention]
    ]
    trace, measure = {
        "step": (step.trace_step, step.bench_step),
        "denoise": (denoise.trace_denoising, denoise.bench_denoising),
    }[arguments.what]
    if not arguments.on and arguments.what == "step":
        step.check_step(runs[0])
    table = _Table([*(COUNTED if arguments.on else TIMED), *(AGAINST if arguments.against else {})])
    console = Console(stderr=True)
    with console.status("counting FLOPs"):
        flops = model_flops(config, trace)
    print(f"{arguments.config}, {config.dtype}, remat {config.remat}, {flops / 1e12:.3g} TFLOP per segment")
    table.line(table.headings)
    theirs: dict[str, float] = {}
    if arguments.against:
        for outcome in measure_in_torch(task_of(runs[0], arguments.what, arguments.repeats)):
            if outcome.times is None:
                table.failed([outcome.device, f"torch {outcome.mode}"], outcome.error)
                continue
            theirs[outcome.mode] = outcome.times.median
            frames = arguments.segments * config.data.segment_frames
            table.row(_torch_cells(outcome, arguments.segments, flops * arguments.segments, frames))
    for made in runs:
        with console.status(f"{_devices(made)}, {made.config.attention}"):
            try:
                check_kernel(made.config.attention, made.mesh.devices.flat[0].platform)
                row = measure(made, flops, repeats=0 if arguments.on else arguments.repeats)
            except (UserError, ValueError, RuntimeError, NotImplementedError) as error:  # a kernel that it has not
                table.failed([_devices(made), made.config.attention], str(error))
                continue
        cells = {heading: cell(row) for heading, cell in COLUMNS.items()}
        if row.times:
            cells |= {f"x {mode}": f"{seconds / row.times.median:.2f}" for mode, seconds in theirs.items()}
        table.row(cells)


class _Table:
    """Lines of cells, each printed at once."""

    def __init__(self, headings: Iterable[str]):
        self.headings = list(headings)

    def line(self, cells: Iterable[str]) -> None:
        """As narrow as the headings, but where cells are wider as a rule; one that is wider still moves the rest."""
        widths = [_WIDTHS.get(heading, len(heading)) for heading in self.headings]
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths)).rstrip(), flush=True)

    def row(self, cells: Mapping[str, str]) -> None:
        self.line(cells.get(heading) or "-" for heading in self.headings)

    def failed(self, cells: list[str], reason: str) -> None:
        reason = reason.strip().partition("\n")[0][:100]
        self.line([*cells, f"does not work here: {reason}"])


def _torch_cells(outcome: "Outcome", segments: int, flops: float, frames: int) -> dict[str, str]:
    from gp_jax.bench.case import mfu

    assert outcome.times is not None
    seconds = outcome.times.median
    share = mfu(flops, seconds, outcome.device)
    return {
        "devices": f"1 x {outcome.device}",
        "attention": f"torch {outcome.mode}",
        "segments": str(segments),
        "compile s": f"{outcome.first:.3g}" if outcome.mode == "compile" else "",
        "seconds": f"{seconds:.3g}",
        "range": f"{outcome.times.lowest:.3g}-{outcome.times.highest:.3g}",
        "TFLOP": f"{flops / 1e12:.3g}",
        "TFLOP/s": f"{flops / seconds / 1e12:.3g}",
        "MFU": f"{share:.1%}" if share else "",
        "frames/s": f"{frames / seconds:.3g}",
        "peak GB": _gigabytes(outcome.peak_bytes),
    }


def _gigabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e9:.3g}"


def _devices(run: "Run") -> str:
    return f"{run.mesh.size} x {run.mesh.devices.flat[0].device_kind}"


def _mesh(run: "Run") -> str:
    return ",".join(f"{axis}={size}" for axis, size in run.mesh.shape.items() if size > 1)


def _mfu(row: "Row") -> str:
    from gp_jax.bench.case import mfu

    share = mfu(row.model_flops, row.times.median, row.device) if row.times else None
    return f"{share:.1%}" if share else ""


_SUMS = ("all-reduce", "reduce-scatter")
# Heading -> the cell of a `gp_jax.bench.case.Row`.
COLUMNS: dict[str, Callable[["Row"], str]] = {
    "devices": lambda row: _devices(row.run),
    "attention": lambda row: row.run.config.attention,
    "mesh": lambda row: _mesh(row.run),
    "segments": lambda row: str(row.run.config.batch_size),
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
    "range": lambda row: f"{row.times.lowest:.3g}-{row.times.highest:.3g}" if row.times else "",
    "TFLOP/s": lambda row: f"{row.model_flops / row.times.median / 1e12:.3g}" if row.times else "",
    "MFU": _mfu,
    "frames/s": lambda row: f"{row.frames / row.times.median:.3g}" if row.times else "",
    "peak GB": lambda row: _gigabytes(row.peak_bytes),
}
_RUN = {"compile s", "seconds", "range", "TFLOP/s", "MFU", "frames/s", "peak GB"}
COUNTED = [heading for heading in COLUMNS if heading not in _RUN]
TIMED = [heading for heading in COLUMNS if heading not in ("gather GB", "sum GB", "other GB", "compiled")]
AGAINST = ["x eager", "x compile"]
_WIDTHS = {"devices": 16, "attention": 13, "mesh": 15, "range": 13}


def _names(text: str) -> list[str]:
    return text.split(",")
