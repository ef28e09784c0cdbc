"""Runs a command that takes shards on a Ray cluster, a task for each: an evaluation, say.

    python tools/ray_shards.py 16 --address auto --ask GPU=1 -- gp-jax evaluate --protocol m3ddm-256 --data DAVIS \\
        --output results --shard SHARD

`SHARD` stands for 0/16, 1/16 and so on. A task whose worker is lost is started again on another, up to three times, and
goes on with what the command finds done in its folders, which all machines see by the same paths. The first command
that fails ends the run, with its last line.
"""

import argparse
import ctypes
import signal
import subprocess

from jobs import Done, Engine, asked, run, share_out

from gp_jax.cli.arguments import HelpFormatter, count
from gp_jax.errors import UserError

PLACE = "SHARD"
_DIE_WITH_PARENT = 1  # of Linux' prctl: PR_SET_PDEATHSIG


def shards(arguments: argparse.Namespace) -> None:
    """All of them; prints what the commands said last."""
    command = arguments.command[arguments.command[:1] == ["--"] :]
    if not any(PLACE in word for word in command):
        raise UserError(f"the command has no {PLACE}: write it where a task's number belongs, as in --shard {PLACE}")
    total = arguments.shards
    jobs = [([word.replace(PLACE, f"{index}/{total}") for word in command],) for index in range(total)]
    engine = Engine(ray=True, address=arguments.address, ask=arguments.ask or {"CPU": 1.0})
    for said in share_out(carry_out, jobs, engine, "shards", total):
        print(said)


def carry_out(command: list[str], done: Done) -> str:
    """The last line that the command prints; raises UserError with that of its errors where it fails."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, preexec_fn=_die_with_parent)
    except OSError as error:
        raise UserError(f"{command[0]} cannot be run on a worker: {error.strerror}") from None
    if ended.returncode:
        raise UserError(f"{' '.join(command)} failed with code {ended.returncode}: {_last(ended.stderr)}")
    done(1)
    return _last(ended.stdout)


def _die_with_parent() -> None:
    """A worker that is killed takes its command along, which would hold the lock of its shard otherwise."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def _last(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("shards", type=count, help="how many tasks")
    parser.add_argument(
        "--address", metavar="ADDRESS", help="of the cluster, or auto; by default one of this machine's cores"
    )
    parser.add_argument("--ask", type=asked, metavar="GPU=1,CPU=4", help="what a task needs; by default CPU=1")
    parser.add_argument("command", nargs=argparse.REMAINDER, help=f"behind --, with {PLACE} for the task's number")
    return parser.parse_args()


if __name__ == "__main__":
    run(shards, parse())
