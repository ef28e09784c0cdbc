"""A clip comes out of its record as it went in, and anything that is no record is told."""

import numpy as np
import pytest

from gp_jax.data.clips import Clip, pack_clip
from gp_jax.data.shards import begin, finish, pack, read_manifest, shard_names, unpack, verify_shard, write_shard
from gp_jax.errors import UserError

FACTS = {"key": "film:3", "caption": "ein Wort, ein „Satz“", "frame_rate": 23.976}


@pytest.fixture(scope="module")
def video():
    y, x, t = np.mgrid[:20, :30, :5]
    return np.stack([9 * y, 8 * x, 40 * t], axis=-1).astype(np.uint8).transpose(2, 0, 1, 3)


def test_png_is_exact_and_jpeg_near(video):
    for encoding, error in (("png", 0), ("jpeg", 6)):
        clip = Clip.from_record(pack_clip(video, FACTS, encoding))
        assert (clip.num_frames, clip.key, clip.facts) == (5, "film:3", FACTS)
        frames = clip.read([4, 0, 4])
        assert frames.dtype == np.uint8
        assert np.abs(frames.astype(int) - video[[4, 0, 4]]).mean() <= error
    small, large = (len(pack_clip(video, FACTS, "jpeg", quality)) for quality in (50, 95))
    assert small < large


def test_what_is_no_record_is_told(video):
    record = pack_clip(video, FACTS, "png")
    for broken in (b"", b"text", record[:100], record[:-1], pack({"images": np.zeros(3, np.uint8)}, FACTS)):
        with pytest.raises(UserError, match="not a record"):
            Clip.from_record(broken)
    tensors, facts = unpack(record)
    tensors["images"][:] = 0
    with pytest.raises(UserError, match="frame 2 is no image"):
        Clip.from_record(pack(tensors, facts)).read([2])


def test_a_shard_is_whole_or_not_there(tmp_path):
    def failing():
        yield pack({}, {})
        raise RuntimeError("decoder")

    with pytest.raises(UserError, match="cannot write"):
        write_shard(tmp_path / "train-00000-of-00001.array_record", failing(), {})
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_is_written_when_all_shards_are_there_and_verified_against_them(tmp_path):
    begin(tmp_path, {"size": (8, 8)})
    begin(tmp_path, {"size": (8, 8)})
    with pytest.raises(UserError, match=r"begun with size \[8, 8\] \(now \[9, 8\]\)"):
        begin(tmp_path, {"size": (9, 8)})
    names = shard_names("train", 2)
    write_shard(tmp_path / names[0], [pack({}, {"a": 1})] * 3, {"frames": 7})
    assert not finish(tmp_path, {"train": names}, {})
    with pytest.raises(UserError, match=r"no finished manifest.json: make it with a tool"):
        read_manifest(tmp_path, "a tool")
    write_shard(tmp_path / names[1], [], {"frames": 0})
    assert finish(tmp_path, {"train": names}, {"format": "test"})
    manifest = read_manifest(tmp_path, "a tool")
    assert manifest["records"] == {"train": 3} and manifest["format"] == "test"
    (tmp_path / "manifest.json").write_text('{"protocol": "m3ddm-256"}')
    with pytest.raises(UserError, match=r"manifest.json is of something else: give a folder made with a tool"):
        read_manifest(tmp_path, "a tool")
    first, second = manifest["shards"]["train"]
    assert first["frames"] == 7 and verify_shard(tmp_path, first) == verify_shard(tmp_path, second) == []
    (tmp_path / names[0]).write_bytes((tmp_path / names[0]).read_bytes()[:-100])
    assert any("sha256 differs" in problem for problem in verify_shard(tmp_path, first))
