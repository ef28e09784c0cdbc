"""`gp-jax train` in processes of its own, as a user runs it."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gp_jax.training.log import read_log

ROOT = Path(__file__).parents[2]
TIMES = ("seconds_per_step", "flops_per_second")


def write_config(file: Path, call: str, **fields) -> Path:
    """A configuration file that returns `small.CALL`, such as "autoencoder('records')", some fields replaced."""
    file.write_text(
        f"from tests.training import small\n"
        f"def get_config():\n    config = small.{call}\n    config.update({fields!r})\n    return config\n"
    )
    return file


def start(config: Path, workdir: Path, cache: Path, devices: int = 1, more: Sequence[str] = ()) -> subprocess.Popen:
    """Starts a run on so many CPU devices; `cache` keeps compiled programs from one process to the next."""
    arguments = ["train", "--config", str(config), "--workdir", str(workdir), *more]
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"  # the last one counts
    environment = os.environ | {
        "XLA_FLAGS": flags,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    }
    code = f"import sys; from gp_jax.cli.main import main; sys.exit(main({arguments!r}))"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, **pipes)


def finish(process: subprocess.Popen) -> str:
    """What a process that ends well has printed."""
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    return printed


def lines(workdir: Path) -> list[dict]:
    """The log of a run without what depends on the clock."""
    return [{name: x for name, x in line.items() if name not in TIMES} for line in read_log(workdir)]
