"""Tables say the same in all their forms, and mark what is best."""

import csv
import io

from rich.console import Console

from gp_jax.evaluation.table import (
    Change,
    Column,
    Interval,
    Section,
    Table,
    comma_separated,
    markdown,
    marked,
    terminal,
)

COLUMNS = Column("name"), Column("up", 1, "higher"), Column("down", 2, "lower"), Column("nil", 1, "zero")
ROWS = ("x", 1.26, Interval(0.5, 0.125), -3.0), ("y", 2.0, Interval(0.4, None), None), ("z|", None, None, 4.0)
TABLE = Table(COLUMNS, (Section("first", ROWS), Section("second", (("lonely", 9.0, 0.0, 0.0),))), ("a note",))


def test_the_best_of_a_column_is_marked_within_its_section():
    best = [[cell for cell, best in row if best] for row in marked(COLUMNS, TABLE.sections[0])]
    assert best == [["-3.0"], ["2.0", "0.40"], []]
    assert not any(best for row in marked(COLUMNS, TABLE.sections[1]) for _, best in row)


def test_a_change_has_a_sign_and_is_never_the_best():
    section = Section("changes", (("a", Change(1.0, 0.5), None, 0.0), ("b", Change(-2.0, None), None, 1.0)))
    shown = marked(COLUMNS, section)
    assert [row[1] for row in shown] == [("+1.0 ± 0.5", False), ("-2.0", False)]
    first, _ = csv.DictReader(io.StringIO(comma_separated(Table(COLUMNS, (section,)))))
    assert (first["up"], first["up ±"]) == ("1.0", "0.5")


def test_every_cell_title_and_note_is_in_the_terminal():
    console = Console(width=100, file=io.StringIO())
    console.print(terminal(TABLE))
    printed = console.file.getvalue()
    for text in ("first", "second", "a note", "up ↑", "down ↓", "nil → 0", "0.50 ± 0.12", "0.40", "lonely", "–"):
        assert text in printed


def test_markdown_has_a_row_for_each_row_and_as_many_cells():
    lines = [line for line in markdown(TABLE).splitlines() if line.startswith("|")]
    assert len(lines) == 2 * 2 + len(ROWS) + 1
    assert {line.replace(r"\|", "").count("|") for line in lines} == {len(COLUMNS) + 1}


def test_comma_separated_values_keep_all_digits():
    first, *_, last = list(csv.DictReader(io.StringIO(comma_separated(TABLE))))
    assert first == {"section": "first", "name": "x", "up": "1.26", "down": "0.5", "down ±": "0.125", "nil": "-3.0"}
    assert (last["section"], last["name"], last["down ±"]) == ("second", "lonely", "")
