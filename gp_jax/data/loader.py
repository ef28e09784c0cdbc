"""Batches from clips: the same ones, whatever number of workers and processes makes them.

    loader = make_loader(config, batch_size=64, rows=range(16, 32))
    batch = next(loader)                   # these rows of the first batch of 64
    loader.get_state()                     # {"examples": 64}
    loader.set_state({"examples": 6400})   # goes on with the 101st batch, here or in processes that make other rows

Examples are numbered from 0 on, over all processes, and everything of an example follows from the seed and its number.
So the position is one integer, and a restart on other machines goes on exactly; one with batches of another size goes
on with the next examples. Every epoch takes each clip once.
"""

import dataclasses
import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np

from gp_jax.data.clips import RecordFolder
from gp_jax.data.config import DataConfig
from gp_jax.data.examples import Example, make_example
from gp_jax.data.precomputed import Precomputed
from gp_jax.data.shards import ARGUMENTS_FILE, MANIFEST_FILE
from gp_jax.data.videos import VideoFolder
from gp_jax.errors import UserError

_THREADS = min(4, os.cpu_count() or 1)
_END = 2**62


class Loader:
    """An endless iterator over the batches of one process; made by `make_loader`.

    Attributes:
      specs: the shapes of a GLOBAL batch, by key, for each frame size; they take turns.
      skipped: record -> why it could not be used. Its place was taken by the next record of the epoch.
    """

    def __init__(self, batches: "_Batches", start: int, workers: int):
        self._batches, self._workers, self._examples = batches, workers, start
        self.skipped: dict[str, str] = {}
        self.specs = [self._spec(group) for group in range(len(batches.groups))]
        self._iterator = None

    def __iter__(self) -> "Loader":
        return self

    def __next__(self) -> Example:
        """The next batch.

        Raises:
          UserError: more than `config.max_skipped` records are broken; the first few are named.
        """
        if self._iterator is None:
            self._iterator = iter(self._dataset())
        batch = self._without_skips(next(self._iterator))
        if self._workers:  # theirs lies in shared memory that is taken away with the iterator
            batch = jax.tree.map(np.array, batch)
        self._examples += self._batches.batch_size
        return batch

    @property
    def turn(self) -> int:
        """Which of `specs` the next batch has."""
        return self._batches.group(self._examples)

    def get_state(self) -> dict[str, int]:
        """How many examples were handed out, on all processes together."""
        return {"examples": self._examples}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes on after so many examples."""
        self.close()
        self._examples = state["examples"]

    def close(self) -> None:
        """Stops reading ahead."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def _dataset(self) -> grain.IterDataset:
        firsts = grain.MapDataset.range(self._examples, _END, self._batches.batch_size)
        threads = 1 if self._workers else _THREADS
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
        dataset = firsts.map(self._batches).to_iter_dataset(options)
        if self._workers:
            _mark_flags_as_parsed()
            options = grain.MultiprocessingOptions(self._workers, per_worker_buffer_size=2)
            dataset = dataset.mp_prefetch(options)
        return dataset

    def _without_skips(self, batch: dict[str, Any]) -> Example:
        self.skipped |= batch.pop("skipped")
        limit = self._batches.config.max_skipped
        if len(self.skipped) > limit or not batch:
            named = "; ".join(f"{name}: {reason}" for name, reason in list(self.skipped.items())[:5])
            raise UserError(f"{len(self.skipped)} records are broken, and max_skipped allows {limit}: {named}")
        return batch

    def _spec(self, group: int) -> dict[str, jax.ShapeDtypeStruct]:
        example = self._without_skips(self._batches.rows(group * self._batches.batch_size, [0]))
        size = self._batches.batch_size
        return {key: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype) for key, x in example.items()}


def make_loader(
    config: DataConfig,
    *,
    split: str = "train",
    batch_size: int,
    rows: Iterable[int] | None = None,
    start: int = 0,
) -> Loader:
    """The loader of one process.

    Args:
      config: what to load.
      split: of the records.
      batch_size: examples per batch, over all processes.
      rows: of a batch, which to make, in this order; all by default.
      start: examples that were handed out before.

    Raises:
      UserError: a folder is missing, unfinished or empty, or does not fit the configuration.
    """
    groups: dict[tuple[int, int], list[_Folder]] = {}
    for name in config.records:
        folder = _open(Path(name), split, config)
        groups.setdefault(folder.clips.size, []).append(folder)
    chosen = range(batch_size) if rows is None else [*map(int, rows)]
    return Loader(_Batches(config, list(groups.values()), batch_size, chosen), start, config.workers)


@dataclasses.dataclass(frozen=True)
class _Batches:
    """Number of a batch's first example -> the batch. Workers get a copy of it."""

    config: DataConfig
    groups: list[list["_Folder"]]  # folders of one frame size each
    batch_size: int
    local_rows: Sequence[int]

    def __call__(self, first: int) -> dict[str, Any]:
        return self.rows(int(first), self.local_rows)

    def group(self, first: int) -> int:
        """Whose turn it is: groups follow each other from batch to batch."""
        return first // self.batch_size % len(self.groups)

    def rows(self, first: int, rows: Sequence[int]) -> dict[str, Any]:
        """Some rows, stacked, and `skipped`, the records that were broken; nothing else where too many were."""
        skipped: dict[str, str] = {}
        step, group = first // self.batch_size, self.group(first)
        # Steps of other groups take no clips of this one.
        before = (step - step // len(self.groups)) * self.batch_size
        examples = [self._example(group, first + row, first + row - before, skipped) for row in rows]
        if None in examples:
            return {"skipped": skipped}
        return jax.tree.map(lambda *x: np.stack(x), *examples) | {"skipped": skipped}

    def _example(self, group: int, number: int, position: int, skipped: dict[str, str]) -> Example | None:
        folders = self.groups[group]
        total = sum(len(folder.clips) for folder in folders)
        for attempt in range(min(total, self.config.max_skipped + 1)):
            folder, index = _find(folders, _shuffled(self.config.seed, position + attempt, total))
            try:
                rng = np.random.default_rng([self.config.seed, number])
                return folder.example(index, rng, self.config)
            except UserError as error:
                skipped[folder.clips.name(index)] = str(error)
        return None


@dataclasses.dataclass(frozen=True)
class _Folder:
    clips: RecordFolder | VideoFolder
    precomputed: Precomputed | None  # where the config wants something of it

    def example(self, index: int, rng: np.random.Generator, config: DataConfig) -> Example:
        if self.precomputed and config.precomputed:
            example = self.precomputed.example(index, rng, config)
        else:
            example = make_example(self.clips[index], self.clips.size, rng, config)
        return example | ({"text": self.precomputed.text(index)} if self.precomputed and config.text else {})


def _open(folder: Path, split: str, config: DataConfig) -> _Folder:
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    if (folder / MANIFEST_FILE).exists() or (folder / ARGUMENTS_FILE).exists():
        clips = RecordFolder(folder, split)
    elif config.precomputed or config.text:
        raise UserError(
            f"{folder} holds no records, and only records have precomputed latents or text: build records of it, or "
            "set data.precomputed and data.text to False"
        )
    elif config.size is None:
        raise UserError(
            f"{folder} holds no records: build them, or train on its video files, brought to a size by "
            "--config.data.size=WIDTHxHEIGHT"
        )
    else:
        height, width = config.size
        clips = VideoFolder(folder, split, (height, width))
    if not len(clips):
        raise UserError(f"{folder} has no clip in the split {split!r}")
    if any(side % config.downsampling for side in clips.size):
        height, width = clips.size
        raise UserError(
            f"frames of {folder} are {width}x{height}, no multiple of data.downsampling={config.downsampling}"
        )
    return _Folder(clips, _open_precomputed(folder, split, config))


def _open_precomputed(folder: Path, split: str, config: DataConfig) -> Precomputed | None:
    wanted = {
        "latents": config.precomputed,
        "features": config.precomputed and config.feature_frames,
        "text": config.text,
    }
    parts = [part for part, is_wanted in wanted.items() if is_wanted]
    if not parts:
        return None
    precomputed = Precomputed(folder, split, parts, config.models)
    made = precomputed.recipe.get("feature_frames")
    if "features" in parts and made != config.feature_frames:
        raise UserError(f"{folder} has features of {made} frames, not of feature_frames={config.feature_frames}")
    return precomputed


def _find(folders: list[_Folder], index: int) -> tuple[_Folder, int]:
    """The folder, and the place in it, of one place in all of them together."""
    for folder in folders:
        if index < len(folder.clips):
            return folder, index
        index -= len(folder.clips)
    raise IndexError(index)


def _shuffled(seed: int, position: int, total: int) -> int:
    """The clip at a position of an endless run in which every `total` positions are a permutation of all clips."""
    epoch, place = divmod(position, total)
    return int(_permutation(seed, epoch, total)[place])


@functools.lru_cache(maxsize=8)
def _permutation(seed: int, epoch: int, total: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, total]).permutation(total)


def _mark_flags_as_parsed() -> None:
    """grain hands absl's flags to its workers, and refuses where nobody parsed them."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
