"""Splits share no source; the same seed gives the same clips, however many processes there are."""

from collections import Counter

import cv2
import numpy as np
import pytest
from build_tiny_clips import FRAMES, SHARES, Source, build, choose, expose, hold_out

from gp_jax.data.clips import RecordFolder


@pytest.fixture
def sources(tmp_path):
    rng = np.random.default_rng(0)
    film = np.kron(rng.integers(0, 256, (70, 6, 10, 3)), np.ones((1, 6, 6, 1))).astype(np.uint8)
    np.save(tmp_path / "film.npy", film)
    shots = [Source(f"film:{i}", "film", "CC0-1.0", str(tmp_path / "film.npy"), i, 60 + i) for i in range(4)]
    photos = []
    for index in range(5):
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), rng.integers(0, 256, (50, 70, 3), np.uint8))
        photos.append(Source(path.name, "photo", "CC0-1.0", str(path)))
    return shots + photos


def test_no_source_is_in_both_splits_and_every_kind_is_in_each():
    sources = [Source(f"{kind} {i}", kind, "MIT", "") for kind in SHARES for i in range(3 + 10 * len(kind))]
    splits = hold_out(sources, seed=3)
    assert Counter(source.name for source in splits) == Counter(source.name for source in sources)
    assert {(s.kind, s.split) for s in splits} == {
        (kind, split) for kind in SHARES for split in ("train", "validation")
    }
    shots = [s.split for s in splits if s.kind == "film"]
    first, count = shots.index("validation"), shots.count("validation")
    assert shots[first : first + count] == ["validation"] * count


def test_kinds_have_their_shares_and_sources_of_a_kind_take_turns():
    sources = [Source(f"{kind} {i}", kind, "MIT", "") for kind in SHARES for i in range(7)]
    chosen = choose(sources, (72, 128), clips=200, seed=0)
    kinds = Counter(source.kind for source in chosen)
    assert all(abs(kinds[kind] - 200 * share) <= 1 for kind, share in SHARES.items())
    for kind in SHARES:
        turns = Counter(source.name for source in chosen if source.kind == kind)
        assert max(turns.values()) - min(turns.values()) <= 1


def test_clips_depend_on_the_seed_alone_and_know_their_source(sources, tmp_path):
    sources = hold_out(sources, seed=0)
    for folder, processes in (("one", 1), ("two", 2)):
        build(sources, (8, 12), 6, seed=5, out=tmp_path / folder, processes=processes)
    one, two = ({f.name: f.read_bytes() for f in (tmp_path / name / "8x12").iterdir()} for name in ("one", "two"))
    assert one == two

    split_of = {source.name: source.split for source in sources}
    clips = {}
    for split in ("train", "validation"):
        folder = RecordFolder(tmp_path / "one/8x12", split)
        assert folder.size == (8, 12)
        for index in range(len(folder)):
            clip = folder[index]
            assert split_of[clip.facts["source"]] == split and clip.facts["licence"] == "CC0-1.0"
            clips[clip.key] = clip.read(range(clip.num_frames))
    assert sorted(clips) == list("012345")
    assert all(frames.shape == (FRAMES, 8, 12, 3) for frames in clips.values())
    assert len(np.unique([frames.ravel() for frames in clips.values()], axis=0)) == 6


def test_exposure_follows_the_light():
    dim = np.random.default_rng(0).lognormal(-2, 1, (16, 32, 3)).astype(np.float32)
    photograph = expose(dim, np.random.default_rng(1))
    # Neither black nor white, whatever the scale of the light; brighter stays brighter.
    assert 60 < photograph.mean() < 180
    np.testing.assert_allclose(photograph, expose(1000 * dim, np.random.default_rng(1)), atol=1)
    order = np.argsort(dim[..., 0].ravel())
    assert np.all(np.diff(photograph[..., 0].ravel()[order].astype(int)) >= 0)
