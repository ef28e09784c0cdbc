"""Runs the arms of the ablation and makes one table: metrics, parameters, FLOPs, memory and time of each.

An arm is a name of the list below and its checkpoint, or several of one kind that were trained with different seeds:

  baseline        no 3D windowed attention, no global tokens
  est             3D windowed attention
  global-tokens   both
  hierarchical    both, key frames first (as all arms but the next)
  sequential      both, clip after clip; give it the checkpoint of the arm above

A checkpoint that has not what its arm is about is refused. With several checkpoints or seeds each number is a mean with
its 95% interval. Arms of as many checkpoints are also compared run by run: give those of one training seed in the same
place of each list. Killed and started again with the same arguments it goes on where it was. OUTPUT gets ablation.md
and ablation.csv, and everything that `gp-jax evaluate` leaves, each run as a method of its own.

examples:
  gp-jax ablation --protocol m3ddm-256 --data DAVIS --output ablation --arm baseline=a/ --arm est=b/ \\
      --arm global-tokens=c/ --arm sequential=c/ --seeds 0,1,2
  gp-jax ablation --protocol m3ddm-256 --data DAVIS --output plans --arm hierarchical=tiny --arm sequential=tiny
"""

import argparse
import re
import sys

from gp_jax.cli import arguments as parse
from gp_jax.cli.evaluate import WIDTH, add_data_arguments
from gp_jax.cli.progress import progress
from gp_jax.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what the command takes."""
    add_data_arguments(parser)
    parser.add_argument(
        "--arm", action="append", type=_arm, required=True, metavar="NAME=DIR[,DIR]", help="can be repeated"
    )
    parser.add_argument("--seeds", type=_seeds, default="0", metavar="0,1,2", help="of the sampling")
    parser.add_argument("--steps", type=parse.count, metavar="N", help="denoising steps; by default the checkpoint's")


def run(arguments: argparse.Namespace) -> int:
    """Runs the arms and prints the table; the exit code is 1 where an output could not be scored."""
    arms = dict(arguments.arm)
    if len(arms) < len(arguments.arm):
        raise UserError("an arm is given twice: write its checkpoints behind one --arm, separated by commas")

    from rich.console import Console

    from gp_jax.evaluation.ablation import ablate
    from gp_jax.evaluation.report import write_report
    from gp_jax.evaluation.results import Results
    from gp_jax.evaluation.table import terminal
    from gp_jax.parallel import make_mesh

    with progress() as report:
        table, problems = ablate(
            arguments.output,
            arms,
            seeds=arguments.seeds,
            steps=arguments.steps,
            mesh=make_mesh(arguments.mesh) if arguments.mesh else None,
            protocol=arguments.protocol,
            dataset=arguments.dataset,
            data=arguments.data,
            clips=arguments.clips and arguments.clips.split(","),
            frames=arguments.frames,
            progress=report,
        )
    for problem in problems:
        print(f"gp-jax: {problem}", file=sys.stderr)
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    console.print(terminal(table))
    print("\n".join(map(str, write_report(Results(arguments.output)))))
    return int(bool(problems))


def _arm(text: str) -> tuple[str, list[str]]:
    """`est=a/,b/` as ("est", ["a/", "b/"])."""
    name, equals, checkpoints = text.partition("=")
    if not (name and equals and all(checkpoints.split(","))):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form NAME=CHECKPOINT, such as est=my_model/")
    return name, checkpoints.split(",")


def _seeds(text: str) -> tuple[int, ...]:
    """`0,1,2` as (0, 1, 2)."""
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form 0,1,2")
    return tuple(dict.fromkeys(map(parse.seed, text.split(","))))
