"""Where films come from: folders and data sets, each as a list of `Film`s that nothing was decoded of yet.

    for film in SOURCES["davis"](Path("DAVIS/")):
        film.name, film.caption, film.split
        for frame in film.open(): ...

A new kind of source is a function here and a line in `SOURCES`. Lists of files, which may be too long to be held, are
read by film_lists.py.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gp_jax.data.videos import find_videos
from gp_jax.errors import UserError
from gp_jax.files import is_within
from gp_jax.video import VideoReader


class Frames(Protocol):
    """What a film opens as; `VideoReader` is one."""

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def __iter__(self) -> Iterator[np.ndarray]:
        """All frames, uint8 [H, W, 3]."""
        ...

    def frames_at(self, indices: Iterable[int]) -> Iterable[np.ndarray]:
        """The frames of increasing indices."""
        ...


@dataclasses.dataclass(frozen=True)
class Film:
    """One film of a source.

    Attributes:
      name: unlike any other of its source, and a path within it.
      open: makes its frames.
      frame_rate: frames per second; None: as the opened file says.
      caption: "" where there is none.
      split: "train" or "validation"; None where the source has no splits.
      has_cuts: whether shots have to be looked for.
      facts: what else is known, such as kind and licence.
    """

    name: str
    open: Callable[[], Frames]
    frame_rate: float | None = None
    caption: str = ""
    split: str | None = None
    has_cuts: bool = True
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        within(self.name)


def within(name: str) -> str:
    """A film's name, as a list gives it; raises UserError where it leads out of the data set."""
    if not is_within(name):
        raise UserError(f"a list names the film {name!r}, which is not within its data set: correct the list")
    return name


class ArrayFrames:
    """Frames [N, H, W, 3] uint8 that lie in memory, or in a file that is mapped into it."""

    def __init__(self, frames: np.ndarray):
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self._frames)

    def frames_at(self, indices: Iterable[int]) -> Iterator[np.ndarray]:
        return (self._frames[index] for index in indices)


def videos(folder: Path) -> list[Film]:
    """All video files under a folder."""
    return [Film(str(file.relative_to(folder)), functools.partial(VideoReader, file)) for file in find_videos(folder)]


def davis(folder: Path, resolution: str = "480p") -> list[Film]:
    """DAVIS 2017: `folder`, or `folder`/davis, has JPEGImages/RESOLUTION/NAME/*.jpg and the lists of ImageSets/2017."""
    if (folder / "davis" / "ImageSets").is_dir():  # as build_test_clips.py leaves it beside its archives
        folder = folder / "davis"
    films = []
    for split, file in (("train", "train.txt"), ("validation", "val.txt")):
        names = folder / "ImageSets" / "2017" / file
        if not names.is_file():
            raise UserError(f"{folder} is not DAVIS 2017: there is no {names.relative_to(folder)} in it")
        films += [
            _images(name, folder / "JPEGImages" / resolution / name, split)
            for name in names.read_text(encoding="utf-8").split()
        ]
    return films


def youtube_vos(folder: Path) -> list[Film]:
    """YouTube-VOS: `folder` has train/JPEGImages/ID/*.jpg in it, and perhaps valid/JPEGImages/ID/*.jpg."""
    films = []
    for split, part in (("train", "train"), ("validation", "valid")):
        images = folder / part / "JPEGImages"
        if images.is_dir():
            films += [
                _images(path.name, path, split, frame_rate=6)
                for path in sorted(images.iterdir())
                if path.is_dir() and not path.name.startswith(".")
            ]
    if not films:
        raise UserError(f"{folder} is not YouTube-VOS: there is no train/JPEGImages in it")
    return films


def tfds(folder: Path) -> list[Film]:
    """A data set as tools/prepare_tfds.py, or TensorFlow Datasets itself, prepared it: the folder with
    dataset_info.json."""
    import tensorflow_datasets  # takes seconds to import

    try:
        splits = tensorflow_datasets.builder_from_directory(folder).info.splits
    except Exception as error:  # TFDS raises what its parts raise
        raise UserError(f"{folder} is no data set prepared by TensorFlow Datasets: {error}") from error
    return [
        Film(f"{split}/{index}", functools.partial(_open_tfds, folder, split, index), 24, split=split, has_cuts=False)
        for split in ("train", "validation")
        if split in splits
        for index in range(splits[split].num_examples)
    ]


def arrays(file: Path) -> list[Film]:
    """An array of clips [N, T, H, W, 3] uint8 in NumPy's format, and beside it a JSON list of what is known of each:
    split (train or validation), frame_rate, caption and any other facts."""
    if not file.with_suffix(".json").is_file():
        raise UserError(f"{file.with_suffix('.json')} is missing: it says what the clips of {file.name} are")
    try:
        entries = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        clips = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file} and its JSON list cannot be read: {error}") from None
    if not isinstance(clips, np.ndarray) or clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[-1] != 3:
        held = f"{list(clips.shape)} {clips.dtype}" if isinstance(clips, np.ndarray) else "several arrays"
        raise UserError(f"{file} must be one array [N, T, H, W, 3] of uint8, and holds {held}")
    if not isinstance(entries, list) or len(entries) != len(clips) or not all(map(_is_entry, entries)):
        raise UserError(
            f"{file.with_suffix('.json')} must be a list of {len(clips)} objects, one for each clip of {file.name}, "
            "where split is train or validation, frame_rate a number above 0 and caption a text, or not there"
        )
    return [
        Film(
            f"{file.stem}:{index}",
            functools.partial(_open_array, file, index),
            frame_rate=entry.get("frame_rate", 24),
            caption=entry.get("caption", ""),
            split=entry.get("split"),
            has_cuts=False,
            facts=entry,
        )
        for index, entry in enumerate(entries)
    ]


SOURCES: dict[str, Callable[..., list[Film]]] = {
    "videos": videos,
    "davis": davis,
    "youtube-vos": youtube_vos,
    "tfds": tfds,
    "arrays": arrays,
}


def _images(name: str, folder: Path, split: str, frame_rate: float = 24) -> Film:
    return Film(name, functools.partial(VideoReader, folder, frame_rate), frame_rate, split=split, has_cuts=False)


def _is_entry(entry: Any) -> bool:
    """Whether `arrays` can read what its JSON list says of a clip."""
    if not isinstance(entry, dict) or entry.get("split") not in (None, "train", "validation"):
        return False
    rate = entry.get("frame_rate", 24)
    return isinstance(rate, (int, float)) and 0 < rate < math.inf and isinstance(entry.get("caption", ""), str)


def _open_array(file: Path, index: int) -> ArrayFrames:
    return ArrayFrames(np.load(file, mmap_mode="r")[index])


def _open_tfds(folder: Path, split: str, index: int) -> ArrayFrames:
    example = _tfds_split(folder, split)[index]
    return ArrayFrames(np.asarray(example.get("video", example)["frames"]))


@functools.lru_cache(maxsize=2)
def _tfds_split(folder: Path, split: str):
    import tensorflow_datasets

    builder: Any = tensorflow_datasets.builder_from_directory(folder)  # its decorators hide its signatures
    return builder.as_data_source(split)
