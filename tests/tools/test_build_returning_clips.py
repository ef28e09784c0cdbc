"""Of still pictures whose camera moves clips are made, which end where they began."""

import sys

import build_returning_clips
import cv2
import numpy as np
import pytest

from gp_jax.data.clips import RecordFolder, pack_clip
from gp_jax.data.shards import begin, finish, write_shard
from gp_jax.errors import UserError
from gp_jax.evaluation.datasets import folder_of_clips


@pytest.fixture
def records(tmp_path):
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 256, (12, 40, 3), np.uint8), (240, 72), interpolation=cv2.INTER_CUBIC)

    def clip(key, kind, step):
        frames = np.stack([picture[:, step * i :][:, :96] for i in range(13)])
        return pack_clip(frames, {"key": key, "kind": kind}, "png")

    clips = [clip("far", "photo", 4), clip("near", "panorama", 3), clip("still", "photo", 1), clip("film", "film", 8)]
    folder = tmp_path / "72x96"
    folder.mkdir()
    begin(folder, {})
    for split in ("train", "validation"):
        write_shard(folder / f"{split}.array_record", clips, {})
    finish(folder, {split: [f"{split}.array_record"] for split in ("train", "validation")}, {"size": (72, 96)})
    return folder


def test_a_camera_that_goes_far_comes_back(records, tmp_path, monkeypatch):
    out = tmp_path / "returning"
    monkeypatch.setattr(sys, "argv", [*f"tool {records} --out {out} --size 24 --clips 1".split()])
    build_returning_clips.main(build_returning_clips.parse())
    for split in ("train", "validation"):
        folder = RecordFolder(out, split)
        assert folder.size == (24, 24)
        assert [folder[i].key for i in range(len(folder))] == ["photo-72x96-far", "panorama-72x96-near"]
        frames = folder[0].read(range(13))
        assert folder[0].num_frames == 13
        np.testing.assert_array_equal(frames, frames[::-1])
        assert np.abs(np.diff(frames[:7].astype(int), axis=0)).mean(axis=(1, 2, 3)).min() > 5
    [(name, open_clip)] = folder_of_clips(out / "clips").items()
    assert name == "photo-72x96-far"
    np.testing.assert_array_equal(np.stack(list(open_clip())), frames)


def test_records_that_are_given_twice_are_refused(records, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [*f"tool {records} {records}/../72x96 --out {tmp_path / 'out'}".split()])
    with pytest.raises(UserError, match="given twice"):
        build_returning_clips.main(build_returning_clips.parse())


def test_records_without_such_clips_are_told_and_nothing_is_left(records, tmp_path, monkeypatch):
    monkeypatch.setattr(build_returning_clips, "LEAST", 9.0)
    monkeypatch.setattr(sys, "argv", [*f"tool {records} --out {tmp_path / 'out'}".split()])
    with pytest.raises(UserError, match=r"no train clip of .*72x96 has a camera"):
        build_returning_clips.main(build_returning_clips.parse())
    assert not (tmp_path / "out").exists()
