"""Clips are outpainted one after the other, whether somebody watches or not.

    tasks = Tasks(folder)
    task = tasks.add(clip, canvas, choice)     checked, and in the queue
    task.to_json()                             how far it is
    tasks.cancel(task.id)

A task runs in the one thread of `Tasks`, as the command does it: the method of the registry, the same writer. A page
that is closed ends nothing, and finds its tasks again by asking for all of them.
"""

import contextlib
import enum
import functools
import secrets
import shutil
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.jobs.encoding import Encoding
from gp_jax.memory import require
from gp_jax.methods.method import Job, Method
from gp_jax.methods.registry import METHODS, load
from gp_jax.methods.shots import prepare, shots_of
from gp_jax.video import VideoWriter
from gp_jax.web.choices import Choice
from gp_jax.web.clips import KEPT, UploadedClip, jpeg

MOST_WAITING = 20
MOST_SIDE = 4096  # pixels: what browsers play
SHOWN = 0.3  # seconds between two frames that are shown on the way


class State(enum.StrEnum):
    """Of a task."""

    WAITING = "waiting"
    PREPARING = "preparing"  # networks are read, programs compiled
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


OVER = (State.DONE, State.FAILED, State.CANCELLED)


class Cancelled(Exception):
    """Unwinds the work on a task that nobody wants any more."""


@dataclass
class Task:
    """One clip that is to be outpainted, or only to be estimated.

    Attributes:
      id: by which the page asks for it.
      clip, canvas, choice: what is to be made.
      only_estimate: whether the work ends where it would begin.
      target: the file of the result.
      state, done, total, label: how far it is; `label` says what is at work, or why it failed.
      estimate: what it will cost, once that is known.
      made: frames that are made.
      picture: the newest of them that is to be shown, a JPEG.
      ended: when it was over, on the monotonic clock.
    """

    id: str
    clip: UploadedClip
    canvas: Canvas
    choice: Choice
    only_estimate: bool
    target: Path
    state: State = State.WAITING
    done: int = 0
    total: int = 0
    label: str = ""
    estimate: str = ""
    made: int = 0
    picture: bytes = b""
    ended: float | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def to_json(self) -> dict[str, object]:
        """What the page says of it."""
        canvas = self.canvas
        where = {
            "width": canvas.width,
            "height": canvas.height,
            "left": canvas.left,
            "top": canvas.top,
            "source_width": canvas.source_width,
            "source_height": canvas.source_height,
        }
        told = {
            name: getattr(self, name) for name in ("id", "done", "total", "label", "estimate", "made", "only_estimate")
        }
        seed = getattr(self.choice.options, "seed", None)
        about = {"method": self.choice.method, "seed": seed, "name": self.clip.name, "frames": len(self.clip.reader)}
        rate = float(self.clip.reader.info.frame_rate)
        return {**told, **about, "clip": self.clip.id, "rate": rate, "state": self.state.value, "canvas": where}


class Tasks:
    """All tasks of a server, in the order in which they came.

    Args:
      folder: where results lie.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._all: dict[str, Task] = {}
        self._change, self._closed = threading.Condition(), False
        self._thread = threading.Thread(target=self._work, name="tasks", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Task]:
        with self._change:
            return iter([*self._all.values()])

    def __getitem__(self, id: str) -> Task:
        """Raises UserError for one that is not there."""
        if id not in self._all:
            raise UserError("this task is not here any more")
        return self._all[id]

    def add(self, clip: UploadedClip, canvas: Canvas, choice: Choice, only_estimate: bool = False) -> Task:
        """A new one, checked as far as can be without its networks.

        Raises:
          UserError: nothing is to be made, the frame is too large or of a size that no player takes, or many wait.
        """
        if canvas.is_complete:
            raise UserError("the frame is the clip's own: drag a border outwards, or choose a ratio")
        if max(canvas.height, canvas.width) > MOST_SIDE:
            raise UserError(f"{canvas.width}x{canvas.height} pixels are more than {MOST_SIDE} a side: ask for less")
        require(canvas.frame_bytes, f"a frame of {canvas.width}x{canvas.height} pixels")
        id = secrets.token_hex(8)
        target = self.folder / id / "outpainted.mp4"
        target.parent.mkdir(parents=True)
        task = Task(id, clip, canvas, choice, only_estimate, target)
        try:
            self._writer(target, clip, canvas)  # tries one frame
            with self._change:
                if sum(other.state == State.WAITING for other in self._all.values()) >= MOST_WAITING:
                    raise UserError(f"{MOST_WAITING} tasks wait already: let some of them be done first")
                self._all[id] = task
                self._change.notify_all()
        except BaseException:
            shutil.rmtree(target.parent, ignore_errors=True)
            raise
        return task

    def cancel(self, id: str) -> None:
        """Ends a task, now or as soon as its work can be left."""
        task = self[id]
        with self._change:
            task.stop.set()
            if task.state == State.WAITING:
                self._end(task, State.CANCELLED, "")

    def remove(self, id: str) -> None:
        """Forgets a task that is over, and its result; raises UserError for others."""
        task = self[id]
        if task.state not in OVER:
            raise UserError("this task is not over: cancel it first")
        with self._change:
            self._all.pop(id, None)
        shutil.rmtree(task.target.parent, ignore_errors=True)

    def sweep(self, now: float | None = None) -> None:
        """Removes results that were there for a while."""
        now = time.monotonic() if now is None else now
        for task in self:
            if task.ended is not None and now - task.ended > KEPT:
                self.remove(task.id)

    @property
    def clips_in_use(self) -> set[str]:
        """Ids of clips whose tasks are still listed."""
        return {task.clip.id for task in self}

    def close(self) -> None:
        """Ends all, but for a task that hears nothing for a while, as in compiling."""
        with self._change:
            self._closed = True
            for task in self._all.values():
                task.stop.set()
            self._change.notify_all()
        self._thread.join(timeout=2)

    @property
    def is_alive(self) -> bool:
        """Whether its thread is there still."""
        return self._thread.is_alive()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                self._run(task)
                self._end(task, State.DONE, "")
            except Cancelled:
                self._end(task, State.CANCELLED, "")
            except UserError as error:
                self._end(task, State.FAILED, str(error).replace(str(task.target), "the result"))
            except Exception as error:  # a bug: the next task is to have its chance, and the console its traceback
                self._end(task, State.FAILED, f"this failed by a mistake of the program ({type(error).__name__})")
                threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, self._thread)))

    def _next(self) -> Task | None:
        with self._change:
            while not self._closed:
                for task in self._all.values():
                    if task.state == State.WAITING:
                        task.state = State.PREPARING
                        return task
                self._change.wait()
        return None

    def _end(self, task: Task, state: State, label: str) -> None:
        task.label, task.ended = label, time.monotonic()
        task.state = state  # last: whoever sees it sees the rest

    def _run(self, task: Task) -> None:
        task.label = "reading the networks" if METHODS[task.choice.method].networks else "preparing"
        method, reader = _method(task.choice), task.clip.reader
        job: Job = prepare(method, reader, task.canvas, task.choice.options, None, shots_of(reader))
        _leave_if_asked(task)
        task.label = "compiling"
        encoding = Encoding(task.target, task.canvas, len(task.clip.reader))
        task.estimate = job.estimate.told(encoding.seconds, encoding.peak_bytes)
        _leave_if_asked(task)
        if task.only_estimate:
            return
        task.state = State.RUNNING

        def progress(done: int, total: int, label: str) -> None:
            _leave_if_asked(task)
            task.done, task.total, task.label = done, total, label

        encoding.write(self._writer(task.target, task.clip, task.canvas), _watched(task, job.frames(progress)))

    def _writer(self, target: Path, clip: UploadedClip, canvas: Canvas) -> VideoWriter:
        size = canvas.height, canvas.width
        return VideoWriter(target, clip.reader.info, audio_from=clip.reader, size=size, overwrite=True)


@functools.lru_cache(maxsize=2)
def _loaded(method: str, checkpoint: Path | None, lora: tuple[tuple[Path, float], ...]) -> Method:
    if not METHODS[method].networks:
        return load(method)
    return load(method, checkpoint, **({"lora": [*lora]} if lora else {}))


def _method(choice: Choice) -> Method:
    return _loaded(choice.method, choice.checkpoint, choice.lora)


def _watched(task: Task, frames: Generator[np.ndarray, None, None]) -> Generator[np.ndarray, None, None]:
    """The frames; from time to time one is kept to be shown."""
    shown = 0.0
    with contextlib.closing(frames):
        for frame in frames:
            _leave_if_asked(task)
            now = time.monotonic()
            if now - shown > SHOWN:
                task.picture, shown = jpeg(frame, 960), now
            task.made += 1
            yield frame


def _leave_if_asked(task: Task) -> None:
    if task.stop.is_set():
        raise Cancelled
