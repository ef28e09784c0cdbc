"""The log of a run: one JSON object per line in `W/log.jsonl`, and the same numbers for TensorBoard.

A line belongs to a step. Values are handed over as arrays on the device and fetched when the next line comes, so that
nobody waits for them. A run that goes on from step 1200 first drops the lines after it: the file reads as if nothing
had happened.
"""

import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue] - protobuf's
from tensorboardX.summary import scalar

from gp_jax.errors import UserError
from gp_jax.files import replacing

FILE = "log.jsonl"
BOARD = "tensorboard"


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
            (workdir / BOARD).mkdir(exist_ok=True)
            # Not the usual SummaryWriter: its thread dies of a full disk, and whoever closes it then waits forever.
            self._board = EventsWriter(str(workdir / BOARD / "events"))
            if step:  # TensorBoard hides what it has of later steps
                self._board.write_event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

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
                self._draw(line)
            except OSError as error:
                name = self._file.name
                self._abandon()
                raise UserError(f"cannot write {name}: {error.strerror}") from error
            self._show(line)

    def close(self) -> None:
        """Writes what was added."""
        self.flush()
        self._abandon()

    def _abandon(self) -> None:
        """Closes the files; on a full disk that fails once more, for what was not written anyway."""
        if self._file is not None:
            for file in (self._file, self._board):
                with contextlib.suppress(OSError):
                    file.close()
            self._file = None

    def _draw(self, line: Mapping[str, Any]) -> None:
        for name, value in line.items():
            values = {f"{name}/{i}": x for i, x in enumerate(value)} if isinstance(value, list) else {name: value}
            for tag, number in values.items():
                if number is not None:
                    event = Event(wall_time=time.time(), step=line["step"], summary=scalar(tag, number))
                    self._board.write_event(event)
        self._board.flush()


def check_log(workdir: Path) -> None:
    """Raises UserError where a run cannot go on with what is there."""
    read_log(workdir)
    board = workdir / BOARD
    if board.exists() and not board.is_dir():
        raise UserError(f"{board} is no folder, and TensorBoard's files are to lie in it: move it away")


def read_log(workdir: Path) -> list[dict[str, Any]]:
    """The lines of a run; a last line that was cut off by a crash is left out.

    Raises:
      UserError: the file cannot be read, or another line is none of a log.
    """
    path = workdir / FILE
    if not path.exists():
        return []
    try:
        texts = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict) and type(line.get("step")) is int:
            lines.append(line)
        elif any(texts[number:]):
            raise UserError(f"{path}, line {number} is damaged: take that line out, or move the file away")
    return lines


def _plain(value: Any) -> Any:
    """As JSON has it: no arrays, and null for what is no number."""
    value = np.asarray(value).tolist()
    if isinstance(value, list):
        return [_plain(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
