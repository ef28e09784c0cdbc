"""Every kernel that this device has gets a column of ratios to the einsum."""

import sys

import bench_attention
import pytest


@pytest.mark.parametrize("extra", [[], ["--bias"]])
def test_rows_are_shapes_and_columns_kernels(extra, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_attention.py", "--shapes", "3x8x2x4,2x16x2x4", "--repeats", "1", *extra])
    bench_attention.main()
    head, names, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("cpu, float32") and names.split() == ["einsum", "xla", "blocks"]
    assert [row.split(" tokens")[0] for row in rows] == ["3 x 8", "2 x 16"]
    assert all(len(row.split("/")) == 3 for row in rows)
