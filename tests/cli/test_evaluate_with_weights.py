"""Three clips, two models of random weights and two classical methods, measured by the published weights.

What the models make is noise, and their numbers mean nothing, which the report says; the path is what counts.
"""

import numpy as np
import pytest

from gp_jax.cli.main import main
from gp_jax.evaluation.protocols import PROTOCOLS, Protocol
from gp_jax.evaluation.results import Results
from gp_jax.geometry import Canvas
from gp_jax.video import VideoWriter
from tests import small_m3ddm, small_networks

METHODS = ("globalpaint", "m3ddm", "edge", "telea")
SIDE, FRAMES = 48, 16  # the least that FVD takes
NOTE = "globalpaint and m3ddm have random weights: their numbers mean nothing"


def write_clips(folder):
    rng = np.random.default_rng(0)
    folder.mkdir()
    for name in ("pond", "reed", "heron"):
        texture = rng.integers(0, 256, (6, 12, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        with VideoWriter(folder / name, 24) as writer:
            for frame in range(FRAMES):
                writer.write(np.ascontiguousarray(texture[:, frame : frame + SIDE]))
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("weights")
def test_models_stand_beside_classical_methods_by_lpips_and_fvd(tmp_path, capsys, monkeypatch):
    protocol = Protocol(SIDE, SIDE, {"0.25": Canvas(SIDE, SIDE, 0, 12, SIDE, 24)}, ("psnr", "lpips", "fvd"))
    monkeypatch.setitem(PROTOCOLS, "three", protocol)
    data, output = write_clips(tmp_path / "clips"), tmp_path / "out"
    globalpaint = small_networks.write(tmp_path / "g" / "globalpaint", feature_frames=4)
    m3ddm = small_m3ddm.write(tmp_path / "m" / "m3ddm", native_area=1024, steps=3, global_frames=4)
    methods = f"globalpaint:{globalpaint},m3ddm:{m3ddm},edge,telea"
    arguments = ["--dataset", "folder", "--data", str(data), "--output", str(output), "--method", methods]
    assert main(["evaluate", "--protocol", "three", *arguments, "--note", NOTE]) == 0, capsys.readouterr().err

    values = {
        (score.method, score.metric): score.value for score in Results(output).scores() if score.region == "whole"
    }
    assert set(values) == {(method, metric) for method in METHODS for metric in protocol.metrics}
    assert all(np.isfinite(value) and value > 0 for value in values.values())
    assert NOTE in " ".join(capsys.readouterr().out.split())
    for name in ("report.html", "summary.md"):
        assert NOTE in (output / name).read_text()
