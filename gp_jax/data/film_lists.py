"""Lists of millions of films, a path and a caption each: WebVid's and OpenVid's CSV, TSV, and Parquet.

    noted = index_list(Path("OpenVid/list.csv"), Path("records/list"), path="{video}", caption="{caption}")
    noted["films"], noted["dropped"]                      {"train": 998_102}, {"listed before": 1_898, ...}
    shard_of(noted, Path("records/list"), "train", 3, 15_596)       a sequence of 64 `Film`s from all over the list

The list is read once, line by line. What can be used of it goes into a file of lines, with the place of each of them
in another, eight bytes a film; why the others were dropped is counted.
From then on nobody holds the list: a shard is three numbers, and whoever makes it, in whichever process and however
often, reads its own lines and no others.

A shard's films come from all over the list: row i of the shuffled list is row `shuffled(i, count)` of the file, a
permutation that is computed, not kept (a Feistel network over the least square of two that holds all rows, walked until
the row exists: Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
"""

import csv
import dataclasses
import functools
import io
import json
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np

from gp_jax.data.sources import Film
from gp_jax.errors import UserError
from gp_jax.files import is_within, locked, read_json, replacing, write_json
from gp_jax.video import VideoReader

NOTE_FILE, ROWS_FILE = "list.json", "rows.jsonl"
SUFFIXES = (".csv", ".tsv", ".parquet")
_ROUNDS = 4


@dataclasses.dataclass(frozen=True)
class ListedFilms(Sequence[Film]):
    """The films of a shard, read when they are asked for; small to pickle.

    Attributes:
      folder: of `index_list`.
      beside: the folder that the list's paths are in.
      split: "train" or "validation", of so many `films`.
      shard, shards: which, of how many.
    """

    folder: Path
    beside: Path
    split: str
    films: int
    shard: int
    shards: int

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        numbers = self._numbers[index]
        return self._film(numbers) if isinstance(numbers, int) else [self._film(number) for number in numbers]

    @property
    def _numbers(self) -> range:
        return range(self.shard, self.films, self.shards)

    def _film(self, number: int) -> Film:
        places = np.load(self.folder / f"{self.split}.npy", mmap_mode="r")
        with (self.folder / ROWS_FILE).open("rb") as file:
            file.seek(int(places[shuffled(number, self.films)]))
            name, caption = json.loads(file.readline())
        return Film(name, functools.partial(VideoReader, self.beside / name), caption=caption)


def shard_of(noted: Mapping[str, Any], folder: Path, split: str, shard: int, shards: int) -> ListedFilms:
    """A shard of what `index_list` noted in that folder."""
    return ListedFilms(folder, Path(noted["beside"]), split, noted["films"][split], shard, shards)


def index_list(
    file: Path,
    folder: Path,
    path: str = "{path}",
    caption: str = "{caption}",
    validation: float = 0.0,
    progress: Callable[[float], Any] = lambda share: None,
) -> dict[str, Any]:
    """Reads a list, unless that was done with the same arguments.

    Args:
      file: .csv and .tsv, whose first row names the columns, or .parquet.
      folder: for the index.
      path: where a row's video lies, beside the file. WebVid: "videos/{page_dir}/{videoid}.mp4", OpenVid: "{video}".
      caption: the row's caption. WebVid: "{name}".
      validation: the share of films that is held out, chosen by the films' names: the same whatever else is listed.
      progress: told the share of the file that is read.

    Returns:
      "films" by split; "dropped", reason -> rows; "names", a sha256 of the names of all films in the list's order.

    Raises:
      UserError: the file cannot be read, is no list, a pattern names no column of it, or a split that was asked for got
        no film.
    """
    asked = {"list": file.name, "size": _size(file), "path": path, "caption": caption, "validation": validation}
    with locked(folder, "list", wait=True):  # of hosts that begin together one reads
        if (folder / NOTE_FILE).is_file() and (noted := read_json(folder / NOTE_FILE)).get("asked") == asked:
            return noted
        (folder / NOTE_FILE).unlink(missing_ok=True)  # it would speak of files that are to be replaced
        noted = {"asked": asked, "beside": str(file.parent.resolve()), **_index(file, folder, asked, progress)}
        write_json(folder / NOTE_FILE, noted)
    return noted


def _index(file: Path, folder: Path, asked: Mapping[str, Any], progress: Callable[[float], Any]) -> dict[str, Any]:
    places = {split: array("Q") for split in ("train", "validation")}
    dropped, names, seen, at, first = Counter[str](), sha256(), _Seen(), 0, (2**32, 0)
    with replacing(folder / ROWS_FILE) as temporary, temporary.open("wb") as out:
        for row in _rows(file, asked["path"], asked["caption"], progress):
            if reason := _unusable(row, seen):
                dropped[reason] += 1
                continue
            name, line = row[0].encode(), json.dumps(row).encode() + b"\n"
            drawn = zlib.crc32(name)
            places["validation" if drawn < asked["validation"] * 2**32 else "train"].append(at)
            first = min(first, (drawn, at))
            names.update(name + b"\n")
            at += out.write(line)
        if asked["validation"] and not places["validation"] and len(places["train"]) > 1:
            places["train"].remove(first[1])  # a split that is asked for gets a film at least
            places["validation"].append(first[1])
        films = {split: len(those) for split, those in places.items() if those}
        if not films:
            why = ", ".join(f"{count} x {reason}" for reason, count in dropped.items()) or "it has no rows"
            raise UserError(f"{file} lists no film that can be used: {why}")
        if asked["validation"] and len(films) < 2:
            raise UserError(f"all films of {file} fall into the split {next(iter(films))}: choose another --validation")
    for split in films:
        with replacing(folder / f"{split}.npy") as temporary, temporary.open("wb") as out:
            np.save(out, np.asarray(places[split]))
    return {"films": films, "dropped": dict(dropped), "names": names.hexdigest()}


def shuffled(number: int, count: int) -> int:
    """Of `range(count)` the number that takes the place of another: a permutation."""
    half = max(1, (max(count - 1, 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = number >> half, number & mask
        for turn in range(_ROUNDS):
            mixed = blake2b(b"%d %d %d" % (turn, right, count), digest_size=8).digest()
            left, right = right, left ^ (int.from_bytes(mixed, "little") & mask)
        number = left << half | right
        if number < count:
            return number


class _Seen:
    """Which names there were: eight bytes each in a table of growing size, since a set of texts takes a hundred."""

    def __init__(self) -> None:
        self._table, self._count = np.zeros(1 << 16, np.uint64), 0

    def add(self, name: str) -> bool:
        """Whether it is new; of 10 million names two are mistaken for one another once in 370,000 lists."""
        if 2 * self._count > len(self._table):
            self._grow()
        return self._put(int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") or 1)

    def _put(self, value: int) -> bool:
        table, mask = self._table, len(self._table) - 1
        at = value & mask
        while found := int(table[at]):
            if found == value:
                return False
            at = (at + 1) & mask
        table[at] = value
        self._count += 1
        return True

    def _grow(self) -> None:
        old, self._table, self._count = self._table, np.zeros(4 * len(self._table), np.uint64), 0
        for value in old[old > 0].tolist():
            self._put(value)


def _unusable(row: tuple[str, str], seen: _Seen) -> str:
    """Why; empty for a row that is of use."""
    if not row[0]:
        return "without a path"
    if not is_within(row[0]):
        return "leads out of the folder of the list"
    return "" if seen.add(row[0]) else "listed before"


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None


def _rows(file: Path, path: str, caption: str, progress: Callable[[float], Any]) -> Iterator[tuple[str, str]]:
    """(path, caption) of each row."""
    if file.suffix not in SUFFIXES:
        raise UserError(f"{file} is no list that can be read: it has to be {', '.join(SUFFIXES)}")
    try:
        for row in (_parquet if file.suffix == ".parquet" else _text)(file, progress):
            try:
                yield path.format(**row).strip(), caption.format(**row).strip()
            except KeyError as column:
                raise UserError(f"{file} has no column {column}, only {', '.join(row)}") from None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from None
    except (ValueError, IndexError, AttributeError, csv.Error) as error:
        raise UserError(f"{file} is no list in UTF-8, or {path!r} and {caption!r} no patterns of it: {error}") from None


def _text(file: Path, progress: Callable[[float], Any]) -> Iterator[dict[str, str]]:
    size, delimiter = max(_size(file), 1), "\t" if file.suffix == ".tsv" else ","
    with file.open("rb") as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines, restkey="", restval="", delimiter=delimiter)):
            if number % 16_384 == 0:
                progress(raw.tell() / size)
            yield row


def _parquet(file: Path, progress: Callable[[float], Any]) -> Iterator[dict[str, str]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise UserError("a list in Parquet needs pyarrow: pip install pyarrow") from None
    try:
        table = parquet.ParquetFile(file)
        done, total = 0, max(table.metadata.num_rows, 1)
        for batch in table.iter_batches(batch_size=16_384):
            columns = {name: column.to_pylist() for name, column in zip(batch.schema.names, batch.columns)}
            for values in zip(*columns.values()):
                yield {name: "" if value is None else str(value) for name, value in zip(columns, values)}
            done += batch.num_rows
            progress(done / total)
    except ArrowException as error:
        raise UserError(f"{file} is no whole Parquet file: {error}") from None
