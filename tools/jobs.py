"""What the offline tools share: their jobs spread over processes and hosts, with progress, and a way to fail."""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from functools import partial
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

from gp_jax.cli.arguments import count
from gp_jax.cli.ending import unwind_at_signals
from gp_jax.cli.progress import progress
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


class Done:
    """How much of one job is done: called with that, in the units of `share_out`'s total, it tells what was added."""

    def __init__(self, advance: Callable[[float], None]):
        self._advance, self._told = advance, 0.0

    def __call__(self, done: float) -> None:
        self._advance(done - self._told)
        self._told = done

    def part(self, before: float, size: float) -> Callable[[float], None]:
        """For a part of the job: called with the share of that part that is done."""
        return lambda share: self(before + size * share)


@dataclasses.dataclass(frozen=True)
class Engine:
    """Where jobs run.

    Attributes:
      processes: of this machine, at most so many; 1: in this one.
      ray: whether on a Ray cluster instead, that at `address`; None for one of this machine's cores.
      ask: what a job needs of the cluster: "CPU", "GPU", and whatever else its nodes offer.
    """

    processes: int = 1
    ray: bool = False
    address: str | None = None
    ask: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"CPU": 1.0})

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "Engine":
        """Of `add_arguments`; raises UserError where they contradict each other."""
        chosen = arguments.engine == "ray"
        for name in ("address", "ask"):
            if not chosen and getattr(arguments, name):
                raise UserError(f"--{name} is of --engine ray: give that too, or leave it out")
        return cls(arguments.processes, chosen, arguments.address, arguments.ask or {"CPU": 1.0})

    @staticmethod
    def add_arguments(parser: Any, processes: int) -> None:
        """So many processes by default."""
        add = parser.add_argument
        add("--processes", type=count, default=processes, help="that work at the same time, a shard each")
        add("--host", type=host, default="0/1", metavar="I/N", help="do the part of host I of N")
        add(
            "--engine",
            choices=("local", "ray"),
            default="local",
            help="processes here, or the workers of a Ray cluster",
        )
        add("--address", metavar="ADDRESS", help="of the cluster, or auto; by default one of this machine's cores")
        add("--ask", type=asked, metavar="GPU=1,CPU=4", help="what a shard needs of the cluster; by default CPU=1")


def share_out(work: Callable[..., Any], jobs: Sequence[tuple], engine: Engine, title: str, total: float) -> list[Any]:
    """`[work(*job, done) for job in jobs]`, side by side, with a progress bar.

    Args:
      work: calls `done` with how much of its job it has done, as often as a person wants to see something move.
      jobs: its other arguments; outside of this process, what can be pickled.
      engine: where. A single job needs no other process.
      title: of the bar.
      total: what the jobs come to, all together.
    """
    with progress() as report:
        reached = 0.0

        def advance(step: float) -> None:
            nonlocal reached
            reached += step
            report(round(reached, 2), total, title)

        if engine.ray:
            from ray_jobs import on_ray

            return on_ray(work, jobs, engine.address, engine.ask, advance)
        if engine.processes == 1 or len(jobs) < 2:
            return [work(*job, Done(advance)) for job in jobs]
        context = get_context("spawn")
        with context.Manager() as manager, ProcessPoolExecutor(min(engine.processes, len(jobs)), context) as pool:
            steps = manager.Queue()
            results = [pool.submit(work, *job, Done(steps.put)) for job in jobs]
            try:
                waiting = set(results)
                while waiting:
                    finished, waiting = wait(waiting, timeout=0.5, return_when=FIRST_EXCEPTION)
                    while not steps.empty():
                        advance(steps.get())
                    for future in finished:
                        future.result()
            except BaseException:
                for process in active_children():  # the next run sweeps what they were writing
                    process.terminate()
                pool.shutdown(cancel_futures=True)
                raise
            return [future.result() for future in results]


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


def asked(text: str) -> dict[str, float]:
    """`GPU=1,CPU=4` as {"GPU": 1.0, "CPU": 4.0}, an argument's type."""
    try:
        parts = [(name.strip(), float(amount)) for name, amount in (part.split("=") for part in text.split(","))]
    except ValueError:
        parts = []
    if not parts or not all(name and 0 < amount < 1e6 for name, amount in parts):
        raise argparse.ArgumentTypeError(f"'{text:.40}' is not of the form GPU=1,CPU=4")
    return dict(parts)
