"""What the offline tools share: their jobs spread over processes and hosts, with progress, and a way to fail."""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.progress import track

from gp_jax.data.shards import read_manifest, verify_shard
from gp_jax.errors import UserError


def run(tool: Callable[[argparse.Namespace], int | None], arguments: argparse.Namespace) -> None:
    """Calls the tool; what it returns is the exit status, and a UserError is one sentence and status 2."""
    try:
        sys.exit(tool(arguments))
    except UserError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        sys.exit(2)


def spread(work: Callable[..., Any], jobs: Sequence[tuple], processes: int, title: str) -> list[Any]:
    """`[work(*job) for job in jobs]`, in so many processes (1: in this one), with a progress bar."""
    if processes == 1:
        return [work(*job) for job in track(jobs, title)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(track(pool.map(work, *zip(*jobs)), title, total=len(jobs)))


def of_host(jobs: Iterable[tuple], host: tuple[int, int]) -> list[tuple]:
    """The jobs of one host: (0, 4) takes the first of every four."""
    return list(jobs)[host[0] :: host[1]]


def verify(folder: Path, made_by: str, processes: int) -> int:
    """Reads all shards of a folder again; prints what is wrong, and returns 1 where something is."""
    manifest = read_manifest(folder, made_by)
    notes = [(note,) for split in manifest["shards"].values() for note in split]
    found = spread(partial(verify_shard, folder), notes, processes, f"Verifying {folder.name}")
    problems = [problem for of_shard in found for problem in of_shard]
    print("\n".join(problems) or f"{folder}: {manifest['records']} records, all as they were written")
    return 1 if problems else 0


def host(text: str) -> tuple[int, int]:
    """`0/4` as (0, 4), an argument's type."""
    index, _, total = text.partition("/")
    if not (index.isdecimal() and total.isdecimal() and int(index) < int(total)):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form 0/4")
    return int(index), int(total)
