"""Laws that every metric obeys: parts make the whole, meshes and masks change nothing that they should not."""

import subprocess
import sys

import numpy as np
import pytest
from flax import nnx

from gp_jax.metrics import METRICS, frechet
from gp_jax.parallel import make_mesh, use_mesh

NAMES = [name for name in METRICS if name not in ("lpips-vgg", "fvd-stylegan-v")]  # as lpips, as fvd
TOLERANCE = {"fvd": 1e-5}


class Pool(nnx.Module):
    """Stands in for I3D: colours of a 4 x 4 grid, and their change over time."""

    def __call__(self, video):
        cells = video.reshape(*video.shape[:2], 4, 56, 4, 56, 3).mean(axis=(3, 5))
        moving = abs(cells[:, 1:] - cells[:, :-1]).mean(axis=1)
        return np.float32(5) * (cells.mean(axis=1) + moving).reshape(len(video), -1)


@pytest.fixture(autouse=True)
def small_networks(weights, monkeypatch):
    monkeypatch.setattr(frechet, "load_i3d", Pool)


def videos(clips, name):
    """Clips that are long enough for this metric, and how closely its numbers must agree."""
    repeats = -(-METRICS[name].min_frames // clips[0].shape[1])
    return *(np.tile(video, (1, repeats, 1, 1, 1)) for video in clips), TOLERANCE.get(METRICS[name].name, 1e-6)


@pytest.fixture(scope="module")
def sides():
    mask = np.ones((36, 44), np.float32)
    mask[:, 14:30] = 0
    return mask


@pytest.mark.parametrize("name", NAMES)
def test_parts_make_the_whole(clips, sides, name):
    metric, (a, b, tolerance) = METRICS[name], videos(clips, name)
    whole = metric(a, b, sides)
    first, second = metric.state(a[:2], b[:2], sides), metric.state(a[2:], b[2:], sides)
    assert np.isfinite(whole)
    for state in (metric.merge(first, second), metric.merge(second, first)):
        np.testing.assert_allclose(metric.compute(state), whole, rtol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_a_mesh_changes_nothing(clips, sides, name):
    metric, (a, b, tolerance) = METRICS[name], videos(clips, name)
    with use_mesh(make_mesh("data=4,context=2")):
        spread = metric(a, b, sides)
    np.testing.assert_allclose(spread, metric(a, b, sides), rtol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_a_full_mask_is_no_mask(clips, name):
    metric, (a, b, tolerance) = METRICS[name], videos(clips, name)
    full = np.ones((36, 44), np.float32)
    np.testing.assert_allclose(metric(a, b, full), metric(a, b), rtol=tolerance)  # NaN for the seam


@pytest.mark.parametrize("name", NAMES)
def test_pixels_outside_the_mask_have_no_influence(clips, sides, name):
    metric, (a, b, _) = METRICS[name], videos(clips, name)
    other_a, other_b = a.copy(), b.copy()
    # The seam looks at two observed pixels on its other side, and the warping error follows the reference's motion.
    inside = slice(16, 28) if name == "seam" else slice(14, 30)
    other_b[:, :, :, inside] = 255 - b[:, :, ::-1, inside]
    if name != "warping-error":
        other_a[:, :, :, inside] = 77
    assert metric(other_a, other_b, sides) == metric(a, b, sides)
    assert metric(other_a, other_b) != metric(a, b) or name == "seam"


@pytest.mark.parametrize("name", NAMES)
def test_equal_videos_have_the_best_value(clips, sides, name):
    metric, (a, b, _) = METRICS[name], videos(clips, name)
    best = {"psnr": 100, "psnr-clip": 100, "ssim": 1}.get(name, 0)
    if name == "warping-error":  # a true video has one too
        assert metric(a, a, sides) < metric(a, b, sides)
    else:
        np.testing.assert_allclose(metric(a, a, sides), best, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_region_measures_nothing(clips, name):
    metric, (a, b, _) = METRICS[name], videos(clips, name)
    if metric.name != "fvd":  # which sees two sets of equal grey clips
        assert np.isnan(metric(a, b, np.zeros((36, 44), np.float32)))


PROCESS = """
import sys
import jax
import numpy as np
jax.distributed.initialize("127.0.0.1:{port}", num_processes=2, process_id=int(sys.argv[1]))
from gp_jax.metrics import fvd, gather, psnr
from gp_jax.metrics.frechet import FrechetState, feature_moments
rng = np.random.default_rng(0)
features = rng.normal(size=(2, 7, 5)).astype(np.float32)
videos = rng.integers(0, 256, (2, 7, 1, 9, 9, 3), np.uint8)
def values(part):
    state = FrechetState(*(feature_moments(x[part]) for x in features))
    return psnr.state(*(x[part] for x in videos)), state
mine = values(slice(3) if sys.argv[1] == "0" else slice(3, 7))
for metric, part, whole in zip((psnr, fvd), mine, values(slice(7))):
    together, alone = metric.compute(gather(metric, part)), metric.compute(whole)
    assert np.isclose(together, alone, rtol=1e-6), (metric.name, together, alone)
"""


def test_two_processes_equal_one(tmp_path):
    import portpicker

    script = tmp_path / "process.py"
    script.write_text(PROCESS.format(port=portpicker.pick_unused_port()))
    environment = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": ":".join(sys.path)}
    processes = [
        subprocess.Popen([sys.executable, script, str(i)], stderr=subprocess.PIPE, env=environment) for i in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()
