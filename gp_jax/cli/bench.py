"""What a training step costs, or with --denoise a call of the denoising network: memory, FLOPs, what devices send each
other, and, on devices that are here, its time.

Without --on it is compiled for the devices of this machine and run: seconds, FLOP/s and their share of what the
device could do (MFU). With --on it is only compiled, for devices that may be anywhere: CPU devices by number, or TPU
slices by shape, for which libtpu has to be installed (pip install 'gp_jax[tpu]') but no TPU be there. Neither needs the
data of the configuration, nor a checkpoint where all its networks are trained.

Numbers are those of one device. "TFLOP" are those of the networks, in a step forwards and backwards, from which MFU is
taken; "compiled" those of the program, in which what remat computes again counts and fused attention kernels may not.
CPUs compute bfloat16 as float32, which doubles their memory and traffic.

examples:
  gp-jax bench --config configs/sd2.py:keyframes --attention einsum,cudnn
  gp-jax bench --config configs/sd2.py:keyframes --on 1,8,256
  gp-jax bench --config configs/m3ddm.py --denoise --on 1
  gp-jax bench --config configs/sd2.py:keyframes --on v5p:1x1x1,v5p:2x2x2,v5p:4x8x8 --segments 2
"""

import argparse
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from rich.console import Console

from gp_jax.cli import arguments as parse
from gp_jax.cli.methods import ATTENTIONS
from gp_jax.errors import UserError

if TYPE_CHECKING:
    from gp_jax.training.bench import Row
    from gp_jax.training.setup import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what the command takes."""
    parser.add_argument("--config", required=True, metavar="FILE[:ARG]", help="configs/sd2.py:keyframes and the like")
    parser.add_argument("--init-from", metavar="DIR|NAME", help="a checkpoint, as config.init_from")
    parser.add_argument("--denoise", action="store_true", help="one call of the network, as sampling makes it")
    parser.add_argument("--on", type=_names, metavar="A,B", help="8, or v5p:2x2x2: compile for these, run nothing")
    parser.add_argument("--mesh", default="", metavar="AXES", help="such as data=2,fsdp=4; by default data=N/8,fsdp=8")
    parser.add_argument("--segments", type=parse.count, default=1, metavar="N", help="per step, along each data slice")
    parser.add_argument(
        "--attention",
        type=_names,
        metavar="A,B",
        help=f"kernels, of {', '.join(ATTENTIONS)}; by default the config's",
    )
    parser.add_argument("--steps", type=parse.count, default=10, metavar="N", help="how many are timed")
    parser.set_defaults(overrides=[])  # takes what begins with --config. (see main.py)


def run(arguments: argparse.Namespace) -> None:
    """Prints a line of the table as soon as it is known."""
    from gp_jax.parallel.absent import absent_devices
    from gp_jax.training.config import load_config

    config = load_config(arguments.config, arguments.overrides)
    if arguments.init_from:
        config.init_from = arguments.init_from
    places = absent_devices(arguments.on) if arguments.on else None

    import jax

    from gp_jax.models.attention import check_kernel
    from gp_jax.training.bench import bench, check_bench, lower_step, model_flops, prepare_bench
    from gp_jax.training.denoising import bench_denoising, lower_denoising

    runs = [
        prepare_bench(config, devices, segments=arguments.segments, mesh=arguments.mesh, attention=attention)
        for devices in places or [jax.devices()]
        for attention in arguments.attention or [config.attention]
    ]
    if not (arguments.on or arguments.denoise):
        check_bench(runs[0])
    lowered, measure = (lower_denoising, bench_denoising) if arguments.denoise else (lower_step, bench)
    console = Console(stderr=True)
    with console.status("counting FLOPs"):
        flops = model_flops(config, lowered)
    print(f"{arguments.config}, {config.dtype}, remat {config.remat}, {flops / 1e12:.3g} TFLOP per segment")
    print(_line(COLUMNS), flush=True)
    for made in runs:
        with console.status(f"{_devices(made)}, {made.config.attention}"):
            try:
                check_kernel(made.config.attention, made.mesh.devices.flat[0].platform)
                row = measure(made, flops, steps=0 if arguments.on else arguments.steps)
            except (UserError, ValueError, RuntimeError, NotImplementedError) as error:  # a kernel that it has not
                reason = str(error).strip().partition("\n")[0][:100]
                print(f"{_line([_devices(made), made.config.attention])}  does not work here: {reason}", flush=True)
                continue
        print(_line([cell(row) for cell in COLUMNS.values()]), flush=True)


def _gigabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e9:.3g}"


def _devices(run: "Run") -> str:
    return f"{run.mesh.size} x {run.mesh.devices.flat[0].device_kind}"


def _mesh(run: "Run") -> str:
    return ",".join(f"{axis}={size}" for axis, size in run.mesh.shape.items() if size > 1) or "-"


_SUMS = ("all-reduce", "reduce-scatter")
# Heading -> the cell of a `gp_jax.training.bench.Row`.
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
    "seconds": lambda row: f"{row.seconds:.3g}" if row.seconds else "",
    "TFLOP/s": lambda row: f"{row.model_flops / row.seconds / 1e12:.3g}" if row.seconds else "",
    "MFU": lambda row: f"{row.mfu:.1%}" if row.mfu else "",
    "peak GB": lambda row: _gigabytes(row.peak_bytes),
}
# As narrow as a heading, but where cells are wider as a rule; one that is wider still moves the rest of its row.
_WIDTHS = [{"devices": 16, "mesh": 15}.get(name, len(name)) for name in COLUMNS]


def _line(cells: Iterable[str]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS)).rstrip()


def _names(text: str) -> list[str]:
    return text.split(",")
