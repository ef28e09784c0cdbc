"""What a shard holds follows from films and arguments: not from processes, hosts or interruptions."""

import json
import sys
from contextlib import nullcontext

import build_records
import jobs
import numpy as np
import pytest
from jobs import run

from gp_jax.cli import engine
from gp_jax.data.clips import RecordFolder
from gp_jax.data.shards import read_manifest
from gp_jax.errors import UserError
from gp_jax.video import VideoWriter


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Eleven clips of noise that drifts, three of them for validation; one stands still, and one is short of frames."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    textures = np.kron(rng.integers(0, 256, (11, 1, 6, 8, 3)), np.ones((1, 1, 4, 4, 1))).astype(np.uint8)
    video = np.concatenate([np.roll(textures, 3 * t, axis=3) for t in range(9)], axis=1)
    video[4] = video[4, :1]
    np.save(folder / "clips.npy", video)
    entries = [{"split": "validation" if i % 4 == 0 else "train", "licence": "CC0-1.0"} for i in range(11)]
    (folder / "clips.json").write_text(json.dumps(entries))
    return folder / "clips.npy"


def build(monkeypatch, *arguments):
    """The tool's exit status."""
    monkeypatch.setattr(sys, "argv", ["build_records.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        run(build_records.build, build_records.parse())
    return stopped.value.code


OPTIONS = ("--size", "24x16", "--least", 4, "--most", 5, "--films", 3, "--encoding", "png", "--processes", 1)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def records(clips, tmp_path, monkeypatch):
    assert not build(monkeypatch, "arrays", clips, tmp_path / "records", *OPTIONS, "--fact", "kind=noise")
    return tmp_path / "records"


def test_records_hold_the_scaled_and_cropped_frames_of_each_shot(records, clips, capsys):
    video = np.load(clips)
    train, validation = RecordFolder(records, "train"), RecordFolder(records, "validation")
    # Nine frames make a record of five and one of four; the clip that stands still makes none.
    assert (len(train), len(validation)) == (16, 4)
    assert train.size == (16, 24)
    for folder in (train, validation):
        for index in range(len(folder)):
            clip = folder[index]
            number, first = int(clip.facts["source"].split(":")[1]), clip.facts["first_frame"]
            assert clip.facts["licence"] == "CC0-1.0" and clip.facts["kind"] == "noise"
            assert clip.num_frames == (5 if first == 0 else 4)
            # 32x24 scales by 3/4 to 24x18, of which 16 rows are kept.
            assert clip.read(range(clip.num_frames)).shape == (clip.num_frames, 16, 24, 3)
            assert abs(clip.read([0])[0].mean(axis=(0, 1)) - video[number, first].mean(axis=(0, 1))).max() < 25
    keys = [folder[index].key for folder in (train, validation) for index in range(len(folder))]
    assert len(set(keys)) == 20
    notes = [note for split in read_manifest(records, "")["shards"].values() for note in split]
    assert sum(note["left_out"].get("shot that stands still", 0) for note in notes) == 2


def test_a_build_that_was_killed_and_goes_on_is_the_uninterrupted_one(records, clips, tmp_path, monkeypatch):
    other = tmp_path / "other"
    monkeypatch.setattr(build_records, "film_records", _killed_at(build_records.film_records, film=7))
    with pytest.raises(KeyboardInterrupt):
        build(monkeypatch, "arrays", clips, other, *OPTIONS, "--fact", "kind=noise")
    assert (other / "train-00000-of-00003.json").exists() and not (other / "manifest.json").exists()
    monkeypatch.setattr(build_records, "film_records", _killed_at.undo)
    before = (other / "train-00000-of-00003.array_record").stat().st_mtime_ns
    assert not build(monkeypatch, "arrays", clips, other, *OPTIONS, "--fact", "kind=noise")
    assert contents(other) == contents(records)
    assert (other / "train-00000-of-00003.array_record").stat().st_mtime_ns == before


def _killed_at(function, film):
    _killed_at.undo = function
    calls = []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == film:
            raise KeyboardInterrupt
        return function(*arguments)

    return killed


def test_hosts_make_together_what_one_host_makes(records, clips, tmp_path, monkeypatch, capsys):
    together = tmp_path / "together"
    arguments = ("arrays", clips, together, *OPTIONS, "--fact", "kind=noise")
    assert not build(monkeypatch, *arguments, "--host", "1/2")
    assert not (together / "manifest.json").exists()
    assert "finishes last" in capsys.readouterr().out
    assert not build(monkeypatch, *arguments, "--host", "0/2")
    assert contents(together) == contents(records)


def test_other_arguments_are_refused(records, clips, monkeypatch, capsys):
    assert build(monkeypatch, "arrays", clips, records, *OPTIONS, "--fact", "kind=noise", "--quality", 50) == 2
    assert "was begun with quality 95 (now 50)" in capsys.readouterr().err


def test_verify_finds_a_flipped_byte_and_a_missing_shard(records, monkeypatch, capsys):
    verify = ("--verify", records, "--processes", 1)
    assert build(monkeypatch, *verify) == 0
    assert "all as they were written" in capsys.readouterr().out
    shard = records / "train-00001-of-00003.array_record"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    (records / "validation-00000-of-00001.array_record").unlink()
    assert build(monkeypatch, *verify) == 1
    told = capsys.readouterr().out
    assert "train-00001-of-00003.array_record is not as it was written" in told
    assert "validation-00000-of-00001.array_record is missing" in told


def test_films_that_cannot_be_read_are_named_and_small_or_short_ones_counted(tmp_path, monkeypatch, capsys):
    films = tmp_path / "films"
    films.mkdir()
    (films / "broken.mp4").write_bytes(b"no video")
    assert build(monkeypatch, "videos", films, tmp_path / "out", *OPTIONS) == 1
    told = capsys.readouterr().err
    assert "unreadable: broken.mp4" in told and "no record in the split train" in told
    assert read_manifest(tmp_path / "out", "")["records"] == {"train": 0}


def test_few_films_make_shards_for_many_processes(clips, tmp_path, monkeypatch, capsys):
    """One shard of 64 films would be the work of one process; progress is told in films, not in shards."""
    options = (*OPTIONS[: OPTIONS.index("--films")], "--encoding", "png", "--processes")
    folders = [tmp_path / name for name in ("one", "three")]
    steps = []
    monkeypatch.setattr(engine, "progress", lambda: nullcontext(lambda done, total, label: steps.append((done, total))))
    for folder, processes in zip(folders, (1, 3)):
        assert not build(monkeypatch, "arrays", clips, folder, *options, processes)
        assert sorted(steps) == steps and steps[-1] == (11, 11) and len({done for done, _ in steps}) >= 11
        steps.clear()
    assert contents(folders[0]) == contents(folders[1])
    assert len(list(folders[0].glob("*.array_record"))) == 11


def test_a_list_is_shuffled_over_shards_that_can_be_begun_anywhere(tmp_path, monkeypatch, capsys):
    """Two hosts, the second first, make what one makes; rows that are of no use are told by their reason."""
    rng = np.random.default_rng(0)
    (tmp_path / "films").mkdir()
    for number in range(7):
        texture = np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((4, 4, 1))).astype(np.uint8)
        with VideoWriter(tmp_path / "films" / f"{number}.mp4", 25) as writer:
            for t in range(9):
                writer.write(np.roll(texture, 3 * t, axis=1))
    rows = [f"{number}.mp4,film {number}\n" for number in range(7)]
    (tmp_path / "list.tsv").write_text(
        "".join(["path,caption\n", *rows, rows[0], ",none\n", "8.mp4,gone\n"]).replace(",", "\t")
    )
    alone, together = tmp_path / "alone", tmp_path / "together"
    options = ("--path", "films/{path}", *OPTIONS)
    assert not build(monkeypatch, "list", tmp_path / "list.tsv", alone, *options)
    told = capsys.readouterr()
    assert "dropped from the list: 1 x listed before" in told.out and "unreadable: films/8.mp4" in told.err
    for part in ("2/3", "1/3", "0/3"):
        assert not build(monkeypatch, "list", tmp_path / "list.tsv", together, *options, "--host", part)
    assert contents(together) == contents(alone) and len(list(alone.glob("*.array_record"))) == 3
    folder = RecordFolder(alone, "train")
    sources = [folder[index].facts["source"] for index in range(len(folder))]
    captions = {folder[index].facts["caption"] for index in range(len(folder))}
    assert captions == {f"film {number}" for number in range(7)} and sources != sorted(sources)
    assert not build(monkeypatch, "list", tmp_path / "list.tsv", tmp_path / "silent", *options, "--caption", "")
    assert RecordFolder(tmp_path / "silent", "train")[0].facts["caption"] == ""


@pytest.mark.parametrize("count, shards", [(0, 0), (1, 1), (5, 5), (33, 32), (2048, 32), (2049, 33), (10**5, 1563)])
def test_shards_are_neither_large_nor_few(count, shards):
    assert jobs.pieces(count) == shards


def test_the_share_held_out_depends_on_names_alone():
    films = [build_records.Film(f"film {i}", None) for i in range(300)]
    splits = build_records.split_films(films, 0.2)
    assert 30 < len(splits["validation"]) < 90
    again = build_records.split_films(films[::-2], 0.2)
    assert all(film in splits[split] for split, members in again.items() for film in members)


@pytest.mark.parametrize("count", [2, 3, 4, 10])
@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.999])
def test_a_split_that_is_asked_for_has_a_film_however_few_there_are(count, share):
    films = [build_records.Film(f"film {i}", None) for i in range(count)]
    splits = build_records.split_films(films, share)
    assert set(splits) == {"train", "validation"} and sum(map(len, splits.values())) == count
    assert build_records.split_films(films, 0.0) == {"train": films}


def test_a_split_that_cannot_be_is_refused(clips, tmp_path, monkeypatch, capsys):
    with pytest.raises(UserError, match="single film"):
        build_records.split_films([build_records.Film("a", None)], 0.02)
    assert build(monkeypatch, "arrays", clips, tmp_path / "out", *OPTIONS, "--validation", "0.1") == 2
    assert "splits of its own" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "option",
    ["--validation=1", "--validation=nan", "--quality=101", "--motion=inf", "--size=0x5", "--least=300", "--fact=x"],
)
def test_options_that_cannot_be_meant_are_refused(option, monkeypatch, tmp_path):
    assert build(monkeypatch, "videos", tmp_path, tmp_path / "out", "--size=8x8", option) == 2


@pytest.mark.parametrize(
    "kind, option", [("videos", "--resolution=480p"), ("davis", "--caption="), ("tfds", "--path=")]
)
def test_options_of_other_sources_are_refused(kind, option, monkeypatch, tmp_path, capsys):
    assert build(monkeypatch, kind, tmp_path, tmp_path / "out", "--size=8x8", option) == 2
    assert f"{option.partition('=')[0]} is of " in capsys.readouterr().err
