"""How far a long job has come."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SILENCE = 30.0  # seconds


@contextmanager
def progress() -> Iterator[Callable[[float, float, str], None]]:
    """A function to call with (done, total, label): moves a bar; where no bar can move, prints a line per label, and
    one more every half minute."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)
        labels, told = set(), 0.0

        def report(done: float, total: float, label: str):
            nonlocal told
            bar.update(task, completed=done, total=total, description=label)
            if not console.is_terminal and (label not in labels or time.monotonic() > told + SILENCE):
                labels.add(label)
                told = time.monotonic()
                console.print(f"{label} ({done}/{total})")

        yield report
