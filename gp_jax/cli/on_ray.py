"""The same jobs on a Ray cluster (`pip install 'gp_jax[ray]'`): what `share_out` does with `--engine ray`.

Every job is a task of its own. One whose worker was lost is started again, on another, up to `RETRIES` times; since
shards are written whole or not at all, and finished ones are kept, the same files come out. What a task raises ends the
run, and its sentence is told as ever. All machines see the same folders, by the same paths, and have this package; a
tool's own functions travel along.
"""

import functools
import importlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gp_jax.cli.engine import Done
from gp_jax.errors import UserError

RETRIES = 3


def on_ray(
    work: Callable[..., Any],
    jobs: Sequence[tuple],
    address: str | None,
    ask: Mapping[str, float],
    advance: Callable[[float], None],
) -> list[Any]:
    """`[work(*job, done) for job in jobs]`, each on a worker of the cluster.

    Args:
      work, jobs: see `share_out`.
      address: of the cluster; None for one of this machine's cores, which ends with the run.
      ask: what a task needs: "CPU", "GPU", and "TPU" or whatever else nodes offer.
      advance: told what was done since it was told before.

    Raises:
      UserError: there is no Ray or no such cluster, no node has what is asked for, a job lost its worker too often, or
        what a job refuses.
    """
    work = _by_name(work)
    with _cluster(address, _tools(work)) as ray:
        _check(ray, ask)
        told = ray.remote(num_cpus=0)(_Told).remote()
        others = {name: amount for name, amount in ask.items() if name not in ("CPU", "GPU")}
        needs = {"num_cpus": ask.get("CPU", 1), "num_gpus": ask.get("GPU", 0), "resources": others or None}
        task = ray.remote(max_retries=RETRIES, **needs)(_run)
        here = os.getcwd()
        results = [task.remote(work, job, number, told, here) for number, job in enumerate(jobs)]
        waiting, reached = list(results), 0.0
        try:
            while waiting:
                finished, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=0.5)
                for one in finished:
                    ray.get(one)
                done = ray.get(told.total.remote())
                advance(done - reached)
                reached = done
            return ray.get(results)
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, UserError) else error from None
        except (
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.OutOfMemoryError,
            ray.exceptions.NodeDiedError,
        ) as error:
            raise UserError(
                f"a job lost its worker {RETRIES + 1} times ({type(error).__name__}): is there too little memory for "
                "what --ask says?"
            ) from None
        finally:
            for one in waiting:
                ray.cancel(one)


class _Told:
    """How far each job is; one that begins again begins at nothing."""

    def __init__(self) -> None:
        self.done: dict[int, float] = {}

    def put(self, job: int, done: float) -> None:
        self.done[job] = done

    def total(self) -> float:
        return sum(self.done.values())


def _by_name(work: Any) -> Any:
    """A tool's function, or a partial of one, as workers can import it: theirs is another `__main__`."""
    if isinstance(work, functools.partial):
        return functools.partial(_by_name(work.func), *work.args, **work.keywords)
    if work.__module__ != "__main__":
        return work
    return getattr(importlib.import_module(Path(sys.argv[0]).stem), work.__name__)


def _tools(work: Any) -> str | None:
    """The folder of a tool's function; None for one of this package, which workers have."""
    module = work.func.__module__ if isinstance(work, functools.partial) else work.__module__
    return None if module.startswith("gp_jax.") else str(Path(sys.modules[module].__file__ or "").parent)


def _run(work: Callable[..., Any], job: tuple, number: int, told: Any, folder: str) -> Any:
    try:
        os.chdir(folder)  # paths may be relative to it
    except OSError as error:
        raise UserError(
            f"{socket.gethostname()} has no {folder}, where the command runs: all machines must see the same folders"
        ) from error
    reached = 0.0

    def advance(step: float) -> None:
        nonlocal reached
        reached += step
        told.put.remote(number, reached)

    return work(*job, Done(advance))


@contextmanager
def _cluster(address: str | None, tools: str | None) -> Iterator[Any]:
    try:
        ray = importlib.import_module("ray")  # an extra, which checkers of types need not have
    except ImportError:
        raise UserError("--engine ray needs Ray, which is not here: pip install 'gp_jax[ray]'") from None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options["include_dashboard"] = False
        # Workers of this machine find what this process did, a tool's neighbours among it.
        options["runtime_env"] = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, [tools, *sys.path]))}}
    else:
        _check_reached(address)
        options |= {"address": address, "runtime_env": {"working_dir": tools} if tools else None}
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        token = " (or it has a token, as RAY_AUTH_MODE=token says)" if address else ""
        raise UserError(f"there is no Ray cluster at {address or 'this machine'}{token}: {reason:.200}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reached(address: str) -> None:
    """Raises UserError where nobody listens at an address with a port: Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, OverflowError) as error:
            raise UserError(f"there is no Ray cluster at {address}: {error}") from None


def _check(ray: Any, ask: Mapping[str, float]) -> None:
    """Raises UserError where no node has what a task asks for: Ray would wait for one."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= amount for name, amount in ask.items()) for node in nodes):
        there = ", ".join(f"{name}={most:g}" for name in ask for most in [max(node.get(name, 0) for node in nodes)])
        raise UserError(f"no node of the Ray cluster has what --ask wants for a task; the most there is: {there}")
