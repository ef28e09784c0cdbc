"""How far a long job has come."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from gp_jax.jobs.rates import duration

SILENCE = 30.0  # seconds


@contextmanager
def progress(frames: int | None = None) -> Iterator[Callable[[float, float, str], None]]:
    """A function to call with (done, total, label): moves a bar; where no bar can move, prints a line per label, and
    one more every half minute.

    Args:
      frames: of the clip, where pieces of work are not frames; then frames per second are told.
    """
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}")
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None, pace="")
        labels, told, speed = set(), 0.0, Pace(frames)

        def report(done: float, total: float, label: str):
            nonlocal told
            pace = speed.after(done, total)
            bar.update(task, completed=done, total=total, description=label, pace=pace)
            if not console.is_terminal and (label not in labels or time.monotonic() > told + SILENCE):
                labels.add(label)
                told = time.monotonic()
                console.print(f"{label} ({done}/{total})" + (f", {pace}" if pace else ""))

        yield report


class Pace:
    """How fast work goes of late, and what is left of it.

    Args:
      frames: of the whole work; None where it has none.
    """

    def __init__(self, frames: int | None):
        self.frames = frames
        self.seen: deque[tuple[float, float]] = deque()

    def after(self, done: float, total: float) -> str:
        """ "6.1 frames/s, 20 s left", at a report; empty as long as nothing can be said.

        Only the last half minute counts: what an earlier run has done is passed over in no time.
        """
        now = time.monotonic()
        if self.seen and done <= self.seen[-1][1]:
            self.seen.clear()  # it, or another stage of it, begins here
        self.seen.append((now, done))
        while len(self.seen) > 2 and self.seen[1][0] < now - SILENCE:
            self.seen.popleft()
        begin, before = self.seen[0]
        if done <= before or now - begin < 1:
            return ""
        each = (now - begin) / (done - before)
        left = f"{duration(each * (total - done))} left" if done < total else ""
        pace = f"{self.frames / total / each:.3g} frames/s" if self.frames else ""
        return ", ".join(part for part in (pace, left) if part)
