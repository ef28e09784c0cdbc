"""Continues a video beyond its borders: a clip goes in, a wider or taller clip comes out.

The source's own pixels stay as they are; frame rate and sound are kept. Give the new frame in one of three ways:

  --aspect 16:9      the smallest frame of that ratio that holds the source: one side grows, nothing is cropped
  --size 1920x1080   exactly that many pixels
  --pad 64,64,0,0    so many pixels more on the left, right, top and bottom

What is made may also lie within the frame, and the source may move; --mask and --stabilize need none of the three, and
all of them go with each:

  --mask FILE        a video or a picture of the source's size: what is white there is made anew
  --path FILE        a line x,y for each frame, or JSON [[x, y], ...]: where the source's upper left corner lies in the
                     new frame, in pixels, rounded to whole ones; it may not leave the frame
  --stabilize        the source is moved so that its camera goes smoothly, and the borders that wander in are made

Several processes that see the same files make one clip: each gets the same command but for its number, and a --mesh
over the devices of all. The first one writes and prints; if one fails or dies, all end, with its reason.

Ratios and sizes count stored pixels. A source that is larger than --size is scaled down to fit with --fit, and one
whose frame of --aspect would be larger than --max-side with that; it is never scaled up.

examples:
  gp-jax outpaint clip.mp4 wide.mp4 --aspect 16:9
  gp-jax outpaint sample:carphone carphone.mp4 --aspect 16:9 --seed 3
  gp-jax outpaint clip.mov tall.webm --aspect 9:16 --anchor bottom
  gp-jax outpaint phone.mp4 desk.mp4 --size 1920x1080 --fit
  gp-jax outpaint frames/ wider_frames --pad 100,100,50,50 --frame-rate 30
  gp-jax outpaint clip.mp4 plain.mp4 --aspect 16:9 --method mirror
  gp-jax outpaint clip.mp4 dawn.mp4 --size 1920x1080 --checkpoint my_model/ --prompt "a harbour at dawn"
  gp-jax outpaint clip.mp4 quick.mp4 --aspect 16:9 --sampler lcm --steps 4
  gp-jax outpaint clip.mp4 ink.mp4 --aspect 16:9 --checkpoint my_model/ --lora ink.safetensors:0.8
  gp-jax outpaint clip.mp4 own.mp4 --aspect 16:9 --adapt 200            first learns from the clip, which takes long
  gp-jax outpaint clip.mp4 look.mp4 --aspect 16:9 --preview --frames 0:48   two seconds of it, soon and small
  gp-jax outpaint clip.mp4 both.mp4 --aspect 16:9 --compare             and both-compare.mp4, beside the source
  gp-jax outpaint clip.mp4 cut.mov --aspect 16:9 --codec prores         for an editor
  gp-jax outpaint clip.mp4 clean.mp4 --mask logo.png
  gp-jax outpaint clip.mp4 drifting.mp4 --size 1920x1080 --path places.csv
  gp-jax outpaint clip.mp4 steady.mp4 --stabilize
  gp-jax outpaint clip.mp4 cinema.mp4 --aspect 21:9 --resume            again, after a crash or Ctrl-C, to go on
  gp-jax outpaint clip.mp4 wide.mp4 --aspect 16:9 --mesh fsdp=2 --coordinator gpu1:99 --num-processes 2 --process-id 0
"""

import argparse
import contextlib
import dataclasses
import math
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gp_jax.cli import arguments as parse
from gp_jax.cli.methods import add_kernel_arguments, check_networks, has_networks, load_method
from gp_jax.cli.options import add_options, check_used, options_for
from gp_jax.cli.processes import add_process_arguments, check_alike, joined
from gp_jax.cli.progress import progress
from gp_jax.errors import UserError
from gp_jax.files import read_json
from gp_jax.geometry import ANCHORS, Canvas, frame_of, shrunk
from gp_jax.jobs.comparison import Comparison
from gp_jax.jobs.encoding import Encoding
from gp_jax.jobs.journal import holds_work
from gp_jax.memory import most_used_bytes, require
from gp_jax.methods.method import Job
from gp_jax.methods.registry import METHODS, options_of
from gp_jax.methods.shots import prepare, shots_of, sources
from gp_jax.video import CODECS, FORMATS, Coding, VideoReader, VideoWriter, check_target, resolve
from gp_jax.video.colours import PLANES, RGB

PREVIEW_SIDE, PREVIEW_STEPS = 480, 4
VISIBLE = 0.01  # of a side; less than that nobody sees
WORK = ".gp-jax-work"  # behind the name of the result: what is done of it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what the command takes."""
    parser.add_argument("input", metavar="IN", help="a video, a GIF, a folder of images, or sample:NAME")
    parser.add_argument(
        "output", metavar="OUT", help=f"ends in {', '.join(FORMATS)}, or in nothing for a folder of PNGs"
    )

    frame = parser.add_argument_group("the new frame").add_mutually_exclusive_group()
    frame.add_argument("--aspect", type=parse.aspect, metavar="W:H", help="ratio of width to height")
    frame.add_argument("--size", type=parse.size, metavar="WxH", help="pixels")
    frame.add_argument("--pad", type=parse.pads, metavar="L,R,T,B", help="pixels to add on each side")
    parser.add_argument("--fit", action="store_true", help="scale a source down that is larger than --size")
    parser.add_argument(
        "--max-side", type=parse.count, metavar="N", help="scale the source down so that no side of --aspect is longer"
    )
    parser.add_argument(
        "--anchor",
        choices=ANCHORS,
        default="center",
        metavar="WHERE",
        help=f"place of the source, unless --pad says it: {', '.join(ANCHORS)}",
    )

    model = parser.add_argument_group("the method")
    _add_method_arguments(model)
    add_options(parser, METHODS)
    add_process_arguments(parser)

    parser.add_argument(
        "--no-shots",
        action="store_true",
        help="make all of the clip together; by default each shot is made by itself, and shows nothing of another",
    )

    files = parser.add_argument_group("files")
    files.add_argument(
        "--frames",
        type=parse.frames,
        metavar="A:B",
        help="a part of the clip and of its sound, by default all: from frame A on, counted from 0, up to B but "
        "without it; either may be left out, and --frames=-48: is the last 48",
    )
    files.add_argument(
        "--codec",
        choices=CODECS,
        metavar="NAME",
        help=f"of the pictures: {', '.join(CODECS)}; ffv1 loses nothing; by default vp9 in .webm, else h264",
    )
    files.add_argument(
        "--crf",
        type=parse.index,
        metavar="N",
        help="how much encoding may lose: 0 is the best, 6 more halve the file; by default "
        + ", ".join(f"{codec.options['crf']} of {name}" for name, codec in CODECS.items() if codec.worst),
    )
    files.add_argument(
        "--pix-fmt",
        choices=(*PLANES, *RGB),
        metavar="NAME",
        help=f"how colours are stored: {', '.join((*PLANES, *RGB))}; by default yuv420p, yuv444p with odd sides, "
        "yuv422p10le with prores and bgr0, exact, with ffv1",
    )
    files.add_argument(
        "--compare",
        action="store_true",
        help="write a second file, OUT with -compare before its ending: source, result, and 8 times their difference "
        "before encoding, side by side",
    )
    files.add_argument(
        "--preview",
        action="store_true",
        help=f"soon and low: no side over {PREVIEW_SIDE} pixels (but with --mask and --path), {PREVIEW_STEPS} steps at "
        "most unless --steps says else, and no LoRA of the clip; with the same seed the sides resemble those to come",
    )
    files.add_argument("--overwrite", action="store_true", help="replace OUT if it is a file")
    files.add_argument(
        "--frame-rate",
        type=parse.rate,
        metavar="N",
        help="of a folder of images, which has none itself (default: 24)",
    )
    files.add_argument(
        "--resume",
        action="store_true",
        help="keep what is done in a folder, and go on with what an earlier run that ended early has left there; of "
        "methods with networks, and of dehan",
    )
    files.add_argument(
        "--work-folder",
        type=Path,
        metavar="DIR",
        help=f"that folder, which stays; by default, with --resume, OUT{WORK}, which is removed at the end",
    )


def run(arguments: argparse.Namespace) -> None:
    """Outpaints one clip. All that can be wrong with the request is found out before the model is loaded."""
    check_used(arguments, [arguments.method], METHODS)
    check_networks(arguments, [arguments.method], ("mesh", "attention", "dtype", "lora"))
    if arguments.preview:
        _make_soon(arguments)
    options = options_for(arguments.method, arguments)
    if arguments.coordinator and not (arguments.mesh and has_networks(arguments.method)):
        raise UserError("--coordinator is for networks that lie on a mesh over several processes: give --mesh too")
    with joined(arguments) as first:
        (_outpaint if first else _help_outpaint)(arguments, options)


def _outpaint(arguments: argparse.Namespace, options: Any) -> None:
    begin = time.monotonic()
    targets = _targets(arguments)
    original = _source(arguments)
    for target in targets:
        if target.exists() and target.samefile(original.path):
            raise UserError(f"{target} is the source itself: choose another name for the result")
    target = targets[0]
    work = _work_folder(arguments)
    if work is not None and work.resolve() in [target.resolve() for target in targets]:
        raise UserError(f"--work-folder {work} is where the result is to lie: choose another folder")
    if work is not None and holds_work(work) and not arguments.resume:
        raise UserError(f"{work} holds work that was begun: go on with it by --resume, or choose another folder")
    whole = _part(arguments, original)
    reader, canvas = _canvas(arguments, whole)
    coding = Coding(arguments.codec, arguments.crf, arguments.pix_fmt)
    comparison = Comparison(canvas)
    sizes = (canvas.height, canvas.width), comparison.size
    writer, *beside = (
        VideoWriter(path, reader.info, audio_from=reader, size=size, overwrite=arguments.overwrite, coding=coding)
        for path, size in zip(targets, sizes)
    )
    if reader.info.damage:
        print(f"gp-jax: {reader.info.damage}", file=sys.stderr)
    if notes := [*reader.info.notes, *writer.notes]:
        print(f"gp-jax: {arguments.input}: {'; '.join(notes)}", file=sys.stderr)

    job, shots = _job(arguments, options, reader, canvas, work)
    if work is not None and getattr(job, "journal", None) is None:
        raise UserError(f"{arguments.method} keeps nothing to go on with: leave --resume and --work-folder out")
    encoding = Encoding(target, canvas, len(reader), coding)
    estimate = job.estimate  # takes its time: programs are compiled here
    if told := estimate.told(encoding.seconds + time.monotonic() - begin, encoding.peak_bytes):
        print(f"gp-jax: {told}", file=sys.stderr)
    with _told_where(work), progress(len(reader)) as report, ExitStack() as stack:
        frames = job.frames(report)
        for second in beside:
            seen = sources(reader, canvas, options, shots)
            frames = comparison.watched(frames, seen, stack.enter_context(second).write)
        encoding.write(writer, frames)
    if work is not None and arguments.work_folder is None:
        shutil.rmtree(work, ignore_errors=True)
    seconds = time.monotonic() - begin
    scaled = ""
    if reader is not whole:
        scaled = f", source scaled to {canvas.source_width}x{canvas.source_height}"
    size = f"{canvas.width}x{canvas.height}{scaled}"
    count = f"{len(reader)} frame{'s' * (len(reader) > 1)}"
    took = f"{seconds:.1f} s ({len(reader) / seconds:.3g} frames/s), {most_used_bytes() / 1e9:.2g} GB"
    print(f"{target}: {count}, {size}, {took}, {_made_by(arguments)}")


def _help_outpaint(arguments: argparse.Namespace, options: Any) -> None:
    """What the processes beside the first do: the same programs, of the same frames, which the first one writes."""
    whole = _part(arguments, _source(arguments))
    reader, canvas = _canvas(arguments, whole)
    job, _ = _job(arguments, options, reader, canvas, _work_folder(arguments))
    _ = job.estimate  # programs are compiled together
    with contextlib.closing(job.frames()) as frames:
        for _ in frames:
            pass


def _job(
    arguments: argparse.Namespace, options: Any, reader: VideoReader, canvas: Canvas, work: Path | None
) -> tuple[Job, list[range]]:
    """What is to be done, and of which shots."""
    check_alike(arguments, len(reader), canvas)
    mesh = None
    if arguments.mesh:
        from gp_jax.parallel import make_mesh

        mesh = make_mesh(arguments.mesh)
    method = load_method(arguments.method, arguments.checkpoint, arguments, mesh)
    shots = [range(len(reader))] if arguments.no_shots or method.outputs else _shots(reader)
    return prepare(method, reader, canvas, options, work, shots), shots


def _shots(reader: VideoReader) -> list[range]:
    """The frames of each shot; says where there are several."""
    with progress(len(reader)) as report:
        begin = time.monotonic()
        shots = shots_of(reader, lambda *done: report(*done) if time.monotonic() - begin > 2 else None)
    if len(shots) > 1:
        starts = [str(shot.start) for shot in shots]
        shown = ", ".join(starts if len(starts) <= 12 else [*starts[:10], "...", starts[-1]])
        print(f"gp-jax: {len(shots)} shots, which begin at the frames {shown}: each is made by itself", file=sys.stderr)
    return shots


def _make_soon(arguments: argparse.Namespace) -> None:
    """Turns what was asked for into a preview; what was asked for by name stays."""
    names = {field.name for field in dataclasses.fields(options_of(arguments.method))}
    soon = {"adapt": 0}
    if "steps" in names and _own_steps(arguments) > PREVIEW_STEPS:
        soon["steps"] = PREVIEW_STEPS
    for name, value in soon.items():
        if name in names and name not in arguments:
            setattr(arguments, name, value)


def _own_steps(arguments: argparse.Namespace) -> float:
    """Steps that the checkpoint takes by itself; some need one only."""
    from gp_jax.checkpoint.folder import find_checkpoint
    from gp_jax.checkpoint.settings import read_settings

    settings = read_settings(read_json(find_checkpoint(arguments.checkpoint or "tiny") / "config.json"))
    return getattr(settings, "steps", math.inf)


def _source(arguments: argparse.Namespace) -> VideoReader:
    """The clip, whole."""
    if arguments.frame_rate is None:
        return VideoReader(arguments.input)
    if not resolve(arguments.input).is_dir():
        raise UserError(f"--frame-rate is of folders of images, and {arguments.input} has a rate itself: leave it out")
    return VideoReader(arguments.input, arguments.frame_rate)


def _targets(arguments: argparse.Namespace) -> list[Path]:
    """The file of the result and, where one was asked for, that of the comparison."""
    paths = [Path(arguments.output)]
    if not paths[0].name:
        raise UserError(f"the result cannot be {arguments.output}: give it a name")
    if arguments.compare:
        paths.append(paths[0].with_name(f"{paths[0].stem}-compare{paths[0].suffix}"))
    return [check_target(path, arguments.overwrite) for path in paths]


def _part(arguments: argparse.Namespace, reader: VideoReader) -> VideoReader:
    """The frames that were asked for."""
    if arguments.frames is None:
        return reader
    start, stop, _ = arguments.frames.indices(len(reader))
    if start >= stop:
        raise UserError(
            f"--frames leaves nothing of {arguments.input}, which has {len(reader)} frames, 0 to {len(reader) - 1}"
        )
    return reader if (start, stop) == (0, len(reader)) else reader.part(start, stop)


def _work_folder(arguments: argparse.Namespace) -> Path | None:
    """Where what is done is kept, None for nowhere."""
    if not arguments.resume and arguments.work_folder is None:
        return None
    target = Path(arguments.output)
    return arguments.work_folder or target.with_name(target.name + WORK)


@contextlib.contextmanager
def _told_where(work: Path | None) -> Iterator[None]:
    """Says, where the work ends early, that what is done of it is not lost."""
    try:
        yield
    except BaseException:
        if work is not None and work.is_dir() and holds_work(work):
            print(f"gp-jax: what is done lies in {work}: --resume goes on with it", file=sys.stderr)
        raise


def _add_method_arguments(group: Any) -> None:
    """Which method, and what it is made of."""
    group.add_argument(
        "--method",
        default="globalpaint",
        metavar="NAME",
        help=f"{', '.join(METHODS)}; or folder:DIR, frames that another system made",
    )
    group.add_argument(
        "--checkpoint", metavar="DIR|NAME", help="a folder, or a model of this package; by default globalpaint's tiny"
    )
    group.add_argument("--mesh", metavar="AXES", help="spread the work over devices: data=2,context=4; by default one")
    add_kernel_arguments(group)


def _made_by(arguments: argparse.Namespace) -> str:
    loras = [f"{Path(path).name} at {strength:g}" for path, strength in arguments.lora or ()]
    if arguments.method == "globalpaint":
        return " and ".join([f"checkpoint {arguments.checkpoint or 'tiny'}", *loras])
    checkpoint = [f"checkpoint {arguments.checkpoint}"] if arguments.checkpoint else []
    return ", ".join([f"method {arguments.method}", " and ".join([*checkpoint, *loras])][: 1 + bool(checkpoint)])


def _canvas(arguments: argparse.Namespace, reader: VideoReader) -> tuple[VideoReader, Canvas]:
    """The source, scaled down where that was asked for, and its place in the new frame."""
    if arguments.fit and not arguments.size:
        raise UserError("--fit goes with --size, which says what the source is to fit into")
    if arguments.max_side and not arguments.aspect:
        raise UserError("--max-side goes with --aspect: --size and --pad say the size themselves")
    within = any(hasattr(arguments, name) for name in ("mask", "stabilize"))  # something is made of a frame's inside
    if not (arguments.aspect or arguments.size or arguments.pad or within):
        raise UserError("nothing says what the new frame is: give --aspect, --size or --pad (or --mask or --stabilize)")
    height, width = source = reader.info.height, reader.info.width
    if arguments.aspect:
        canvas = Canvas.from_aspect(*source, arguments.aspect, arguments.anchor)
        if arguments.max_side and max(canvas.height, canvas.width) > arguments.max_side:
            frame = frame_of(arguments.aspect, arguments.max_side)
            reader = reader.resized(*shrunk(*source, *frame))
            canvas = Canvas.from_size(reader.info.height, reader.info.width, *frame, arguments.anchor)
        _check_visible(canvas)
    elif arguments.size:
        if arguments.fit and (height > arguments.size[0] or width > arguments.size[1]):
            reader = reader.resized(*shrunk(*source, *arguments.size))
        canvas = Canvas.from_size(reader.info.height, reader.info.width, *arguments.size, anchor=arguments.anchor)
    else:
        canvas = Canvas.from_pads(*source, *(arguments.pad or (0, 0, 0, 0)))
    # A mask and a path are told in the source's own pixels.
    small = canvas if {"mask", "path"} & set(vars(arguments)) else canvas.shrunk_to(PREVIEW_SIDE)
    if arguments.preview and not small.is_complete and small != canvas:
        reader, canvas = reader.resized(small.source_height, small.source_width), small
    if canvas.is_complete and not within:
        raise UserError(
            f"{arguments.input} fills {canvas.width}x{canvas.height} pixels already: there is nothing to outpaint"
        )
    require(canvas.frame_bytes, f"a frame of {canvas.width}x{canvas.height} pixels")
    return reader, canvas


def _check_visible(canvas: Canvas):
    rows, columns = canvas.height - canvas.source_height, canvas.width - canvas.source_width
    if 0 < rows < VISIBLE * canvas.height or 0 < columns < VISIBLE * canvas.width:
        raise UserError(
            f"this ratio adds {rows or columns} {'rows' if rows else 'columns'} only, which nobody would see: "
            f"ask for --size {canvas.width}x{canvas.height} if that is meant"
        )
