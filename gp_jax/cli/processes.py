"""Commands that several processes run together, each with devices of its own; their command differs by a number alone.

add_process_arguments(parser)
with joined(arguments) as first:          first: process 0, which alone writes and prints
    check_alike(arguments, len(reader))
"""

import argparse
import contextlib
import os
from collections.abc import Iterator
from typing import Any

from gp_jax.cli import arguments as parse
from gp_jax.errors import UserError


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the others are, and which one this is."""
    processes = parser.add_argument_group("several processes, which all get the same command but for the number")
    processes.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0; auto on TPU pods and under SLURM")
    processes.add_argument("--num-processes", type=parse.count, metavar="N", help="how many there are")
    processes.add_argument("--process-id", type=parse.index, metavar="I", help="which one this is, from 0 on")


@contextlib.contextmanager
def joined(arguments: argparse.Namespace) -> Iterator[bool]:
    """Joins the others, where there are any; whether this is process 0.

    The others say nothing here but why they end. See `gp_jax.parallel.processes.joined`, errors too.
    """
    if (arguments.coordinator, arguments.num_processes, arguments.process_id) == (None, None, None):
        yield True  # and jax, which takes a while to import, is not asked
        return
    from gp_jax.parallel import processes

    with processes.joined(arguments.coordinator, arguments.num_processes, arguments.process_id):
        if processes.is_first():
            yield True
            return
        with (
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            yield False


def check_alike(arguments: argparse.Namespace, *found: Any) -> None:
    """Raises UserError where this process was given, or has found, something else than process 0 has: their programs
    would be others, and wait for each other for ever."""
    if arguments.coordinator is None:
        return
    from gp_jax.parallel.processes import on_first

    asked = {name: value for name, value in vars(arguments).items() if name != "process_id"}
    told = repr((asked, found))
    if on_first(lambda: told) != told:
        raise UserError("process 0 was given another command, or another source: give the same to all processes")
