"""Every kernel that this device has gets a column of ratios to the einsum."""

import sys

import bench_attention


def test_rows_are_shapes_and_columns_kernels(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_attention.py", "--tokens", "8,16", "--heads", "2x4", "--repeats", "1"])
    bench_attention.main()
    head, names, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("cpu, float32") and names.split() == ["einsum", "xla", "blocks"]
    assert [row.split(" tokens")[0] for row in rows] == ["256 x 8", "128 x 16"]
    assert all(len(row.split("/")) == 3 for row in rows)
