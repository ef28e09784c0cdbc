"""The list is read as it was made, and a shard of it by itself."""

from bench_lists import measured, read, shard, write_list


def test_rows_of_no_use_are_dropped_and_a_shard_is_read_alone(tmp_path):
    write_list(tmp_path / "list.csv", 1000)
    noted, seconds, grown = measured(lambda: read(tmp_path / "list.csv", tmp_path / "index"))
    assert noted["dropped"] == {"without a path": 5, "listed before": 5} and sum(noted["films"].values()) == 990
    assert seconds > 0 and grown >= 0
    assert 60 <= shard(tmp_path / "list.csv", tmp_path / "index") <= 64
