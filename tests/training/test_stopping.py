"""A signal that comes while XLA compiles ends the run at once, in one sentence, on all processes."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.parallel.together import ROOT, free_address, wait
from tests.training import processes

# The command, which says when it compiles, and then does so for minutes. XLA works out what is constant, for which it
# takes all cores, so that two such processes starve each other; a sleep of the C library is as deaf, and costs nothing.
PROGRAM = """
import ctypes, sys, time
from pathlib import Path
import jax, numpy as np
from gp_jax.cli.main import main
from gp_jax.training import loop

def compile_long(step, state, *_):
    constant = np.ones(200_000, np.float32)
    def long(x):
        return x + jax.lax.reduce_window(constant, np.float32(0), jax.lax.add, (2000,), (1,), "SAME").sum()
    lowered = jax.jit(long).lower(np.float32(0))
    Path(sys.argv[1]).touch()
    lowered.compile()
    Path(sys.argv[1] + ".done").touch()

def sleep_long(*_):
    Path(sys.argv[1]).touch()
    end = time.monotonic() + 600
    while time.monotonic() < end:
        ctypes.CDLL(None).sleep(600)
    Path(sys.argv[1] + ".done").touch()

loop.compile_step = {work}
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    "work, count, sent, code",
    [
        pytest.param("compile_long", 1, signal.SIGTERM, 0, marks=pytest.mark.slow),
        ("sleep_long", 1, signal.SIGINT, 130),
        ("sleep_long", 2, signal.SIGTERM, 0),
    ],
)
def test_a_signal_ends_a_run_that_compiles(records, tmp_path, work, count, sent, code):
    config = processes.write_config(tmp_path / "config.py", f"autoencoder({str(records)!r})")
    files = [tmp_path / f"compiles{number}" for number in range(count)]
    address, running = free_address(), []
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=1"
    environment = os.environ | {"XLA_FLAGS": flags}
    for number, file in enumerate(files):
        command = ["train", "--config", str(config), "--workdir", str(tmp_path / "run")]
        if count > 1:
            command += ["--coordinator", address, "--num-processes", str(count), "--process-id", str(number)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        arguments = [sys.executable, "-c", PROGRAM.format(work=work), str(file), *command]
        running.append(subprocess.Popen(arguments, cwd=ROOT, env=environment, **pipes))
    while not all(file.exists() for file in files) and all(process.poll() is None for process in running):
        time.sleep(0.05)
    running[-1].send_signal(sent)
    ends = wait(running, seconds=60)
    assert not any(file.with_suffix(".done").exists() for file in files), "it was compiled before the signal"
    for end in ends:
        assert end.code == code and end.printed.count("gp-jax: ") == 1, ends
        assert "before its first step: what was saved before stands" in end.printed
        assert "Traceback" not in end.printed and end.seconds < 30, ends  # on an idle machine it is less than 2
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".gp_jax-")]
