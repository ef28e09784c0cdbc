"""Every shape gets a row: XLA's time, the ratios of the other ways, and which is taken."""

import sys

import bench_attention
import bench_convolution
import pytest


def test_rows_are_shapes_and_one_way_of_each_is_taken(monkeypatch, capsys):
    shapes = "1x4x4x640x640,1x8x9x128x128,2x4x4x8x8"
    monkeypatch.setattr(sys, "argv", ["bench_convolution.py", "--shapes", shapes, "--repeats", "1"])
    bench_convolution.main()
    head, names, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("cpu, float32") and names.split()[2:] == ["xla", "columns", "winograd"]
    taken = [[i for i, number in enumerate(row.split()[-3:]) if number.endswith("*")] for row in rows]
    assert taken == [[1], [2], [0]]


@pytest.mark.parametrize("tool", [bench_convolution, bench_attention])
@pytest.mark.parametrize("shapes", ["1x4x4", "1xax4x8x8", "1x4x4x8x8,1x4", "", "0x4x4x8"])
def test_shapes_that_are_none_are_a_sentence(tool, shapes, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench.py", "--shapes", shapes])
    with pytest.raises(SystemExit) as end:
        tool.main()
    assert end.value.code == 2 and "--shapes" in capsys.readouterr().err
