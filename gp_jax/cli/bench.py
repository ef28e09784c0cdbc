"""What work costs: memory, FLOPs, what devices send each other, and, on devices that are here, its time.

  step      a training step, all of it
  denoise   one call of the denoising network, as sampling makes it; with --image, of the image network within it
  vae       the autoencoder: segments encoded, and decoded
  pipeline  a clip of random frames made wider: frames per second, what takes them, and a projection
  metrics   LPIPS, FVD and what FVD is made of, on random frames; needs no configuration, but `gp-jax fetch`

Without --on it is compiled for the devices of this machine and run: seconds, FLOP/s and their share of what the
device could do in bfloat16 (MFU). With --on it is only compiled, for devices that may be anywhere: CPU devices by
number, or TPU slices by shape, for which libtpu has to be installed (pip install 'gp_jax[tpu]') but no TPU be there.
Neither needs data nor a checkpoint: weights and frames are random. Other sizes are asked for as in training, by
--config.data.size=WIDTHxHEIGHT and --config.data.segment_frames=N, other types by --config.dtype=float32.
Several processes measure together what their devices do together: each gets the same command but for its number, and
the first one prints. A call takes then as long as in the slowest of them.

Numbers are those of one device. "seconds" is the median of calls that were waited for one by one, "range" the fastest
and the slowest of them; of denoise, of four calls in a row, as a sampler makes them, a fourth of their time. "TFLOP"
are those of the networks' matrix products and convolutions, in a step forwards and backwards, from which MFU is taken;
"compiled" those of the program, in which what remat computes again counts and fused attention kernels may not. CPUs
compute bfloat16 as float32, which doubles their memory and traffic.

With --against torch the same network, sizes and type are run in torch first, in a process of its own, as it is and by
torch.compile, on one device; "x eager" and "x compile" say how many times as fast as these ours is. Image networks
are diffusers', video networks the same layers in plain torch. A step is there the network forwards and backwards and
AdamW, and keeps everything for its gradient, whatever the configuration's remat. Torch's threads wait for each other
where other work has a core: measure on a machine that does nothing else.

pipeline works at the configuration's native area (--config.settings.native_area), whatever the canvas. A "call" of
its second table is a batch of segments, or of finished frames. What 500 frames of 512x512 pixels to 1280x720 would
take is projected: the calls of their plan, each as long as one that was measured, in proportion to its FLOPs.

With --on-paper nothing is compiled either: FLOPs, memory and traffic of step or denoise are counted from the traced
program and the rules of sharding, and their time from what makers publish of --chip v5p, h100 (hosts of eight) and h200
(gp_jax/bench/chips.py has the figures and where they are from), for the best of all meshes that fit. --segments 1/8
gives each device an eighth of a segment, as where a clip has fewer of them than there are devices. "gather", "scatter",
"sum" and "other" (exchanges between all, shifts) are what a device sends, "near" within its host or slice, "far" beyond
it. "efficiency" is the share of the time that a lone device with room for everything would take too: weak scaling.

--record FILE runs a checkpoint on fixed inputs, by default a small one in the layout of Stable Diffusion with random
weights, and keeps what comes out of each stage: text, features, global tokens, latents, one call of the denoiser, every
step of sampling, pixels, metrics; and times and versions. --diff A B compares such files, made on other machines, in
other types, by other kernels, on other meshes, with other versions of jax, or in torch (--backend torch): how far each
stage is from the first file's, how fast it was, where the difference starts, how it grows over the steps, and whether
it reaches the metrics. The exit code is 1 where a stage is beyond its tolerance (gp_jax/bench/drift.py has them). With
--output DIR there is a page, DIR/drift.html. "drift" is |other - reference| / |reference|; of pixels the mean
difference in levels of 255 where nothing was observed, of metrics the difference; "x" says how many times as fast as
the reference a call is.

examples:
  gp-jax bench --record float32.safetensors
  gp-jax bench --record bfloat16.safetensors --dtype bfloat16
  gp-jax bench --diff float32.safetensors bfloat16.safetensors --output drift
  gp-jax bench --record mesh.safetensors --checkpoint tiny --mesh data=2,fsdp=2,context=2 --attention einsum
  gp-jax bench --record torch.safetensors --checkpoint tiny --backend torch
  gp-jax bench --config configs/sd2.py:keyframes --attention einsum,cudnn
  gp-jax bench --config configs/sd2.py:keyframes --on 1,8,256
  gp-jax bench step --config configs/sd2.py:keyframes --on-paper 8,64,256,1024 --chip v5p,h100,h200
  gp-jax bench denoise --config configs/sd2.py:keyframes --on-paper 8,64,256,1024 --segments 1/8
  gp-jax bench denoise --config configs/sd2.py:keyframes --config.data.size=512x512 --image --against torch
  gp-jax bench denoise --config configs/m3ddm.py --on 1
  gp-jax bench pipeline --config configs/sd2.py:keyframes --source 192x256 --size 256x256 --steps 25 --guidance 2
  gp-jax bench metrics --against torch
  gp-jax bench --config configs/sd2.py:keyframes --on v5p:1x1x1,v5p:2x2x2,v5p:4x8x8 --segments 2
  gp-jax bench --config configs/sd2.py:keyframes --coordinator gpu1:99 --num-processes 2 --process-id 0
"""

import argparse
import functools
import os
import re
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console

from gp_jax.cli import arguments as parse
from gp_jax.cli import metric_times, paper, records
from gp_jax.cli.methods import ATTENTIONS, DTYPES
from gp_jax.cli.processes import add_process_arguments, check_alike, joined
from gp_jax.errors import UserError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from gp_jax.bench.case import Row
    from gp_jax.bench.table import Table
    from gp_jax.training.setup import Run

T = TypeVar("T")
CASES = ("step", "denoise", "vae", "pipeline", "metrics")
# What is asked of some cases only.
_ONLY = {
    "on": ("step", "denoise", "vae"),
    "segments": ("step", "denoise", "vae"),
    "image": ("step", "denoise"),
    "on_paper": ("step", "denoise"),
    "chip": ("step", "denoise"),
    "share": ("step", "denoise"),
    "against": ("step", "denoise", "metrics"),
    "profile": ("step", "denoise", "vae"),
    "frames": ("pipeline", "metrics"),
    "clips": ("metrics",),
    **dict.fromkeys(
        ("config", "init_from", "attention", "mesh", "coordinator", "num_processes", "process_id"),
        ("step", "denoise", "vae", "pipeline"),
    ),
    **dict.fromkeys(("source", "size", "steps", "guidance"), ("pipeline",)),
}
_PROJECTED, _WANTED = 500, (512, 512, 720, 1280)  # frames, source and canvas


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what the command takes."""
    parser.add_argument("what", nargs="?", choices=CASES, help="what is run; by default step")
    parser.add_argument("--config", metavar="FILE[:ARG]", help="configs/sd2.py:keyframes and the like")
    parser.add_argument("--init-from", metavar="DIR|NAME", help="whose networks are meant, as config.init_from")
    parser.add_argument(
        "--image", action="store_true", help="the image network alone: without what makes it one of video"
    )
    parser.add_argument("--on", type=_names, metavar="A,B", help="8, or v5p:2x2x2: compile for these, run nothing")
    parser.add_argument("--on-paper", type=_counts, metavar="A,B", help="numbers of devices; nothing is compiled")
    parser.add_argument(
        "--chip", type=_chips, metavar="A,B", help=f"for --on-paper: {', '.join(paper.CHIPS)}; by default all"
    )
    parser.add_argument(
        "--share",
        type=_share,
        metavar="P",
        help=f"for --on-paper: of the chip's peak that computing reaches; by default {paper.SHARE}",
    )
    parser.add_argument(
        "--mesh",
        default="",
        metavar="AXES",
        help="such as data=2,fsdp=4; by default data=N/8,fsdp=8, and one device for pipeline",
    )
    parser.add_argument(
        "--segments",
        type=_segments,
        metavar="N",
        help="per call and data slice; on paper per device, and 1/8 of one too; by default 1, on paper 8",
    )
    parser.add_argument(
        "--attention",
        type=_names,
        metavar="A,B",
        help=f"kernels, of {', '.join(ATTENTIONS)}; by default the config's",
    )
    parser.add_argument("--profile", action="store_true", help="say what kinds of kernels took the time, on a GPU")
    parser.add_argument("--against", choices=("torch",), help="what else is run, on the first device")
    parser.add_argument(
        "--repeats",
        type=parse.count,
        metavar="N",
        help="how many calls are timed, by default 10, or clips and metrics, by default 3",
    )
    parser.add_argument("--source", type=parse.size, metavar="WxH", help="frames of the clip; by default 256x256")
    parser.add_argument(
        "--size", type=parse.size, metavar="WxH", help="of the canvas; by default 16:9 around the source"
    )
    parser.add_argument(
        "--frames", type=parse.count, metavar="N", help="of a clip; by default two segments' worth, for metrics 16"
    )
    parser.add_argument("--clips", type=parse.count, metavar="N", help="at once, for metrics; by default 4")
    parser.add_argument(
        "--steps", type=parse.count, metavar="N", help="of denoising; by default the config's, for --record 10"
    )
    parser.add_argument(
        "--guidance", type=parse.finite, metavar="S", help="weight of global tokens; by default the config's"
    )
    group = parser.add_argument_group("records, and what differs between them")
    group.add_argument("--record", metavar="FILE", help="keep what each stage makes; a file of this name is replaced")
    group.add_argument("--diff", nargs="+", metavar="FILE", help="records; all are compared with the first")
    group.add_argument("--checkpoint", metavar="DIR|NAME", help="whose stages are recorded; by default a small one")
    group.add_argument(
        "--dtype",
        choices=DTYPES,
        metavar="NAME",
        help=f"but of the autoencoder: {', '.join(DTYPES)}; by default float32 on CPUs, bfloat16 elsewhere",
    )
    group.add_argument("--backend", choices=("jax", "torch"), help="of the denoiser; by default jax")
    group.add_argument("--output", metavar="DIR", help="for a page with plots, drift.html; by default none")
    add_process_arguments(parser)
    parser.set_defaults(overrides=[])  # takes what begins with --config. (see main.py)


def run(arguments: argparse.Namespace) -> int | None:
    """Prints a line of the table as soon as it is known."""
    if arguments.record or arguments.diff:
        return _records(arguments)
    for name in (*records.OF_RECORD, "output"):
        if getattr(arguments, name):
            raise UserError(f"--{name} is of {'--diff' if name == 'output' else '--record'}: leave it out")
    what = arguments.what or "step"
    for name, cases in _ONLY.items():
        if _given(arguments, name) and what not in cases:
            raise UserError(f"--{name.replace('_', '-')} is of {' and '.join(cases)}, not of {what}: leave it out")
    if what == "metrics" and arguments.overrides:
        raise UserError(f"metrics takes no {arguments.overrides[0]}: leave it out")
    if arguments.on_paper:
        paper.check(arguments)
    elif isinstance(arguments.segments, Fraction):
        raise UserError(f"--segments {arguments.segments} is of --on-paper: give a whole number")
    elif arguments.chip or arguments.share:
        raise UserError("--chip and --share are of --on-paper 8,256: say for how many devices, or leave them out")
    for name in ("profile", "against", "repeats", "coordinator"):
        if getattr(arguments, name) and (arguments.on or arguments.on_paper):
            raise UserError(f"--{name} is for devices that are here, and --on runs nothing: give one of them")
    if arguments.coordinator and (arguments.against or (what == "pipeline" and not arguments.mesh)):
        wrong = "torch has no part in a mesh: leave out --against" if arguments.against else "give --mesh too"
        raise UserError(f"--coordinator is for what lies on a mesh over several processes: {wrong}")
    if arguments.against:  # jax leaves room for torch, which has the same device
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

    if what == "metrics":
        metric_times.show(arguments)
        return None
    if not arguments.config:
        raise UserError(f"gp-jax bench {what} needs to know of which networks: --config configs/tiny.py:keyframes, say")

    from gp_jax.bench import torch_process
    from gp_jax.bench.case import image_alone
    from gp_jax.training.config import load_config
    from gp_jax.training.rules import check_fields

    begun = [f"--config.init_from={arguments.init_from}"] * bool(arguments.init_from)
    config = load_config(arguments.config, [*arguments.overrides, *begun])
    check_fields(config)
    if arguments.against:
        torch_process.check_torch(*["diffusers"] * arguments.image)
    config = image_alone(config) if arguments.image else config
    with joined(arguments):
        check_alike(arguments, config)
        print(f"{arguments.config}, {config.dtype}, remat {config.remat}", flush=True)
        if arguments.on_paper:
            paper.show(arguments, config, what)
        elif what == "pipeline":
            _pipeline(arguments, config)
        else:
            _calls(arguments, config, what)
    return None


def _records(arguments: argparse.Namespace) -> int | None:
    """Of --record or --diff, which take nothing of the cases."""
    name = "record" if arguments.record else "diff"
    taken = {"record", *records.OF_RECORD, *records.SHARED} if arguments.record else {"diff", "output"}
    known = {*_ONLY, *records.OF_RECORD, *records.SHARED, "what", "overrides", "record", "diff", "output"}
    if other := sorted(key for key in known - taken if _given(arguments, key)):
        words = {"what": arguments.what, "overrides": next(iter(arguments.overrides), None)}
        typed = words.get(other[0], f"--{other[0].replace('_', '-')}")
        raise UserError(f"--{name} takes no {typed}: leave it out")
    return records.record(arguments) if arguments.record else records.diff(arguments)


def _calls(arguments: argparse.Namespace, config: "ConfigDict", what: str) -> None:
    """Of all but the pipeline: one program a row."""
    import jax

    from gp_jax.bench import denoise, step, vae
    from gp_jax.bench.case import model_flops, prepare_case
    from gp_jax.bench.table import COLUMNS, Table, headings, torch_cells
    from gp_jax.bench.torch_process import measure_in_torch, task_of
    from gp_jax.parallel.absent import absent_devices

    if arguments.profile and jax.default_backend() != "gpu":
        raise UserError("--profile tells the kernels of a GPU, and there is none here: leave it out")
    segments = arguments.segments or 1
    repeats = 0 if arguments.on else arguments.repeats or 10
    cases: list[tuple[Callable[..., Any], Callable[..., Row]]] = [(step.trace_step, step.bench_step)]
    if what == "denoise":
        cases = [(denoise.trace_denoising, denoise.bench_denoising)]
    if what == "vae":
        config = vae.with_pixels(config)
        cases = [(vae.trace_part(part), functools.partial(vae.bench_part, part=part)) for part in vae.PARTS]
    places = (
        absent_devices(arguments.on) if arguments.on else [jax.devices()[:1] if arguments.against else jax.devices()]
    )
    runs = [
        prepare_case(config, devices, segments=segments, mesh=arguments.mesh, attention=attention)
        for devices in places
        for attention in arguments.attention or [config.attention]
    ]
    if what == "step" and not arguments.on:
        step.check_step(runs[0])
    table = Table(headings(what, counted=bool(arguments.on), against=bool(arguments.against)))
    table.line(table.headings)
    console, theirs = Console(stderr=True), {}
    for trace, measure in cases:
        with console.status("counting FLOPs"):
            flops = model_flops(config, trace)
        if arguments.against:
            for outcome in measure_in_torch(task_of(runs[0], what, repeats)):
                if outcome.times is None:
                    table.failed([f"1 x {outcome.device}", f"torch {outcome.mode}"], outcome.error)
                    continue
                theirs[outcome.mode] = outcome.times.median
                table.row(torch_cells(outcome, segments, flops * segments, segments * config.data.segment_frames))
        for made in runs:
            row = _attempted(table, made, functools.partial(measure, made, flops, repeats=repeats))
            if row is not None:
                cells = {heading: cell(row) for heading, cell in COLUMNS.items()}
                if row.times:
                    cells |= {f"x {mode}": f"{seconds / row.times.median:.2f}" for mode, seconds in theirs.items()}
                table.row(cells)
                if arguments.profile:
                    _profile(row)


def _profile(row: "Row") -> None:
    """A line for each kind of kernel."""
    from gp_jax.bench.profile import kernels

    assert row.again is not None
    for kind in kernels(row.again):
        milliseconds, count = 1e3 * kind.seconds / row.in_a_row, kind.count / row.in_a_row
        print(f"  {kind.name:16} {milliseconds:8.2f} ms" + (f"  {count:5.0f} kernels" if count else ""))


def _pipeline(arguments: argparse.Namespace, config: "ConfigDict") -> None:
    """A row for each kernel, and what it says of another clip."""
    import jax

    from gp_jax.bench.case import prepare_case
    from gp_jax.bench.pipeline import bench_pipeline, check_pipeline, pipeline_of, projected
    from gp_jax.bench.table import PIPELINE, Table
    from gp_jax.bench.vae import with_pixels
    from gp_jax.geometry import Canvas
    from gp_jax.jobs.rates import duration
    from gp_jax.methods.globalpaint.options import Options
    from gp_jax.methods.options import Count

    config, (height, width) = with_pixels(config), arguments.source or (256, 256)
    canvas = Canvas.from_aspect(height, width, 16 / 9)
    if arguments.size:
        tall, wide = arguments.size
        if tall < height or wide < width:
            raise UserError(f"--size {wide}x{tall} is smaller than --source {width}x{height}: give at least that")
        canvas = Canvas.from_size(height, width, tall, wide)
    options = Options(steps=arguments.steps and Count(arguments.steps), guidance=arguments.guidance)
    devices = jax.devices() if arguments.mesh else jax.devices()[:1]
    runs = [
        prepare_case(config, devices, segments=1, mesh=arguments.mesh, attention=attention)
        for attention in arguments.attention or [config.attention]
    ]
    check_pipeline(runs[0], arguments.steps)
    table = Table(PIPELINE)
    table.line(table.headings)
    for made in runs:
        pipeline = pipeline_of(made, made.mesh if arguments.mesh else None)
        frames = arguments.frames or 2 * made.settings.segment_frames
        wanted = {"frames": frames, "options": options, "repeats": arguments.repeats or 3}
        row = _attempted(table, made, functools.partial(bench_pipeline, made, pipeline, canvas, **wanted))
        if row is not None:
            table.row({heading: cell(row) for heading, cell in PIPELINE.items()})
            seconds, calls = projected(row, pipeline, options, _PROJECTED, Canvas.from_size(*_WANTED))
            told = ", ".join(f"{number} x {stage}" for stage, number in calls.items())
            rate = f"{duration(seconds)}, {_PROJECTED / seconds:.3g} frames/s"
            print(f"projected, not measured: {_PROJECTED} frames of 512x512 to 1280x720 in {rate} ({told})")


def _attempted(table: "Table", run: "Run", measure: Callable[[], T]) -> T | None:
    """What `measure` returns; None, and a line of why, where the device has not the kernel, or not the memory.

    Raises:
      UserError: one of several processes failed, and the others may be in the middle of it.
    """
    import jax

    from gp_jax.bench.table import devices
    from gp_jax.models.attention import check_kernel

    begun = False
    try:
        with Console(stderr=True).status(f"{devices(run)}, {run.config.attention}"):
            check_kernel(run.config.attention, run.mesh.devices.flat[0].platform)
            begun = True
            return measure()
    except (UserError, ValueError, RuntimeError, NotImplementedError) as error:
        if begun and jax.process_count() > 1:
            raise UserError(f"{run.config.attention} does not work here: {error}") from error
        table.failed([devices(run), run.config.attention], str(error))
        return None


def _given(arguments: argparse.Namespace, name: str) -> bool:
    """Whether something was asked for, be it 0."""
    value = getattr(arguments, name)
    return bool(value) or type(value) in (int, float)


def _names(text: str) -> list[str]:
    return text.split(",")


def _segments(text: str) -> int | Fraction:
    """`8` as 8, `1/8` as a fraction."""
    if re.fullmatch(r"1/[1-9]\d{0,3}", text):
        return Fraction(text) if text != "1/1" else 1
    return parse.count(text)


def _counts(text: str) -> list[int]:
    return [parse.count(part) for part in text.split(",")]


def _share(text: str) -> float:
    """Above 0, up to 1."""
    if not 0 < (share := parse.finite(text)) <= 1:
        raise argparse.ArgumentTypeError(f"'{text:.40}' is not a share above 0, up to 1, such as 0.4")
    return share


def _chips(text: str) -> list[str]:
    if unknown := set(text.split(",")) - set(paper.CHIPS):
        raise argparse.ArgumentTypeError(f"'{min(unknown):.40}' is none of {', '.join(paper.CHIPS)}")
    return text.split(",")
