"""Evaluates methods on a data set by a protocol: scores, a table beside the published ones, and a report to look at.

Killed and started again with the same arguments it goes on where it was; started with other methods it adds them to
the same folder. `--method` takes names of the list below, and `folder:DIR` for what another system made: DIR/CASE/CLIP,
videos or folders of images of the protocol's size, with all frames. An output that is missing, short or of another size
is named, and its method gets no score. LPIPS and FVD need `gp-jax fetch` once; `--metric` can leave them out.

Two ways to share the work. --shard K/N takes every N-th clip, on devices of its own, and all write into one folder;
--processes and --engine ray start so many of these; Ray starts those again whose worker was lost. Of networks that no
machine holds alone each clip is made by several processes: each gets the same command but for its number, and a --mesh
over the devices of all. The first one reads the data, measures, writes and prints; if one fails or dies, all end, with
its reason, and the same commands go on where they were.

OUTPUT gets report.html, summary.md and summary.csv, the numbers of every clip and frame in results.jsonl, of all clips
in scores.jsonl, the times in timing.jsonl, and all frames as PNGs in generated/.

examples:
  gp-jax evaluate --protocol m3ddm-256 --data DAVIS --output results
  gp-jax evaluate --protocol m3ddm-256 --data DAVIS --output mine --method globalpaint --checkpoint my_model/
  gp-jax evaluate --protocol wide-720p --dataset folder --data clips/ --method edge,telea,flow --output wide
  gp-jax evaluate --protocol m3ddm-256 --data DAVIS --method folder:outputs/motia --output results
  gp-jax evaluate --protocol m3ddm-256 --data DAVIS --output pixels --metric psnr,ssim  needs no weights
  gp-jax evaluate --protocol m3ddm-256 --data DAVIS --output results --shard 0/4        one of four processes
  gp-jax evaluate --protocol m3ddm-256 --data DAVIS --output results --engine ray --address auto --ask GPU=1
  gp-jax evaluate --protocol m3ddm-256 --data DAVIS --output results --method globalpaint --checkpoint my_model/ \\
      --mesh fsdp=2 --coordinator gpu1:99 --num-processes 2 --process-id 0
"""

import argparse
import contextlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gp_jax.cli import arguments as parse
from gp_jax.cli.engine import LOCAL, Done, Engine, share_out
from gp_jax.cli.methods import add_kernel_arguments, check_networks, has_networks, load_method
from gp_jax.cli.options import add_options, check_used, options_for
from gp_jax.cli.processes import add_process_arguments, check_alike, joined
from gp_jax.cli.progress import progress
from gp_jax.errors import UserError
from gp_jax.evaluation.datasets import DATASETS
from gp_jax.evaluation.protocols import PROTOCOLS
from gp_jax.methods.registry import FOLDER, METHODS, load

if TYPE_CHECKING:
    from gp_jax.evaluation.harness import Contender

DEFAULT_METHODS = "globalpaint", "edge", "mirror", "telea", "navier-stokes", "flow"
SHARDS = 16  # each reads the networks and compiles anew
WIDTH = 160  # of the table where no terminal says it, in characters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what the command takes."""
    add_data_arguments(parser)
    parser.add_argument(
        "--method",
        action="append",
        metavar="A,B",
        help=f"{', '.join(METHODS)}, NAME:CHECKPOINT or folder:DIR; by default {', '.join(DEFAULT_METHODS)}",
    )
    parser.add_argument(
        "--metric", type=_names, metavar="A,B", help="what to measure; by default what the protocol says"
    )
    parser.add_argument("--note", default="", metavar="TEXT", help="a sentence to stand below the numbers")
    parser.add_argument("--shard", type=_shard, default="0/1", metavar="K/N", help="work on the K-th of every N clips")
    parser.add_argument(
        "--shards",
        type=parse.count,
        metavar="N",
        help=f"for --processes and --engine ray: how many there are; by default {SHARDS} on Ray, else the processes",
    )
    Engine.add_arguments(parser, processes=1)
    parser.add_argument(
        "--checkpoint", metavar="DIR|NAME", help="of methods that name none: a folder, or a model of this package"
    )
    add_kernel_arguments(parser)
    add_options(parser, METHODS)
    add_process_arguments(parser)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """What to evaluate on, as the ablation takes it too."""
    parser.add_argument("--protocol", choices=PROTOCOLS, required=True, metavar="NAME", help=", ".join(PROTOCOLS))
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of the data set")
    parser.add_argument(
        "--dataset", choices=DATASETS, default="davis", metavar="NAME", help=f"its layout: {', '.join(DATASETS)}"
    )
    parser.add_argument("--output", required=True, metavar="OUTPUT", help="folder for everything that comes out")
    parser.add_argument("--clips", metavar="A,B", help="names of the clips to take; all by default")
    parser.add_argument(
        "--frames", type=parse.count, metavar="N", help="take so many from the beginning of each clip; by default all"
    )
    parser.add_argument(
        "--mesh", metavar="AXES", help="spread the work over devices: data=2,context=4; by default on one"
    )


def run(arguments: argparse.Namespace) -> int:
    """Evaluates and prints the table; the exit code is 1 where an output could not be scored."""
    if "save_lora" in arguments:
        raise UserError("--save-lora keeps what was fitted to one clip, and an evaluation has many: leave it out")
    names = [name for part in arguments.method or DEFAULT_METHODS for name in part.split(",")]
    if arguments.coordinator and not (arguments.mesh and any(has_networks(name.partition(":")[0]) for name in names)):
        raise UserError(
            "--coordinator is for networks that lie on a mesh over several processes: give --mesh too, or share clips "
            "by --shard"
        )
    with joined(arguments) as first:
        from gp_jax.parallel import make_mesh

        mesh = make_mesh(arguments.mesh) if arguments.mesh else None
        contenders = _contenders(names, arguments, mesh)
        _share_out(arguments)
        if not arguments.coordinator:
            return _evaluate(arguments, contenders, mesh)
        from gp_jax.evaluation.together import dismiss, following, leading

        # Checkpoints of one name must be the same everywhere.
        check_alike(arguments, {name: one.method.settings(one.options) for name, one in contenders.items()})
        if not first:
            return following(contenders)
        code = _evaluate(arguments, leading(contenders), None)  # measured by this process alone
        dismiss(code)
        return code


def _share_out(arguments: argparse.Namespace) -> None:
    """Has the shards made elsewhere, where that was asked; what comes after finds them done."""
    engine = Engine.of(arguments)
    if engine == Engine():
        if arguments.shards:
            raise UserError("--shards is of --processes and --engine ray: give one of them too, or leave it out")
        return
    if arguments.coordinator or arguments.shard != (0, 1):
        other = "coordinator" if arguments.coordinator else "shard"
        raise UserError(f"--{other} shares the work too: leave it out, or --processes and --engine")
    shards = arguments.shards or (SHARDS if engine.ray else engine.processes)
    share_out(_shard_alone, [(arguments, (k, shards)) for k in range(shards)], engine, "shards evaluated", shards)


def _shard_alone(arguments: argparse.Namespace, shard: tuple[int, int], done: Done) -> None:
    """A job of a process of its own; what there is to say of its outputs is said at the end, of all."""
    with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
        run(argparse.Namespace(**vars(arguments) | LOCAL | {"shard": shard, "shards": None}))
    done(1)


def _evaluate(arguments: argparse.Namespace, contenders: "dict[str, Contender]", mesh: Any) -> int:
    """The exit code; `mesh` is what measuring is spread over."""
    from rich.console import Console

    from gp_jax.evaluation.harness import evaluate
    from gp_jax.evaluation.report import write_report
    from gp_jax.evaluation.results import Results
    from gp_jax.evaluation.summary import summary
    from gp_jax.evaluation.table import terminal

    with progress() as report:
        outcome = evaluate(
            arguments.output,
            protocol=arguments.protocol,
            dataset=arguments.dataset,
            data=arguments.data,
            methods=contenders,
            clips=arguments.clips and arguments.clips.split(","),
            frames=arguments.frames,
            metrics=arguments.metric or (),
            note=arguments.note,
            shard=arguments.shard,
            mesh=mesh,
            progress=report,
        )
    for problem in outcome.problems:
        print(f"gp-jax: {problem}", file=sys.stderr)
    if outcome.finished:
        results = Results(arguments.output)
        console = Console()
        if not console.is_terminal:
            console.width = WIDTH
        console.print(terminal(summary(results)))
        print("\n".join(map(str, write_report(results))))
    else:
        print("this shard is done, others are not yet: the one that ends last makes the table")
    return int(bool(outcome.problems))


def _contenders(names: list[str], arguments: argparse.Namespace, mesh: Any) -> "dict[str, Contender]":
    """What takes part, by the names in tables: `edge`, `globalpaint`, `my_model` of `globalpaint:runs/my_model`."""
    from gp_jax.evaluation.harness import Contender

    if arguments.checkpoint and not any(map(has_networks, names)):
        raise UserError(
            f"--checkpoint is of methods that are made of one and name none, and {', '.join(names)} is none of these: "
            "leave it out"
        )
    contenders: dict[str, Contender] = {}
    for name in names:
        kind, _, place = name.partition(":")
        label = Path(place).resolve().name if place else name
        if label in contenders:
            raise UserError(f"there are two methods of the name {label}: leave one out, or rename a folder")
        if kind == FOLDER:
            method = load(name)
        else:
            checkpoint = place or (arguments.checkpoint if has_networks(kind) else None)
            method = load_method(kind, checkpoint, arguments, mesh)
        contenders[label] = Contender(method, options_for(kind, arguments))
    kinds = [name.partition(":")[0] for name in names]
    check_used(arguments, kinds, METHODS)
    check_networks(arguments, kinds, ("attention", "dtype", "lora"))
    return contenders


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(text.split(",")))


def _shard(text: str) -> tuple[int, int]:
    """`0/4` as (0, 4)."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form K/N, K from 0 to N - 1")
    return int(match[1]), int(match[2])
