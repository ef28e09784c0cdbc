"""A folder of numbered ArrayRecord files, made shard by shard and checked afterwards.

    arguments.json                     what the folder was begun with; going on with other arguments is refused
    train-00003-of-00016.array_record  a shard; its records can be read in any order
    train-00003-of-00016.json          written after it: how many records, the sha256, what else was counted
    manifest.json                      written when all shards are there; without it the folder is unfinished

Whatever makes such a folder does so in any order, in any number of processes and on any number of hosts that share it:

    begin(folder, arguments)
    for shard in ...: write_shard(folder / shard, records)          does nothing where the shard is finished
    finish(folder, {"train": shards, ...}, facts)                   True where none is missing

A record is a dictionary of numpy arrays in the bytes of a safetensors file: `pack` and `unpack`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from safetensors import SafetensorError

from gp_jax.errors import UserError
from gp_jax.files import locked, read_json, replacing, write_json

SHOWN = "see Training in the README"  # of the tools that make such folders, which an installed package does not hold
ARGUMENTS_FILE, MANIFEST_FILE = "arguments.json", "manifest.json"
# One record per chunk: reading a record reads nothing else. Pictures and float16 do not compress any further.
WRITER_OPTIONS = "group_size:1,uncompressed"


def shard_names(stem: str, count: int) -> list[str]:
    """`["train-00000-of-00002.array_record", "train-00001-of-00002.array_record"]`."""
    return [f"{stem}-{index:05d}-of-{count:05d}.array_record" for index in range(count)]


def pack(tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> bytes:
    """A record of arrays, and of facts that JSON can hold."""
    text = np.frombuffer(json.dumps(facts, sort_keys=True).encode(), np.uint8)
    return safetensors.numpy.save({**{name: np.ascontiguousarray(x) for name, x in tensors.items()}, "facts": text})


def unpack(record: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Inverse of `pack`; raises UserError where the bytes are none of its."""
    try:
        tensors = safetensors.numpy.load(record)
        return tensors, json.loads(tensors.pop("facts").tobytes())
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"not a record of gp_jax: {error}") from None


def begin(folder: Path, arguments: Mapping[str, Any]) -> None:
    """Notes the arguments, or compares them with those that the folder was begun with; raises UserError where they
    differ."""
    path = folder / ARGUMENTS_FILE
    arguments = json.loads(json.dumps(arguments))
    with locked(folder, "arguments", wait=True):
        if not path.exists():
            write_json(path, arguments)
    noted = read_json(path)
    if different := sorted(name for name in noted.keys() | arguments.keys() if noted.get(name) != arguments.get(name)):
        told = ", ".join(f"{name} {noted.get(name)!r} (now {arguments.get(name)!r})" for name in different)
        raise UserError(f"{folder} was begun with {told}: go on with the same arguments, or use a new folder")


def write_shard(path: Path, records: Iterable[bytes], facts: Mapping[str, Any]) -> None:
    """Writes a shard, whole or not at all, then notes what is in it.

    Args:
      path: the shard; a finished one is kept as it is, and `records` are not asked for.
      records: its records, in order.
      facts: what else to note; read after the last record, so that `records` may fill it.
    """
    if path.with_suffix(".json").exists():
        return
    count = 0
    with replacing(path) as temporary:
        try:
            writer = ArrayRecordWriter(str(temporary), WRITER_OPTIONS)
            try:
                for record in records:
                    writer.write(record)
                    count += 1
            finally:
                writer.close()
        except (OSError, RuntimeError) as error:
            raise UserError(f"cannot write {path}: {error}; free some space and run the same command again") from error
        digest = sha256(temporary)
    write_json(path.with_suffix(".json"), {"file": path.name, "records": count, "sha256": digest, **facts})


def finish(folder: Path, shards: Mapping[str, list[str]], facts: Mapping[str, Any]) -> bool:
    """Writes the manifest if all shards are there, and says whether they are.

    Args:
      folder: of the shards.
      shards: names by split.
      facts: what else the manifest says.
    """
    notes = {split: [(folder / name).with_suffix(".json") for name in names] for split, names in shards.items()}
    if not all(note.exists() for names in notes.values() for note in names):
        return False
    contents = {split: [read_json(note) for note in names] for split, names in notes.items()}
    write_json(
        folder / MANIFEST_FILE,
        {
            **facts,
            "arguments": read_json(folder / ARGUMENTS_FILE),
            "records": {split: sum(note["records"] for note in all_notes) for split, all_notes in contents.items()},
            "shards": contents,
        },
    )
    return True


def read_manifest(folder: Path, made_by: str) -> dict[str, Any]:
    """The manifest; raises UserError where there is none, or one of something else, naming the tool that writes it."""
    if not (folder / MANIFEST_FILE).is_file():
        unfinished = " finished" if (folder / ARGUMENTS_FILE).exists() else ""
        raise UserError(f"{folder} has no{unfinished} {MANIFEST_FILE}: make it with {made_by}")
    manifest = read_json(folder / MANIFEST_FILE)
    if not {"arguments", "records", "shards"} <= manifest.keys():
        raise UserError(f"{folder / MANIFEST_FILE} is of something else: give a folder made with {made_by}")
    return manifest


def open_shards(folder: Path, notes: Iterable[Mapping[str, Any]]) -> ArrayRecordDataSource | tuple[()]:
    """All records of some shards as one sequence of bytes; nothing is read yet.

    Args:
      folder: of the shards.
      notes: `manifest["shards"][split]`.

    Raises:
      UserError: a shard is missing.
    """
    notes = [note for note in notes if note["records"]]
    for note in notes:
        if not (folder / note["file"]).is_file():
            raise UserError(f"{folder / note['file']} is missing: build it again, or copy the whole folder")
    paths = [f"{folder / note['file']}[0:{note['records']}]" for note in notes]
    return ArrayRecordDataSource(paths) if paths else ()


def verify_shard(folder: Path, note: Mapping[str, Any]) -> list[str]:
    """Reads a shard whole; a sentence for each thing that is not as its note says."""
    path = folder / note["file"]
    if not path.is_file():
        return [f"{path} is missing"]
    problems = [] if sha256(path) == note["sha256"] else [f"{path} is not as it was written: its sha256 differs"]
    try:
        reader = ArrayRecordReader(str(path))
        if reader.num_records() != note["records"]:
            problems.append(f"{path} has {reader.num_records()} records, not {note['records']}")
    except RuntimeError as error:
        return [*problems, f"{path} cannot be read: {error}"]
    for index in range(reader.num_records()):
        try:
            unpack(reader.read([index])[0])
        except (RuntimeError, UserError) as error:
            problems.append(f"{path} record {index} cannot be read: {error}")
    return problems


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
