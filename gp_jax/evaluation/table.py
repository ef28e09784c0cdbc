"""A table of numbers, and its three forms: for the terminal, as Markdown, as CSV.

    columns = Column("method"), Column("PSNR", 2, "higher"), Column("FVD", 1, "lower")
    rows = ("mirror", 17.2, 411.0), ("globalpaint", 18.0, 388.5)
    table = Table(columns, (Section("30 clips, whole frame", rows),), notes=("FVD: few clips",))
    print(markdown(table))

A cell is text, a number, an `Interval` (a mean and how far it can be off), a `Change` (the same of a difference, with a
sign), or None where there is no number. The best number of a column is marked within each section, never across:
numbers of different sections are measured on different things.
"""

import csv
import io
from collections.abc import Iterator
from typing import NamedTuple

import rich.table
from rich import box
from rich.console import Group
from rich.markup import escape

# What is good in a column: the sign behind its name, and by what its numbers are ranked, best last.
GOOD = {"higher": (" ↑", float), "lower": (" ↓", lambda x: -x), "zero": (" → 0", lambda x: -abs(x))}


class Interval(NamedTuple):
    """`mean`, and half the width of its confidence interval; None where one run gives none."""

    mean: float
    half: float | None


class Change(Interval):
    """An interval of differences, which are not ranked."""


Cell = str | float | Interval | None


class Column(NamedTuple):
    """What stands above a column, the decimals of its numbers, and which are good: a key of `GOOD`, or none."""

    name: str
    digits: int = 0
    good: str = ""

    @property
    def title(self) -> str:
        return self.name + (GOOD[self.good][0] if self.good else "")


class Section(NamedTuple):
    """Rows that may be compared with each other, and what they were measured on; by others where not `ours`."""

    title: str
    rows: tuple[tuple[Cell, ...], ...]
    ours: bool = True


class Table(NamedTuple):
    """See the module's docstring; `notes` stand below."""

    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()


def terminal(table: Table) -> Group:
    """For the `print` of a `rich.console.Console`; the columns of all sections are aligned."""
    widths = [
        max(len(column.title), *(len(text(column, row[i])) for section in table.sections for row in section.rows))
        for i, column in enumerate(table.columns)
    ]
    parts = []
    for section in table.sections:
        part = rich.table.Table(
            title=f"[bold]{escape(section.title)}[/]", title_justify="left", title_style="", box=box.SIMPLE_HEAD
        )
        for i, column in enumerate(table.columns):
            part.add_column(column.title, justify="right" if i else "left", min_width=widths[i])
        for row in marked(table.columns, section):
            part.add_row(*(f"[bold green]{escape(cell)}[/]" if best else escape(cell) for cell, best in row))
        parts.append(part)
    return Group(*parts, *(f"[dim]{escape(note)}[/]" for note in table.notes))


def markdown(table: Table) -> str:
    """GitHub's tables, one for each section, the best numbers bold."""
    head = [
        "| " + " | ".join(column.title for column in table.columns) + " |",
        "|" + "---|" + "---:|" * (len(table.columns) - 1),
    ]
    parts = []
    for section in table.sections:
        cells = (
            [f"**{cell}**" if best else cell.replace("|", r"\|") for cell, best in row]
            for row in marked(table.columns, section)
        )
        rows = ["| " + " | ".join(row) + " |" for row in cells]
        parts.append("\n".join([f"**{section.title}**", "", *head, *rows]))
    return "\n\n".join([*parts, *table.notes]) + "\n"


def comma_separated(table: Table) -> str:
    """CSV with all digits, the section in the first column; an interval has a column of its own behind its mean."""
    wide = [
        any(isinstance(row[i], Interval) for section in table.sections for row in section.rows)
        for i in range(len(table.columns))
    ]

    def apart(cells: tuple[Cell, ...]) -> Iterator[Cell]:
        for cell, has_interval in zip(cells, wide, strict=True):
            mean, half = cell if isinstance(cell, Interval) else (cell, None)
            yield mean
            if has_interval:
                yield half

    names = [name for c, has in zip(table.columns, wide) for name in ([c.name, f"{c.name} ±"] if has else [c.name])]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["section", *names])
    writer.writerows([section.title, *apart(row)] for section in table.sections for row in section.rows)
    return buffer.getvalue()


def marked(columns: tuple[Column, ...], section: Section) -> list[list[tuple[str, bool]]]:
    """The section's cells as text, each with whether it is the best of its column; of a single row none is."""
    best = [_best(column, cells) for column, cells in zip(columns, zip(*section.rows))]
    return [
        [(text(column, cell), top is not None and number(cell) == top) for column, cell, top in zip(columns, row, best)]
        for row in section.rows
    ]


def text(column: Column, cell: Cell) -> str:
    """A cell as people read it."""
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Interval):
        half = "" if cell.half is None else f" ± {cell.half:.{column.digits}f}"
        return f"{cell.mean:{'+' if isinstance(cell, Change) else ''}.{column.digits}f}{half}"
    return f"{cell:.{column.digits}f}"


def number(cell: Cell) -> float | None:
    """What a cell is compared by."""
    if isinstance(cell, str | Change):
        return None
    return cell.mean if isinstance(cell, Interval) else cell


def _best(column: Column, cells: tuple[Cell, ...]) -> float | None:
    numbers = [number(cell) for cell in cells if number(cell) is not None]
    return max(numbers, key=GOOD[column.good][1]) if column.good and len(cells) > 1 and numbers else None
