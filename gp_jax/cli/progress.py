"""What a long job will cost, and how far it has come."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from gp_jax.methods.method import Estimate

SILENCE = 30.0  # seconds


def expected(estimate: Estimate, beside: float, memory: int) -> str:
    """ "about 40 s, 123 network evaluations, 1.9 GB", of what is known; nothing of a job without networks.

    Args:
      estimate: of the job.
      beside: seconds that pass beside it.
      memory: bytes that are used beside it.
    """
    parts = []
    if estimate.seconds is not None:
        parts.append(f"about {duration(estimate.seconds + beside)}")
    if estimate.evaluations:
        parts.append(f"{estimate.evaluations} network evaluation{'s' * (estimate.evaluations > 1)}")
    if estimate.seconds is not None and estimate.peak_bytes is not None:
        parts.append(f"{(estimate.peak_bytes + memory) / 1e9:.2g} GB")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """ "40 s", "3 min 20 s", "2 h 5 min"."""
    whole = max(round(seconds), 1)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


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
        if self.seen and done == self.seen[-1][1]:
            self.seen.clear()  # it begins here
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
