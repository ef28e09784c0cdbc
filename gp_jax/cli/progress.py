"""How far a long job has come."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress() -> Iterator[Callable[[int, int, str], None]]:
    """A function to call with (done, total, label): moves a bar, or prints a line per label where no bar can move."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)
        labels = set()

        def report(done: int, total: int, label: str):
            bar.update(task, completed=done, total=total, description=label)
            if not console.is_terminal and label not in labels:
                labels.add(label)
                console.print(f"{label} ({done}/{total})")

        yield report
