"""The same network, sizes and type in torch, in a process of its own: neither library is in the other's way.

    for outcome in measure_in_torch(task_of(run, "denoise", repeats=10)):      eager, then torch.compile
        outcome.times.median

It has to run before jax has arrays on the device: the two share its memory.
"""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from gp_jax.bench.case import unet_of
from gp_jax.bench.denoise import input_shapes
from gp_jax.bench.measure import CALLS_IN_A_ROW, WARM_UP, Times
from gp_jax.errors import UserError
from gp_jax.training.setup import Run

MODES = ("eager", "compile")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What torch did.

    Attributes:
      mode: of `MODES`; or the name of a metric.
      device: as torch calls it.
      version: torch's.
      times: of calls; None where it failed.
      first: seconds of the first call, in which torch.compile compiles.
      peak_bytes: the most memory in use; None where the device does not tell.
      error: why it failed.
      values: what a metric returns.
    """

    mode: str
    device: str
    version: str
    times: Times | None = None
    first: float | None = None
    peak_bytes: int | None = None
    error: str = ""
    values: tuple[float, ...] = ()


def check_torch(*packages: str) -> None:
    """Raises UserError where torch is missing, or one of the packages beside it."""
    if missing := [name for name in ("torch", *packages) if importlib.util.find_spec(name) is None]:
        raise UserError(f"--against torch needs {missing[0]}, which is not here: pip install 'gp_jax[torch]'")


def task_of(run: Run, what: str, repeats: int) -> dict[str, Any]:
    """What the process is to do: `what` is "denoise" or "step". Raises UserError for a network that torch has not."""
    config, inputs = unet_of(run), input_shapes(run)
    batch, *volume, _ = inputs["sample"].shape
    if config.motion_modules or config.norm_joint:
        raise UserError("--against torch has no motion modules, and no norms of all frames together: leave it out")
    return {
        "what": what,
        "modes": MODES,
        "network": config.to_json(),
        "batch": batch,
        "volume": volume,
        "text": inputs["text"].shape[1],
        "tokens": inputs["tokens"].shape[1] if "tokens" in inputs else 0,
        "dtype": run.config.dtype,
        "repeats": repeats,
        "warm_up": WARM_UP,
        "parts": CALLS_IN_A_ROW if what == "denoise" else 1,
    }


def metrics_task(clips: int, frames: int, names: list[str], repeats: int) -> dict[str, Any]:
    """The same for metrics, which torch runs as they are."""
    return {
        "what": "metrics",
        "modes": names,
        "clips": clips,
        "frames": frames,
        "repeats": repeats,
        "warm_up": WARM_UP,
        "parts": 1,
    }


def measure_in_torch(task: dict[str, Any]) -> Iterator[Outcome]:
    """Each outcome as soon as it is known. Raises UserError where the process ends without any."""
    # What it takes of this package is plain Python, and is to leave the device alone.
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "gp_jax.bench.torch_worker"]
    with tempfile.TemporaryFile("w+") as errors:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors, "text": True}
        with subprocess.Popen(command, env=environment, **pipes) as process:
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(json.dumps(task))
                process.stdin.close()
                for line in process.stdout:
                    yield _outcome(json.loads(line))
                process.wait()
            finally:
                process.kill()  # where nobody waits for the rest
        if process.returncode > 0:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["it said nothing"])[-1]
            raise UserError(f"torch failed with exit code {process.returncode}: {last[:300]}")


def _outcome(line: dict[str, Any]) -> Outcome:
    times = Times(tuple(line["seconds"])) if "seconds" in line else None
    return Outcome(
        mode=line["mode"],
        device=line["device"],
        version=line["torch"],
        times=times,
        first=line.get("first"),
        peak_bytes=line.get("peak"),
        error=line.get("error", ""),
        values=tuple(line.get("values") or ()),
    )
