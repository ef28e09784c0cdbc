"""Small folders of records whose pixels say which frame of which clip they are."""

import numpy as np
import pytest

from gp_jax.data.clips import pack_clip
from gp_jax.data.shards import begin, finish, shard_names, write_shard


def numbered_frames(clip: int, count: int, height: int, width: int) -> np.ndarray:
    """[count, height, width, 3] uint8: clip, frame, column."""
    video = np.zeros((count, height, width, 3), np.uint8)
    video[..., 0], video[..., 1], video[..., 2] = clip, np.arange(count)[:, None, None], np.arange(width)
    return video


def write_records(folder, *, clips=6, frames=20, size=(16, 24), shards=2, first=0):
    """A finished folder; the clips are numbered from `first` on, and stored without loss."""
    begin(folder, {})
    names = shard_names("train", shards)
    for shard, name in enumerate(names):
        numbers = range(first + shard, first + clips, shards)
        records = (pack_clip(numbered_frames(i, frames, *size), {"key": str(i)}, "png") for i in numbers)
        write_shard(folder / name, records, {})
    finish(folder, {"train": names}, {"size": size})
    return folder


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """records("name", **options of `write_records`) -> a new folder that tests must not change."""
    return lambda name, **options: write_records(tmp_path_factory.mktemp(name), **options)
