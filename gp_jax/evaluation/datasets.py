"""Data sets: clips by name, from the folder layouts in which they are published.

    readers = DATASETS["davis"](Path("DAVIS"))       # {"bike-packing": <function>, ...}, in the official order
    reader = readers["bike-packing"]()               # opened only now: len(reader), and frames in order

A new data set is a function here and a line in `DATASETS`.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gp_jax.errors import UserError
from gp_jax.metrics.score import clips_in
from gp_jax.video import VideoReader


class Reader(Protocol):
    """A clip."""

    def __len__(self) -> int:
        """Its number of frames."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Its frames, uint8 [H, W, 3]."""


Readers = dict[str, Callable[[], Reader]]


def davis(folder: Path) -> Readers:
    """The validation clips of DAVIS 2017 at 480p; `folder` has JPEGImages and ImageSets in it."""
    names = folder / "ImageSets" / "2017" / "val.txt"
    if not names.is_file():
        raise UserError(f"{folder} is not DAVIS 2017: there is no {names.relative_to(folder)} in it")
    frames = folder / "JPEGImages" / "480p"
    return {name: functools.partial(_open, frames / name) for name in names.read_text(encoding="utf-8").split()}


def youtube_vos(folder: Path) -> Readers:
    """The validation clips of YouTube-VOS; `folder` has valid/JPEGImages in it, or is `valid` itself."""
    for frames in (folder / "valid" / "JPEGImages", folder / "JPEGImages"):
        if frames.is_dir():
            return folder_of_clips(frames)
    raise UserError(f"{folder} is not YouTube-VOS: there is no valid/JPEGImages in it")


def folder_of_clips(folder: Path) -> Readers:
    """The videos and frame folders that lie in `folder`, by their names without suffix."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    return {name: functools.partial(_open, path) for name, path in clips_in(folder).items()}


def tfds_davis(folder: Path) -> Readers:
    """The validation clips of DAVIS as TensorFlow Datasets prepares it; `folder` is the one with dataset_info.json.

    Read without TensorFlow, which takes a file format that can be read at random:
    `tfds build davis --file_format=array_record`.
    """
    import tensorflow_datasets as tfds  # takes seconds to import

    try:
        builder = tfds.builder_from_directory(folder)
        # The frames alone: the masks would be decoded too.
        clips = builder.as_data_source(
            "validation",
            decoders=tfds.decode.PartialDecoding({"video": {"frames": True}, "metadata": {"video_name": True}}),
        )
    except Exception as error:  # TFDS raises what its file formats raise
        raise UserError(
            f"{folder} cannot be read as a TFDS data set with random access: {error}; prepare it by "
            "`tfds build davis --file_format=array_record`"
        ) from error
    return {
        _text(clip["metadata"]["video_name"]): functools.partial(np.asarray, clip["video"]["frames"]) for clip in clips
    }


DATASETS: dict[str, Callable[[Path], Readers]] = {
    "davis": davis,
    "youtube-vos": youtube_vos,
    "folder": folder_of_clips,
    "tfds-davis": tfds_davis,
}


def _open(path: Path) -> VideoReader:
    reader = VideoReader(path)
    if reader.info.damage:
        raise UserError(f"{reader.info.damage}: a damaged clip cannot be a reference")
    return reader


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
