"""Finished pieces of long work, kept in a folder, so that work that was killed goes on where it was.

    with Journal(work, {"source": {"frames": 250, "sha256": "9f2c..."}, "checkpoint": "41aa...", "seed": 3}) as journal:
        tokens = journal.piece("tokens", lambda: {"tokens": read(clip)})["tokens"]     made once, read ever after
        make = remembering(journal, make)                                            the same for `execute`'s `make`

In the folder lie

    work.json                                what the pieces are of, the mapping above
    level-1.from-3.to-10-5b0e...safetensors  a piece: arrays by name, and the beginning of the file's own sha256

A piece stands whole or not at all, and one that the disk has changed since is made again. Pieces are of one work only:
with another source, canvas, checkpoint or option the folder is refused, and the sentence names which. Whatever changes
a bit of the result belongs into the mapping, versions and the size of batches too; then a run that was killed at any
moment, and went on, gives what an uninterrupted one gives, bit for bit. (Where a compiler chooses kernels by their
speed, as on GPUs, that holds as long as it chooses the same, which programs from the cache of programs do.)

Nothing here knows a network, and jax is not imported.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from gp_jax.errors import UserError
from gp_jax.files import locked, read_json, replacing, write_json

WORK = "work.json"
FORMAT = 1  # of the folder; one of another format is refused
SUFFIX = ".safetensors"
DIGITS = 32  # of the sha256 in a name

Arrays = Mapping[str, np.ndarray]


class Segment(Protocol):
    """Some frames that are made together; their times rise, and no two segments of a level begin alike: with the same
    time of a clip that starts at the same frame."""

    @property
    def times(self) -> Sequence[int]: ...
    @property
    def start(self) -> int: ...


class Journal:
    """What of a piece of work is done. Use it in a `with` block, which keeps other programs out of the folder.

    Args:
      folder: made where it does not exist.
      of: all that the pieces depend on, JSON by the names that a user knows; a value that is a mapping itself is
        compared as a whole.

    Raises:
      UserError: the folder holds other work, or something else; on entry also: another program works there.
    """

    def __init__(self, folder: Path, of: Mapping[str, Any]):
        self.folder, self.of = Path(folder), json.loads(json.dumps({"format": FORMAT, **of}))  # as it is read back
        self._stack = ExitStack()
        self._check()

    def __enter__(self) -> "Journal":
        with ExitStack() as stack:
            stack.enter_context(locked(self.folder))
            if not self._check():
                write_json(self.folder / WORK, self.of)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def has(self, name: str) -> bool:
        """Whether a piece of this name stands there undamaged."""
        return self.find(name) is not None

    def find(self, name: str) -> Arrays | None:
        """The arrays of a piece that stands there undamaged."""
        return next((arrays for path in self._files(name) if (arrays := _read(path)) is not None), None)

    def piece(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        """The arrays of a piece: those that lie there or, where none do, those of `make`, which are kept."""
        found = self.find(name)
        return self.keep(name, make()) if found is None else found

    def keep(self, name: str, arrays: Arrays) -> Arrays:
        """Keeps a piece in the place of those of this name, of which there is always one; returns it."""
        arrays, old = {key: np.ascontiguousarray(array) for key, array in arrays.items()}, self._files(name)
        data = safetensors.numpy.save(arrays)
        new = self.folder / f"{name}-{_digest(data)}{SUFFIX}"
        with replacing(new) as temporary:
            temporary.write_bytes(data)
        for path in old:
            if path != new:
                path.unlink(missing_ok=True)
        return arrays

    def drop(self, name: str) -> None:
        """Removes a piece that nothing stands on any more, where there is one."""
        for path in self._files(name):
            path.unlink(missing_ok=True)

    def _files(self, name: str) -> list[Path]:
        return sorted(self.folder.glob(f"{name}-{'?' * DIGITS}{SUFFIX}"))

    def _check(self) -> bool:
        """Whether this work was begun in the folder; raises UserError where that holds something else."""
        if not holds_work(self.folder):
            return False
        begun = read_json(self.folder / WORK)
        for name in dict.fromkeys(("shots", *self.of, *begun)):  # what each is made of lies with the shots
            if begun.get(name) != self.of.get(name):
                raise UserError(
                    f"{self.folder} was begun with {_other(name, begun.get(name), self.of.get(name))}: "
                    "ask for the same again, or choose another work folder"
                )
        return True


def holds_work(folder: Path) -> bool:
    """Whether work was begun in a folder; raises UserError where it is none, or holds other things than work."""
    try:
        if (folder / WORK).is_file():
            return True
    except OSError as error:  # such as a name that is too long
        raise UserError(f"{folder} cannot be a work folder: {error.strerror}; choose one by --work-folder") from error
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is no folder: choose another work folder")
    # A writer that was killed in the folder's first moment has left hidden files, which the next writer removes.
    if folder.is_dir() and any(not path.name.startswith(".gp_jax") for path in folder.iterdir()):
        raise UserError(f"{folder} holds other things than the work of a job: choose another work folder")
    return False


def name_of(number: int, segments: Sequence[Segment]) -> str:
    """What the piece of some segments of a level is called."""
    clip = f"clip-{segments[0].start}." if segments[0].start else ""
    return f"level-{number}.{clip}from{segments[0].times[0]:+d}.to{segments[-1].times[-1]:+d}"


def remembering(journal: Journal | None, make: Callable[..., Mapping[int, np.ndarray]]) -> Callable[..., Any]:
    """`make` of `execute`, asked only for what the journal does not know; `make` itself where there is no journal.

    Args:
      journal: of the work.
      make: (number of the level, segments, completed frames) -> arrays by the index of their frame.
    """
    if journal is None:
        return make

    def remember(number: int, segments: Sequence[Segment], completed: Mapping[int, Any]) -> dict[int, np.ndarray]:
        made = journal.piece(
            name_of(number, segments),
            lambda: {str(index): array for index, array in make(number, segments, completed).items()},
        )
        return {int(index): array for index, array in made.items()}

    return remember


def _read(path: Path) -> Arrays | None:
    """The arrays of a file, None where it is not what was written."""
    with suppress(OSError, SafetensorError):
        data = path.read_bytes()
        if path.name.endswith(f"-{_digest(data)}{SUFFIX}"):
            return safetensors.numpy.load(data)
    return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:DIGITS]


def _other(name: str, was: Any, wished: Any) -> str:
    """In a few words, what of the work is another one."""
    shown = all(value is None or isinstance(value, int | float | str) for value in (was, wished))
    if shown and max(len(str(was)), len(str(wished))) <= 60:
        return f"{name} {_value(was)}, not {_value(wished)}"
    if not isinstance(was, dict) or not isinstance(wished, dict):
        return f"{'other' if name.endswith('s') else 'another'} {name}"
    return f"another {name} ({', '.join(key for key in wished if was.get(key) != wished[key])})"


def _value(value: Any) -> str:
    return "by default" if value is None else repr(value) if isinstance(value, str) else str(value)
