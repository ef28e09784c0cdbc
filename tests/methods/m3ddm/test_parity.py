"""A window of M3DDM, from its conditions to its latents, is what a second account of it in torch makes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from gp_jax.checkpoint import parameters
from gp_jax.convert.m3ddm import RULES
from gp_jax.convert.rules import to_ours
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.geometry import Canvas
from gp_jax.methods.m3ddm import programs
from gp_jax.methods.placement import Placement, to_float
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.models.m3ddm.network import M3DDM
from tests import small_m3ddm
from tests.models.m3ddm.reference import Reference, trajectory
from tests.small_networks import random_weights

RNG = np.random.default_rng(0)
LENGTH, SIDE = 5, 32
PLACE = Placement.of(Canvas(SIDE, SIDE, 8, 4, 20, 16), Canvas(SIDE, SIDE, 8, 4, 20, 16), 4)
SCHEDULE = NoiseSchedule.from_config(small_m3ddm.SCHEDULER)
CONFIG = small_m3ddm.NETWORK


@pytest.fixture(scope="module")
def state():
    return {name: x.astype(np.float32) for name, x in small_m3ddm.state().items()}


@pytest.fixture(scope="module")
def reference(state):
    return Reference({k: torch.tensor(x) for k, x in state.items()}, CONFIG.attention_head_dim, CONFIG.norm_num_groups)


@pytest.fixture(scope="module")
def network(state):
    module = parameters.abstract(M3DDM, CONFIG)
    parameters.load_into(module, to_ours(RULES, state, list(parameters.shapes(M3DDM, CONFIG))))
    return module


@pytest.fixture(scope="module")
def vae():
    module = parameters.abstract(AutoencoderKL, small_m3ddm.VAE)
    parameters.load_into(module, random_weights(parameters.flatten(module), seed=3))
    return module


def theirs(x):
    """[..., h, w, C] to torch: of videos the channels before the frames."""
    return torch.tensor(np.moveaxis(np.asarray(x), -1, 1).copy())


def test_three_branches_of_the_network(network, reference):
    sample = RNG.normal(size=(3, LENGTH, 8, 8, 9)).astype(np.float32)
    latents = (
        RNG.normal(size=(3, 2, 8, 8, 4)).astype(np.float32) * np.array([0, 0, 1], np.float32)[:, None, None, None, None]
    )
    steps, rates = np.full(3, 961), np.full(3, 29.97, np.float32)
    made = jax.jit(lambda net, x, g: (net(x, steps, rates, net.encode_global(g)), net.encode_global(g)))(
        network, sample, latents
    )
    with torch.no_grad():
        tokens = reference.encode_global(torch.tensor(np.moveaxis(latents, -1, 2).copy()))
        expected = reference.unet(theirs(sample), torch.tensor(steps).float(), torch.tensor(rates), tokens)
    np.testing.assert_allclose(made[1], tokens.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.moveaxis(made[0], -1, 1), expected.numpy(), atol=1e-5)


@pytest.mark.slow  # half a minute
@torch.no_grad()
def test_a_whole_trajectory(network, reference, vae):
    """Two of the frames are known; the frame rate is cut off; published weights of guidance."""
    key, times = jax.random.key(5), np.arange(LENGTH)[None] * 15
    pixels = RNG.uniform(-1, 1, (1, LENGTH, SIDE, SIDE, 3)).astype(np.float32)
    whole = RNG.integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    known = np.array([[True, False, False, True, False]])
    completed = RNG.normal(size=(1, LENGTH, 8, 8, 4)).astype(np.float32)
    tokens = programs.read_clip(network, vae, key, np.arange(3), whole)
    made = programs.make_windows(
        *(network, vae, key, times, pixels, completed, known, np.float32(1.6), tokens, PLACE),
        np.float32([2, 4]),
        schedule=SCHEDULE,
        steps=50,
    )

    def encoded(purpose, pixels, times=times):
        return theirs(programs.sampled_latents(vae, jax.random.fold_in(key, purpose), times, jnp.asarray(pixels)))

    unknown = PLACE.pixel_mask[..., None] == 1
    initial, seen = encoded(programs._INITIAL, pixels), encoded(programs._MASKED, np.where(unknown, -1, pixels))
    black = encoded(programs._MASKED, np.full((1, 1, SIDE, SIDE, 3), -1.0), times[:, :1]).expand_as(seen)
    is_known, complete = torch.tensor(known)[:, None, :, None, None], theirs(completed)
    mask = torch.tensor(PLACE.latent_mask)[None, None, None].expand(1, 1, LENGTH, 8, 8)
    local = torch.cat([torch.where(is_known, complete, seen), torch.where(is_known, 0, mask)], dim=1)
    nothing = torch.cat(
        [torch.where(is_known, complete, black), torch.where(is_known, 0.0, 1.0).expand_as(mask)], dim=1
    )
    clip = np.asarray(programs.sampled_latents(vae, jax.random.fold_in(key, programs._GLOBAL), np.arange(3)[None],
                                               to_float(whole)[None]))  # fmt: skip
    clip = torch.tensor(np.moveaxis(clip, -1, 2).copy())
    none, of_clip = reference.encode_global(torch.zeros_like(clip)), reference.encode_global(clip)

    def denoise(x, t):
        def predict(condition, tokens):
            sample = torch.cat([x.float(), condition], dim=1)
            return reference.unet(sample, torch.tensor([float(t)]), torch.tensor([1.6]), tokens).double()

        e1, e2, e4 = predict(nothing, none), predict(local, none), predict(local, of_clip)
        return e1 + 2 * (e2 - e1) + 4 * (e4 - e2)

    alphas = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    noise = theirs(jax.random.normal(jax.random.fold_in(key, programs._NOISE), completed.shape[1:])[None])
    start = alphas[961] ** 0.5 * initial + (1 - alphas[961]) ** 0.5 * noise
    expected = trajectory(denoise, start.double(), alphas).numpy()
    np.testing.assert_allclose(np.moveaxis(made, -1, 1), expected, atol=1e-5 * np.abs(expected).max())
