"""Laws that every metric obeys: parts make the whole, meshes and masks change nothing that they should not."""

import os
import subprocess
import sys

import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.metrics import METRICS, frechet
from gp_jax.parallel import make_mesh, use_mesh
from tests.metrics.stand_ins import Pool

NAMES = [name for name in METRICS if name not in ("lpips-vgg", "fvd-stylegan-v")]  # as lpips, as fvd
TOLERANCE = {"fvd": 1e-5}
SIDES = np.ones((36, 44), np.float32)
SIDES[:, 14:30] = 0


@pytest.fixture(autouse=True)
def small_networks(weights, monkeypatch):
    monkeypatch.setattr(frechet, "load_i3d", Pool)


def videos(clips, name):
    """Clips that are long enough for this metric, and how closely its numbers must agree."""
    repeats = -(-METRICS[name].min_frames // clips[0].shape[1])
    return *(np.tile(video, (1, repeats, 1, 1, 1)) for video in clips), TOLERANCE.get(METRICS[name].name, 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_parts_make_the_whole(clips, name):
    metric, (a, b, tolerance) = METRICS[name], videos(clips, name)
    whole = metric(a, b, SIDES)
    first, second = metric.state(a[:2], b[:2], SIDES), metric.state(a[2:], b[2:], SIDES)
    assert np.isfinite(whole)
    for state in (metric.merge(first, second), metric.merge(second, first)):
        np.testing.assert_allclose(metric.compute(state), whole, rtol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_a_mesh_changes_nothing(clips, name):
    metric, (a, b, tolerance) = METRICS[name], videos(clips, name)
    with use_mesh(make_mesh("data=4,context=2")):
        spread = metric(a, b, SIDES)
    np.testing.assert_allclose(spread, metric(a, b, SIDES), rtol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_a_full_mask_is_no_mask(clips, name):
    metric, (a, b, tolerance) = METRICS[name], videos(clips, name)
    full = np.ones((36, 44), np.float32)
    np.testing.assert_allclose(metric(a, b, full), metric(a, b), rtol=tolerance)  # NaN for the seam


@pytest.mark.parametrize("name", NAMES)
def test_pixels_outside_the_mask_have_no_influence(clips, name):
    metric, (a, b, _) = METRICS[name], videos(clips, name)
    other_a, other_b = a.copy(), b.copy()
    # The seam looks at two observed pixels on its other side, and the warping error follows the reference's motion.
    inside = slice(16, 28) if name == "seam" else slice(14, 30)
    other_b[:, :, :, inside] = 255 - b[:, :, ::-1, inside]
    if name != "warping-error":
        other_a[:, :, :, inside] = 77
    assert metric(other_a, other_b, SIDES) == metric(a, b, SIDES)
    assert metric(other_a, other_b) != metric(a, b) or name == "seam"


@pytest.mark.parametrize("name", NAMES)
def test_equal_videos_have_the_best_value(clips, name):
    metric, (a, b, _) = METRICS[name], videos(clips, name)
    best = {"psnr": 100, "psnr-clip": 100, "ssim": 1}.get(name, 0)
    if name == "warping-error":  # a true video has one too
        assert metric(a, a, SIDES) < metric(a, b, SIDES)
    else:
        np.testing.assert_allclose(metric(a, a, SIDES), best, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_region_measures_nothing(clips, name):
    metric, (a, b, _) = METRICS[name], videos(clips, name)
    nowhere = np.zeros((36, 44), np.float32)
    if metric.name == "fvd":  # which would see two sets of equal grey clips
        with pytest.raises(UserError, match="leaves nothing to measure"):
            metric(a, b, nowhere)
    else:
        assert np.isnan(metric(a, b, nowhere))


PROCESS = """
import functools, importlib.util, sys
import jax
jax.distributed.initialize("127.0.0.1:{port}", num_processes=2, process_id=int(sys.argv[1]))
import numpy as np
from gp_jax.metrics import METRICS, frechet, gather
spec = importlib.util.spec_from_file_location("laws", "{file}")
laws = importlib.util.module_from_spec(spec)
spec.loader.exec_module(laws)
frechet.load_i3d = laws.Pool
sides = np.load("{clips}")
for name in laws.NAMES:
    metric, (*videos, tolerance) = METRICS[name], laws.videos(sides, name)
    states = [metric.state(*(video[i : i + 1] for video in videos), laws.SIDES) for i in range(3)]
    mine = states[:1] if sys.argv[1] == "0" else states[1:]
    together = metric.compute(gather(metric, functools.reduce(metric.merge, mine)))
    alone = metric.compute(functools.reduce(metric.merge, states))
    assert np.isfinite(alone) and np.isclose(together, alone, rtol=tolerance), (name, together, alone)
"""


def test_two_processes_equal_one(clips, tmp_path):
    import portpicker

    script = tmp_path / "process.py"
    np.save(tmp_path / "clips.npy", clips)
    port = portpicker.pick_unused_port()
    script.write_text(PROCESS.format(port=port, file=__file__, clips=tmp_path / "clips.npy"))
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": ":".join(sys.path)}
    processes = [
        subprocess.Popen([sys.executable, script, str(i)], stderr=subprocess.PIPE, env=environment) for i in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()
