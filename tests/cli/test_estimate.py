"""What `gp-jax outpaint` says beforehand is what it takes, as far as a machine that others use too lets it be known."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from gp_jax.video import VideoWriter

# Of seconds in a first run, of which nothing is known, and in the ones after it; and of bytes.
FIRST, LATER, MEMORY = 5.0, 2.0, 1.5


@pytest.mark.slow
def test_the_estimate_comes_true(tmp_path):
    rng = np.random.default_rng(0)
    with VideoWriter(tmp_path / "clip.mp4", 25) as writer:
        for _ in range(100):
            writer.write(np.kron(rng.integers(0, 256, (9, 16, 3), np.uint8), np.ones((40, 40, 1), np.uint8)))
    for run, factor in enumerate((FIRST, LATER, LATER)):
        command = ["outpaint", str(tmp_path / "clip.mp4"), str(tmp_path / f"{run}.mp4"), "--pad", "80,80,0,0"]
        done = subprocess.run(
            [sys.executable, "-m", "gp_jax", *command],
            env=os.environ | {"GP_JAX_CACHE": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=True,
        )
        said = re.search(r"about (?:(\d+) min )?(\d+) s, (\d+) network evaluations, ([\d.]+) GB", done.stderr)
        took = re.search(r"([\d.]+) s \([\d.]+ frames/s\), ([\d.]+) GB", done.stdout)
        seconds = 60 * int(said[1] or 0) + int(said[2])
        print(said[0], "|", took[0])
        assert 1 / factor < seconds / float(took[1]) < factor, (said[0], took[0])
        assert 1 / MEMORY < float(said[4]) / float(took[2]) < MEMORY, (said[0], took[0])
