import re
import sys

import bench_drift
import numpy as np
import pytest
from PIL import Image

from tests import small_networks


@pytest.fixture
def clip(tmp_path):
    """A folder of pictures."""
    folder = tmp_path / "clip"
    folder.mkdir()
    for number, frame in enumerate(np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), dtype=np.uint8)):
        Image.fromarray(frame).save(folder / f"{number}.png")
    return folder


@pytest.mark.slow
def test_every_stage_is_a_little_off_in_a_narrow_type(clip, tmp_path, monkeypatch, capsys):
    checkpoint = small_networks.write(tmp_path / "checkpoint")
    options = ["--clip", clip, "--checkpoint", checkpoint, "--steps", 2, "--frames", 6]
    monkeypatch.setattr(sys, "argv", ["bench_drift.py", *map(str, options)])
    bench_drift.main()
    lines = capsys.readouterr().out.splitlines()
    drifts = {match[1]: float(match[2]) for line in lines if (match := re.fullmatch(r"(\w.*\w) +([\d.e-]+)", line))}
    assert drifts.keys() == {"global tokens", "one call", "latents after step 1", "latents after step 2"}
    assert all(0 < drift < 0.2 for drift in drifts.values())
    assert lines[-1].startswith("frames") and lines[-1].endswith("dB")
