"""Two processes of a program: `run("...")` starts them with the code of a test, and says how they ended."""

import os
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

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
with processes.joined({address!r}, 2, number):
    mesh = Mesh(np.array(jax.devices()), ("data",))
    place = NamedSharding(mesh, P("data"))
    ones = jax.make_array_from_callback((len(jax.devices()),), place, lambda _: np.ones(1))
    everywhere(ones)  # both are there
{code}
print("well", flush=True)
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


def run(code: str, devices: int = 1, seconds: float = 120) -> list[End]:
    """Runs `code`, which sees the names of `_PROGRAM`, in two processes of so many devices."""
    body = textwrap.indent(textwrap.dedent(code), "    ")
    program = _PROGRAM.format(address=free_address(), code=body, patience=PATIENCE)
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(number)], cwd=ROOT, env=environment, **pipes)
        for number in range(2)
    ]
    return wait(running, seconds)
