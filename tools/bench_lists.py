"""What a list of a million films takes of time and memory: read once, begun again, and by who makes a shard of it.

    python tools/bench_lists.py
    python tools/bench_lists.py --rows 10000000

A list in the form of OpenVid's is made up, a row in a hundred of no use, and dropped again at the end. Each line is a
process of its own; memory is what it has at most beyond what it has before it looks at the list.
"""

import argparse
import csv
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gp_jax.cli.arguments import HelpFormatter, count
from gp_jax.data.film_lists import index_list, shard_of

FILMS = 64  # of a shard
CAPTION = "A slow aerial view of the harbour at dawn, boats rocking on the water, number {number}; the light is warm"


def write_list(file: Path, rows: int) -> None:
    """Every 200th row lists the film before again, and every 200th has no path."""
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["video", "caption"])
        for number in range(rows):
            named = number - 1 if number % 200 == 100 else number
            name = "" if number % 200 == 50 else f"part_{named % 200:03}/film_{named:09}.mp4"
            writer.writerow([name, CAPTION.format(number=number)])


def measured(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What a function returns, its seconds, and the bytes that this process grew by."""
    pages, page = int(Path("/proc/self/statm").read_text().split()[1]), resource.getpagesize()
    begin = time.perf_counter()
    made = work()
    seconds = time.perf_counter() - begin
    most = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return made, seconds, max(0, most - pages * page)


def read(file: Path, folder: Path) -> dict[str, Any]:
    """What is noted of the list."""
    return index_list(file, folder, path="{video}", validation=0.01)


def shard(file: Path, folder: Path) -> int:
    """How many films a worker finds in a shard, each looked at."""
    noted = read(file, folder)
    films = noted["films"]["train"]
    return len([film.name for film in shard_of(noted, folder, "train", 3, -(-films // FILMS))])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--rows", type=count, default=1_000_000, help="of the list")
    arguments = parser.parse_args()
    table = Table("", "seconds", "memory, MB")
    with tempfile.TemporaryDirectory() as folder:
        file, index = Path(folder, "list.csv"), Path(folder, "index")
        write_list(file, arguments.rows)
        works = {"the list read": read, "the list begun again": read, f"a shard of {FILMS} films": shard}
        for name, work in works.items():
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                _, seconds, grown = pool.submit(measured, partial(work, file, index)).result()
            table.add_row(name, f"{seconds:.3g}", f"{grown / 1e6:.3g}")
        noted = read(file, index)
    Console().print(table)
    dropped = ", ".join(f"{number} x {reason}" for reason, number in noted["dropped"].items())
    print(f"{sum(noted['films'].values())} films of {arguments.rows} rows; dropped: {dropped}")


if __name__ == "__main__":
    main()
