"""Where independent jobs run: in this process, in several of this machine, or on a Ray cluster, with one progress bar.

Engine.add_arguments(parser, processes=2)            --processes, --engine ray, --address, --ask
made = share_out(work, jobs, Engine.of(arguments), "shards", total=len(jobs))
"""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from typing import Any

from gp_jax.cli.arguments import count
from gp_jax.cli.progress import progress
from gp_jax.errors import UserError

LOCAL = {"processes": 1, "engine": "local", "address": None, "ask": None}  # the arguments of a job by itself


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


class _Unasked(int):
    """A number by default."""


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
        if chosen and not isinstance(arguments.processes, _Unasked):
            raise UserError("--processes is of this machine, and --engine ray takes workers of a cluster: leave it out")
        return cls(arguments.processes, chosen, arguments.address, arguments.ask or {"CPU": 1.0})

    @staticmethod
    def add_arguments(parser: Any, processes: int) -> None:
        """So many processes by default."""
        add = parser.add_argument
        add("--processes", type=count, default=_Unasked(processes), help="that work at the same time, a shard each")
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

    Raises:
      UserError: a process of this machine was killed, or as of `on_ray.on_ray`; and what a job raises.
    """
    with progress() as report:
        reached = 0.0

        def advance(step: float) -> None:
            nonlocal reached
            reached += step
            report(round(reached, 2), total, title)

        if engine.ray:
            from gp_jax.cli.on_ray import on_ray

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
            except BaseException as error:
                for process in active_children():  # the next run sweeps what they were writing
                    process.terminate()
                pool.shutdown(cancel_futures=True)
                if isinstance(error, BrokenProcessPool):
                    raise UserError(
                        "a process was killed, by a person or for want of memory: the same command goes on where it "
                        "was, with fewer --processes in less memory"
                    ) from None
                raise
            return [future.result() for future in results]


def asked(text: str) -> dict[str, float]:
    """`GPU=1,CPU=4` as {"GPU": 1.0, "CPU": 4.0}, an argument's type."""
    try:
        parts = [(name.strip(), float(amount)) for name, amount in (part.split("=") for part in text.split(","))]
    except ValueError:
        parts = []
    if not parts or not all(name and 0 < amount < 1e6 for name, amount in parts):
        raise argparse.ArgumentTypeError(f"'{text:.40}' is not of the form GPU=1,CPU=4")
    if broken := [name for name, amount in parts if amount > 1 and not amount.is_integer()]:
        raise argparse.ArgumentTypeError(f"'{text:.40}' asks for a part of a {broken[0]} beside whole ones: round it")
    return dict(parts)
