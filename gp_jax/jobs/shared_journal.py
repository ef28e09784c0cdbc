"""The journal of work that several processes do together: it lies with the first, and the others hear what it knows.

    journal = journal_of(work, {"source": ..., "seed": 3})      a `Journal`, for a process on its own
    journal.piece("tokens", make)                               what the first finds there, all get; else all make it

All processes ask for the same pieces in the same order, and what they make is the same: the first keeps it.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gp_jax.jobs.journal import Arrays, Journal
from gp_jax.parallel.gather import from_first
from gp_jax.parallel.processes import is_first, on_first


def journal_of(folder: Path, of: Mapping[str, Any]) -> Journal:
    """The journal of some work, that of all processes; arguments and errors as for `Journal`."""
    return Journal(folder, of) if jax.process_count() == 1 else SharedJournal(folder, of)


class SharedJournal(Journal):
    """See `Journal`: on process 0 one as any other, elsewhere without a folder."""

    def __init__(self, folder: Path, of: Mapping[str, Any]):
        self._stack = contextlib.ExitStack()
        if is_first():
            super().__init__(folder, of)
        else:
            self.folder, self.of = Path(folder), dict(of)

    def __enter__(self) -> "SharedJournal":
        if is_first():
            super().__enter__()
        return self

    def find(self, name: str) -> Arrays | None:
        """See `Journal`; a collective of all processes."""
        found = super().find(name) if is_first() else None
        kinds = on_first(lambda: found and {key: [x.shape, str(x.dtype)] for key, x in found.items()})
        if kinds is None:
            return None
        return from_first(found or {key: np.empty(shape, dtype) for key, (shape, dtype) in kinds.items()})

    def has(self, name: str) -> bool:
        """See `Journal`; a collective of all processes."""
        return on_first(lambda: super(SharedJournal, self).find(name) is not None)

    def keep(self, name: str, arrays: Arrays) -> Arrays:
        """See `Journal`."""
        return super().keep(name, arrays) if is_first() else arrays

    def drop(self, name: str) -> None:
        """See `Journal`."""
        if is_first():
            super().drop(name)
