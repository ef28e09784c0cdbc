"""What the offline tools share: which shards there are, which of them a host makes, a check of them, a way to fail."""

import argparse
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from gp_jax.cli.ending import unwind_at_signals
from gp_jax.cli.engine import Done, Engine, share_out
from gp_jax.data.shards import read_manifest, verify_shard
from gp_jax.errors import UserError


def run(tool: Callable[[argparse.Namespace], int | None], arguments: argparse.Namespace) -> None:
    """Calls the tool; what it returns is the exit status, and a UserError is one sentence and status 2."""
    unwind_at_signals()
    try:
        sys.exit(tool(arguments))
    except UserError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        sys.exit(2)


def add_arguments(parser: Any, processes: int) -> None:
    """Those of `Engine`, and --host."""
    Engine.add_arguments(parser, processes)
    parser.add_argument("--host", type=host, default="0/1", metavar="I/N", help="do the part of host I of N")


def pieces(count: int, most: int = 64, least: int = 32) -> int:
    """How many shards so many films or records make: `most` in each, fewer where that left processes without work."""
    return max(-(-count // most), min(count, least))


def of_host(jobs: Iterable[tuple], host: tuple[int, int]) -> list[tuple]:
    """The jobs of one host: (0, 4) takes the first of every four."""
    return list(jobs)[host[0] :: host[1]]


def verify(folder: Path, made_by: str, engine: Engine) -> int:
    """Reads all shards of a folder again; prints what is wrong, and returns 1 where something is."""
    manifest = read_manifest(folder, made_by)
    notes = [(note,) for split in manifest["shards"].values() for note in split]
    found = share_out(partial(_verify, folder), notes, engine, f"shards of {folder.name} verified", len(notes))
    problems = [problem for of_shard in found for problem in of_shard]
    print("\n".join(problems) or f"{folder}: {manifest['records']} records, all as they were written")
    return 1 if problems else 0


def _verify(folder: Path, note: dict[str, Any], done: Done) -> list[str]:
    problems = verify_shard(folder, note)
    done(1)
    return problems


def host(text: str) -> tuple[int, int]:
    """`0/4` as (0, 4), an argument's type."""
    index, _, total = text.partition("/")
    if not (index.isdecimal() and total.isdecimal() and int(index) < int(total)):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form 0/4")
    return int(index), int(total)
