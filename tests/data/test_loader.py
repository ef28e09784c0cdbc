"""Every example follows from the seed and its number; broken records are named and passed over."""

import dataclasses
import shutil

import numpy as np
import pytest

from gp_jax.data import DataConfig, make_loader
from gp_jax.data.shards import read_manifest
from gp_jax.errors import UserError
from gp_jax.files import write_json

BATCH = 4


@pytest.fixture(scope="module")
def config(records):
    folders = records("wide"), records("tall", size=(24, 16), clips=3, first=100), records("more", clips=2, first=200)
    return DataConfig(
        records=tuple(map(str, folders)),
        segment_frames=4,
        strides=(1, 2, 5),
        paces=(1, 3),
        known="ends",
        feature_frames=3,
        view_size=8,
        view_patch=4,
    )


def take(config, count, **options):
    loader = make_loader(config, batch_size=BATCH, **options)
    batches = [next(loader) for _ in range(count)]
    loader.close()
    return batches


def assert_equal(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_batches_have_the_shapes_that_were_announced_and_frame_sizes_take_turns(config):
    loader = make_loader(config, batch_size=BATCH)
    assert [spec["pixels"].shape for spec in loader.specs] == [(4, 4, 16, 24, 3), (4, 4, 24, 16, 3)]
    for step in range(4):
        batch = next(loader)
        assert {k: (x.shape, x.dtype) for k, x in batch.items()} == {
            k: (x.shape, x.dtype) for k, x in loader.specs[step % 2].items()
        }
    loader.close()


def test_processes_make_the_rows_of_one_process(config):
    whole = take(config, 4)
    for rows in ([0, 1], [2, 3]), ([0, 2], [1, 3]), ([3], [0, 1, 2]):
        parts = [take(config, 4, rows=part) for part in rows]
        order = np.argsort(np.concatenate(rows))
        assert_equal(whole, [{k: np.concatenate([a[k], b[k]])[order] for k in a} for a, b in zip(*parts)])


def test_a_restart_goes_on_where_it_was(config):
    whole = take(config, 6)
    assert_equal(whole[3:], take(config, 3, start=3 * BATCH))
    loader = make_loader(config, batch_size=BATCH)
    for _ in range(3):
        next(loader)
    state = loader.get_state()  # more than this was read ahead, and does not count
    assert state == {"examples": 3 * BATCH}
    next(loader)
    loader.set_state(state)
    assert_equal(whole[3:5], [next(loader), next(loader)])
    loader.close()


def test_workers_change_nothing(config):
    assert_equal(take(config, 3), take(dataclasses.replace(config, workers=2), 3))


def test_an_epoch_takes_each_clip_of_a_size_once(config):
    clips = [int(x) for batch in take(config, 4)[::2] for x in batch["pixels"][:, 0, 0, 0, 0]]
    assert sorted(clips) == [0, 1, 2, 3, 4, 5, 200, 201]
    assert clips != sorted(clips)


def test_another_seed_is_another_order(config):
    one, other = (take(dataclasses.replace(config, seed=seed), 1)[0] for seed in (0, 1))
    assert not np.array_equal(one["pixels"], other["pixels"])


def test_broken_records_are_named_and_passed_over_up_to_the_limit(config, records, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(records("whole"), folder)
    shard = folder / read_manifest(folder, "")["shards"]["train"][0]["file"]
    content = bytearray(shard.read_bytes())
    content[content.index(b"IEND") - 200] ^= 1  # within the pictures of some record
    shard.write_bytes(content)

    config = dataclasses.replace(config, records=(str(folder),))
    loader = make_loader(config, batch_size=BATCH)
    for _ in range(6):
        next(loader)
    loader.close()
    [(name, reason)] = loader.skipped.items()
    assert name.startswith(f"{folder} train record ") and reason
    with pytest.raises(UserError, match=r"broken.*max_skipped allows 0.*train record"):
        take(dataclasses.replace(config, max_skipped=0), 6)
    assert_equal(take(config, 6), take(dataclasses.replace(config, workers=1), 6))


def test_clips_shorter_than_a_segment_are_broken_records(config):
    with pytest.raises(UserError, match="it has 20 frames, fewer than a segment's 21"):
        make_loader(dataclasses.replace(config, segment_frames=21), batch_size=BATCH)


def test_folders_that_cannot_be_used_are_told(config, records, tmp_path):
    def fails(match, split="train", **changes):
        with pytest.raises(UserError, match=match):
            make_loader(dataclasses.replace(config, **changes), batch_size=BATCH, split=split)

    fails("there is no folder", records=(str(tmp_path / "nowhere"),))
    fails("has no split 'validation'", split="validation")
    fails("data.size=WIDTHxHEIGHT", records=(str(tmp_path),))
    fails("no multiple of data.downsampling", downsampling=16)
    folder = shutil.copytree(records("other"), tmp_path / "unfinished")
    (folder / "train-00001-of-00002.array_record").unlink()
    fails("train-00001-of-00002.array_record is missing", records=(str(folder),))
    manifest = read_manifest(folder, "")
    del manifest["size"]  # as in one of latents
    write_json(folder / "manifest.json", manifest)
    fails("holds no clips: give a folder made with build_records.py", records=(str(folder),))
    (folder / "manifest.json").unlink()
    fails("has no finished manifest.json", records=(str(folder),))
