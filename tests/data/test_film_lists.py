"""Lists of any length: every film that can be used is in one shard, whoever asks for it; the others are counted."""

import csv
import itertools
import pickle

import numpy as np
import pytest

from gp_jax.data.film_lists import _Seen, index_list, shard_of, shuffled
from gp_jax.errors import UserError
from gp_jax.video import VideoWriter


def write(path, rows, delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def listed(tmp_path, count, **options):
    rows = [["path", "caption"], *([f"{i:04d}.mp4", f"film {i}"] for i in range(count))]
    return index_list(write(tmp_path / "list.csv", rows), tmp_path / "index", **options)


def films_of(noted, folder, split, shards):
    return [list(shard_of(noted, folder, split, index, shards)) for index in range(shards)]


def test_a_row_is_a_film_with_its_caption(tmp_path):
    (tmp_path / "videos/00").mkdir(parents=True)
    with VideoWriter(tmp_path / "videos/00/7.mp4", 25) as writer:
        for frame in np.random.default_rng(0).integers(0, 256, (3, 24, 32, 3)).astype(np.uint8):
            writer.write(frame)
    said = 'A "big",\nwide street, größer'
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        file = write(tmp_path / f"list{suffix}", [["videoid", "page_dir", "name"], ["7", "00", said]], delimiter)
        noted = index_list(file, tmp_path / suffix, "videos/{page_dir}/{videoid}.mp4", "{name}")
        [film] = shard_of(noted, tmp_path / suffix, "train", 0, 1)
        assert (film.name, film.caption, len(film.open())) == ("videos/00/7.mp4", said, 3)
        with pytest.raises(UserError, match="no column 'path', only videoid, page_dir, name"):
            index_list(file, tmp_path / "other")


def test_parquet_is_read_in_batches(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"video": [f"{i}.mp4" for i in range(50)], "caption": [None, *map(str, range(1, 50))]})
    parquet.write_table(table, tmp_path / "list.parquet", row_group_size=7)
    noted = index_list(tmp_path / "list.parquet", tmp_path / "index", "{video}")
    films = {film.name: film.caption for film in shard_of(noted, tmp_path / "index", "train", 0, 1)}
    assert films == {"0.mp4": "", **{f"{i}.mp4": str(i) for i in range(1, 50)}}
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match="no whole Parquet file"):
        index_list(tmp_path / "broken.parquet", tmp_path / "index2")


@pytest.mark.parametrize("count", [1, 2, 3, 64, 65, 1000])
def test_shuffling_is_a_permutation_that_moves_neighbours_apart(count):
    order = [shuffled(i, count) for i in range(count)]
    assert sorted(order) == list(range(count))
    if count == 1000:
        assert np.mean(np.abs(np.diff(order))) == pytest.approx(count / 3, rel=0.1)


@pytest.mark.parametrize("shards", [1, 3, 7])
def test_shards_have_every_film_once_from_all_over_the_list(tmp_path, shards):
    noted = listed(tmp_path, 300, validation=0.1)
    parts = {split: films_of(noted, tmp_path / "index", split, shards) for split in ("train", "validation")}
    names = [film.name for films in parts.values() for film in itertools.chain(*films)]
    assert sorted(names) == [f"{i:04d}.mp4" for i in range(300)]
    assert 10 < noted["films"]["validation"] < 60 and noted["films"]["train"] == sum(map(len, parts["train"]))
    numbers = [int(film.name[:4]) for film in parts["train"][0]]
    assert min(numbers) < 30 and max(numbers) > 270 and numbers != sorted(numbers)


def test_a_shard_is_the_same_for_whoever_asks_and_holds_no_list(tmp_path):
    noted = listed(tmp_path, 2000)
    shard = shard_of(noted, tmp_path / "index", "train", 5, 30)
    sent = pickle.dumps(shard)
    assert len(sent) < 500
    again = [(film.name, film.caption) for film in pickle.loads(sent)]
    assert again == [(film.name, film.caption) for film in shard] and len(shard) == len(again) == 67
    assert shard[3].name == again[3][0] and [film.name for film in shard[1:3]] == [name for name, _ in again[1:3]]


def test_what_is_dropped_is_counted_by_its_reason(tmp_path):
    names = ["a.mp4", "/etc/passwd.mp4", "../b.mp4", "a/../../b.mp4", "", "a.mp4", "b.mp4", " ", "b.mp4"]
    file = write(tmp_path / "list.csv", [["path", "caption"], *([name, "x"] for name in names)])
    noted = index_list(file, tmp_path / "index")
    assert noted["films"] == {"train": 2}
    assert noted["dropped"] == {"leads out of the folder of the list": 3, "without a path": 2, "listed before": 2}


def test_a_list_is_read_once_and_anew_where_something_else_is_asked(tmp_path, monkeypatch):
    noted = listed(tmp_path, 20)
    reads = []
    again = index_list(tmp_path / "list.csv", tmp_path / "index", progress=reads.append)
    assert again == noted and not reads
    assert index_list(tmp_path / "list.csv", tmp_path / "index", validation=0.5, progress=reads.append) != noted
    assert reads


def test_a_split_that_is_asked_for_has_a_film_or_is_refused(tmp_path):
    assert listed(tmp_path, 4, validation=0.001)["films"] == {"train": 3, "validation": 1}
    with pytest.raises(UserError, match="fall into the split train"):
        listed(tmp_path, 1, validation=0.001)


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("list.txt", "path,caption\n", "no list that can be read"),
        ("list.csv", "", "it has no rows"),
        ("list.csv", "path,caption\n../a,b\n", "no film that can be used: 1 x leads out"),
        ("list.csv", "path,caption\n\udcff,b\n", "no list in UTF-8"),
        ("none.csv", None, "No such file"),
    ],
)
def test_what_is_no_list_is_one_sentence(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=words):
        index_list(tmp_path / name, tmp_path / "index")
    assert not (tmp_path / "index" / "rows.jsonl").exists()


def test_names_are_remembered_in_a_table_that_grows():
    seen = _Seen()
    assert all(seen.add(str(i)) for i in range(100_000)) and not any(seen.add(str(i)) for i in range(100_000))
