"""The log of a run: one JSON object per line in `W/log.jsonl`, and the same numbers for TensorBoard.

A line belongs to a step. Values are handed over as arrays on the device and fetched when the next line comes, so that
nobody waits for them. A run that goes on from step 1200 first drops the lines after it: the file reads as if nothing
had happened.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tensorboardX import SummaryWriter

from gp_jax.errors import UserError
from gp_jax.weights import replacing

FILE = "log.jsonl"


class Log:
    """Written by the first process alone; the others fetch nothing.

    Args:
      workdir: exists.
      step: that the run goes on from; 0 for a new one.
      show: called with each line.
    """

    def __init__(self, workdir: Path, step: int, show: Callable[[Mapping[str, Any]], None]):
        self._pending: list[dict[str, Any]] = []
        self._show, self._file = show, None
        if jax.process_index() == 0:
            path = workdir / FILE
            lines = [line for line in read_log(workdir) if line["step"] <= step]
            with replacing(path) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by `close`
            self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1 if step else None)

    def add(self, step: int, **values: Any) -> None:
        """A line: numbers, and arrays that need not be there yet. Lines before it are written now."""
        self.flush()
        self._pending.append({"step": step, **values})

    def flush(self) -> None:
        """Writes what was added, waiting for it."""
        pending, self._pending = self._pending, []
        if self._file is None:
            return
        for line in pending:
            line = {name: _plain(value) for name, value in line.items()}
            try:
                self._file.write(json.dumps(line) + "\n")
                self._file.flush()
                for name, value in line.items():
                    self._draw(name, value, line["step"])
            except OSError as error:
                raise UserError(f"cannot write {self._file.name}: {error.strerror}") from error
            self._show(line)

    def close(self) -> None:
        """Writes what was added."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._board.close()

    def _draw(self, name: str, value: Any, step: int) -> None:
        values = {f"{name}/{i}": x for i, x in enumerate(value)} if isinstance(value, list) else {name: value}
        for tag, number in values.items():
            if number is not None:
                self._board.add_scalar(tag, number, step)


def read_log(workdir: Path) -> list[dict[str, Any]]:
    """The lines of a run; a last line that was cut off by a crash is left out."""
    path = workdir / FILE
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def _plain(value: Any) -> Any:
    """As JSON has it: no arrays, and null for what is no number."""
    value = np.asarray(value).tolist()
    if isinstance(value, list):
        return [_plain(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
