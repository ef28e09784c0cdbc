"""The benchmark runs, and both sides compute the same."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.mark.slow
def test_it_prints_a_ratio_for_each_metric():
    subprocess.run([sys.executable, TOOLS / "fetch_metric_weights.py"], check=True)
    command = [sys.executable, TOOLS / "bench_metrics.py", "--clips", "2", "--frames", "10", "--repeats", "1"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["FVD,", "I3D,", "LPIPS", "LPIPS", "Frechet"]
    assert all(float(line.split()[-1]) < 1e-3 and float(line.split()[-2]) > 0 for line in lines[2:])
