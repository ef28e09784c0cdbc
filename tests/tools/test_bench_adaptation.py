"""Parameters, memory of a step for each policy, and its time."""

import sys

import bench_adaptation
import pytest

from gp_jax.checkpoint.components import read_configs
from tests import small_motia


@pytest.mark.slow  # compiles the step twice
def test_a_line_for_each_number(monkeypatch, capsys, tmp_path):
    configs = read_configs(small_motia.write(tmp_path / "ours"))
    monkeypatch.setitem(bench_adaptation.KNOWN, "motia", configs)
    options = ["--size", "32x32", "--frames", "2", "--remat", "none,all", "--steps", "1"]
    monkeypatch.setattr(sys, "argv", ["bench_adaptation.py", *options])
    bench_adaptation.main()
    lines = capsys.readouterr().out.splitlines()
    starts = ["unet", "controlnet", "vae", "text", "LoRA", *["remat none"] * 3, *["remat all"] * 3]
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True))
