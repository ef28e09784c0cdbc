"""Data sets that methods are evaluated on: clips by name, opened only when they are needed.

    readers = DATASETS["davis"](Path("DAVIS"))       # {"bike-packing": <function>, ...}, in the official order
    reader = readers["bike-packing"]()               # len(reader), and its frames in order

Of data sets that have splits it is the validation split, read as training reads the other one (gp_jax/data/sources.py).
A new data set is a function here, or a source there, and a line in `DATASETS`. Functions import what they read with:
the command line has the names from here, and does not wait for it.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gp_jax.errors import UserError
from gp_jax.video import VideoReader

if TYPE_CHECKING:
    from gp_jax.data.sources import Frames

Readers = dict[str, Callable[[], "Frames"]]


def validation(folder: Path, *, source: str) -> Readers:
    """The validation split of a source of `SOURCES`; raises UserError where `folder` is something else."""
    from gp_jax.data.sources import SOURCES

    films = SOURCES[source](folder)
    readers = {film.name.removeprefix("validation/"): film.open for film in films if film.split == "validation"}
    if not readers:
        raise UserError(f"{folder} has no validation clips")
    return readers


def folder_of_clips(folder: Path) -> Readers:
    """The videos and frame folders that lie in `folder`, by their names without suffix; UserError where none does."""
    from gp_jax.video.clips import clips_in

    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    return {name: functools.partial(_open, path) for name, path in clips_in(folder).items()}


DATASETS: dict[str, Callable[[Path], Readers]] = {
    "davis": functools.partial(validation, source="davis"),  # DAVIS 2017: JPEGImages/480p, ImageSets/2017
    "youtube-vos": functools.partial(validation, source="youtube-vos"),  # valid/JPEGImages
    "tfds": functools.partial(validation, source="tfds"),  # the folder with dataset_info.json
    "folder": folder_of_clips,
}


def _open(path: Path) -> VideoReader:
    reader = VideoReader(path)
    if reader.info.damage:
        raise UserError(f"{reader.info.damage}: a damaged clip cannot be a reference")
    return reader
