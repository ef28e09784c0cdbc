"""Several processes of a program, and how they ended: `run("...")` of the code of a test, `commands(...)` of gp-jax."""

import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PATIENCE = 4  # seconds, in the place of half a minute

_PROGRAM = """
import os, signal, sys, time
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from gp_jax.errors import Stopped, UserError
from gp_jax.parallel import processes
processes.PATIENCE = {patience}
number = int(sys.argv[1])
def everywhere(x):
    return np.asarray(jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, P()))(x))
with processes.joined({address!r}, {count}, number):
    mesh = Mesh(np.array(jax.devices()), ("data",))
    place = NamedSharding(mesh, P("data"))
    ones = jax.make_array_from_callback((len(jax.devices()),), place, lambda _: np.ones(1))
    everywhere(ones)  # both are there
{code}
print("well", flush=True)
"""

_COMMAND = """
import os, sys, time
from gp_jax.parallel import processes
processes.PATIENCE = {patience}
number = {number!r}
def now():  # that something happens to one of them
    if number == {who!r}:
        {does}
{before}
from gp_jax.cli.main import main
code = main({arguments!r})
{after}
sys.exit(code)
"""


class End(NamedTuple):
    """How a process ended."""

    code: int
    printed: str
    seconds: float


def free_address() -> str:
    """Of a port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def wait(running: list[subprocess.Popen], seconds: float = 120) -> list[End]:
    """How they ended; none may take longer."""
    begin, ends = time.monotonic(), []
    try:
        for process in running:
            printed, _ = process.communicate(timeout=max(0.1, begin + seconds - time.monotonic()))
            ends.append(End(process.returncode, printed, time.monotonic() - begin))
    finally:
        for process in running:
            process.kill()
    return ends


def run(code: str, devices: int = 1, seconds: float = 120, count: int = 2) -> list[End]:
    """Runs `code`, which sees the names of `_PROGRAM`, in so many processes of so many devices."""
    body = textwrap.indent(textwrap.dedent(code), "    ")
    program = _PROGRAM.format(address=free_address(), code=body, patience=PATIENCE, count=count)
    return wait([_started(program, devices, str(number)) for number in range(count)], seconds)


def command(
    arguments: Sequence[str],
    cache: str,
    number: int | str,
    devices: int = 1,
    before: str = "",
    after: str = "",
    who: int = -1,
    does: str = "pass",
) -> subprocess.Popen:
    """Starts `gp-jax ARGUMENTS`; `cache` and `number` name a folder for compiled programs.

    Before and after it runs code that sees `number`, and `now`, by which process `who` does something; and behind it
    `code`, that of its end.
    """
    parts = {"before": textwrap.dedent(before), "after": textwrap.dedent(after), "who": who, "does": does}
    program = _COMMAND.format(arguments=[*map(str, arguments)], number=number, patience=PATIENCE, **parts)
    environment = {
        "JAX_COMPILATION_CACHE_DIR": f"{cache}{number}",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    return _started(program, devices, **environment)


def commands(
    arguments: Sequence[str],
    cache: str,
    mesh: str = "fsdp=2",
    count: int = 2,
    others: Sequence[str] = (),
    **parts: Any,
) -> list[End]:
    """How so many processes of a device each ended, given one command, or those beside the first `others`.

    `parts` are further arguments of `command`.
    """
    where = ["--mesh", mesh, "--coordinator", free_address(), "--num-processes", str(count), "--process-id"]
    running = [
        command([*((number and others) or arguments), *where, str(number)], cache, number, **parts)
        for number in range(count)
    ]
    return wait(running, 900)


def _started(program: str, devices: int, *arguments: str, **environment: str) -> subprocess.Popen:
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"  # the last one counts
    environment = os.environ | {"XLA_FLAGS": flags} | environment
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-c", program, *arguments], cwd=ROOT, env=environment, **pipes)
