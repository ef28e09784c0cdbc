"""LPIPS against the published number and against the original implementation."""

import jax
import numpy as np
import pytest
import torch
from flax import nnx

from gp_jax.bench.torch_metrics import to_torch, torch_lpips
from gp_jax.metrics import METRICS, lpips, lpips_map
from gp_jax.metrics.perceptual import LPIPS, load_lpips, lpips_distance
from tests.products import PLATFORMS, imprecise

pytestmark = pytest.mark.usefixtures("weights")


def test_black_against_white_is_the_published_number():
    black = np.full((1, 1, 64, 64, 3), -1, np.float32)
    np.testing.assert_allclose(lpips(black, -black), 0.8139544, rtol=1e-5)
    np.testing.assert_allclose(lpips_map(black[0], -black[0]).mean(), 0.8140429, rtol=1e-5)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_it_is_the_original(net):
    a, b = np.random.default_rng(0).uniform(-1, 1, (2, 1, 2, 45, 51, 3)).astype(np.float32)
    with torch.no_grad():
        expected = torch_lpips(net)(*(to_torch(x[0]) for x in (a, b)))
    metric = METRICS["lpips" if net == "alex" else "lpips-vgg"]
    np.testing.assert_allclose(metric.frames(a, b).values[0], expected.reshape(-1), rtol=1e-5)


def test_as_a_loss_it_is_the_metric_and_leads_to_the_truth():
    a, b = np.random.default_rng(1).uniform(-1, 1, (2, 2, 40, 40, 3)).astype(np.float32)
    load_lpips.cache_clear()  # it is loaded while something is traced, and used outside
    value, gradient = jax.jit(jax.value_and_grad(lambda b: lpips_distance(a, b).mean()))(b)
    np.testing.assert_allclose(value, lpips(a[None], b[None]), rtol=1e-5)
    assert lpips_distance(a, b - 50 * gradient).mean() < value


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_every_product_has_full_precision(net, platform):
    frames = np.zeros((1, 40, 40, 3), np.float32)
    assert not imprecise(lambda x: LPIPS(net, rngs=nnx.Rngs(0))(x, x), frames, platform=platform)
    assert not imprecise(lambda x: lpips_map(x, x, net), frames, platform=platform)


def test_the_map_shows_where_frames_differ():
    a = np.zeros((1, 64, 64, 3), np.float32)
    b = a.copy()
    b[:, 40:, :24] = 1
    distances = np.asarray(lpips_map(a, b))[0]
    assert distances.shape == (64, 64)
    assert distances[44:, :20].mean() > 2 * distances[:24, 40:].mean()
