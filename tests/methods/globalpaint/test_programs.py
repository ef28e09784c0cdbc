"""Both networks listen to every frame, to the global tokens and to the seed; known frames are taken as they are."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gp_jax.geometry import Canvas, latent_mask
from gp_jax.methods.globalpaint.programs import Sampling, make_segments
from gp_jax.methods.latents import encode, mask_of_latents
from gp_jax.methods.placement import Placement
from gp_jax.models.autoencoder import AutoencoderConfig, AutoencoderKL
from tests import small_networks

# That of test_end_to_end.py, so that its program is compiled once for both.
CANVAS = Canvas.from_aspect(21, 27, aspect=2.0, anchor="left")
NATIVE = CANVAS.native(small_networks.SETTINGS.native_area)
LATENTS = NATIVE.height // 8, NATIVE.width // 8
PLACE = Placement.of(CANVAS, NATIVE, 8)
SAMPLING = Sampling.of(small_networks.SCHEDULE, "ddim", 2, 1.0, 1.0, text=False, tokens=True)
RNG = np.random.default_rng(0)
PIXELS = RNG.uniform(-1, 1, (1, 4, NATIVE.height, NATIVE.width, 3)).astype(np.float32)
COMPLETED = RNG.normal(size=(1, 4, *LATENTS, 4)).astype(np.float32)
TOKENS = RNG.normal(size=(1, 3, small_networks.WIDTH)).astype(np.float32)
NOBODY = np.zeros((1, 4), np.float32)
NULL_TEXT = np.zeros((1, 1, small_networks.WIDTH), np.float32)


@pytest.fixture(scope="module")
def vae():
    return small_networks.build("vae")


@pytest.fixture(scope="module", params=["unet", "interpolation_unet"])
def make(request, vae):
    return functools.partial(segment, small_networks.build(request.param), vae)


def segment(unet, vae, pixels=PIXELS, completed=COMPLETED, held=NOBODY, tokens=TOKENS, seed=0):
    """The latents of one segment."""
    return np.asarray(
        make_segments(
            unet,
            vae,
            jax.random.key(seed),
            np.array([[3, 5, 8, 9]]),
            pixels,
            completed,
            held,
            None,
            NULL_TEXT,
            tokens,
            PLACE,
            SAMPLING,
            shared_noise=small_networks.SCHEDULE.shared_noise,
        )
    )


def changed(a, b):
    """Which frames differ."""
    return np.abs(a - b).max(axis=(0, 2, 3, 4)) > 1e-5


@pytest.mark.parametrize("index", range(4))
def test_an_observed_pixel_changes_all_frames(make, index):
    pixels = PIXELS.copy()
    pixels[0, index, 11, 13] *= -1
    assert changed(make(pixels), make()).all()


def test_a_boundary_frame_changes_all_frames_by_its_latents_alone(make):
    boundary = np.float32([[1, 0, 0, 1]])
    before = make(held=boundary)
    pixels, completed = PIXELS.copy(), COMPLETED.copy()
    pixels[0, 0] *= -1
    completed[0, 1] *= -1
    np.testing.assert_array_equal(make(pixels, completed, boundary), before)
    completed[0, 0, -1, -1] *= -1
    assert changed(make(completed=completed, held=boundary), before)[:3].all(), "the last one is held"


def test_a_share_of_completed_frames_stays(make):
    free, held = make(), make(held=np.float32([[1, 0.75, 0.25, 0]]))
    np.testing.assert_allclose(held[:, 0], COMPLETED[:, 0], atol=1e-5)
    distance = np.abs(held - COMPLETED).mean(axis=(0, 2, 3, 4)) / np.abs(free - COMPLETED).mean(axis=(0, 2, 3, 4))
    assert distance[0] < distance[1] < distance[2] < distance[3]


def test_global_tokens_and_seed_change_all_frames(make):
    assert changed(make(tokens=-TOKENS), make()).all()
    assert changed(make(seed=1), make()).all()


def test_the_result_is_finite(make):
    assert jnp.isfinite(make()).all()


def test_linear_latents_are_exact_where_they_were_observed():
    config = AutoencoderConfig(
        block_out_channels=(8,), layers_per_block=1, norm_num_groups=4, patch_size=8, linear_latents=True
    )
    vae = AutoencoderKL(config, rngs=nnx.Rngs(0))
    made = segment(small_networks.build("unet"), vae)
    exact = np.abs(made - encode(vae, PIXELS)).max(axis=(0, 1, 4)) < 1e-5
    np.testing.assert_array_equal(exact, latent_mask(NATIVE, 8) == 0)


def test_what_a_frame_says_of_itself_goes_before_the_place_of_the_source(make):
    seen = np.broadcast_to(1 - PLACE.pixel_mask[..., None], (*PIXELS.shape[:4], 1))
    np.testing.assert_array_equal(mask_of_latents(PLACE.pixel_mask, 8), PLACE.latent_mask)
    told = np.concatenate([PIXELS, seen], axis=-1)
    np.testing.assert_allclose(make(told), make(), atol=1e-5)
    told[0, 2, ..., 3] = 1
    assert changed(make(told), make()).all()


def test_a_warm_loop_compiles_nothing_and_asks_the_host_for_nothing(vae, caplog):
    """All steps of a segment are one program: its inputs go there once."""
    given = (
        small_networks.build("unet"),
        vae,
        jax.random.key(0),
        np.array([[3, 5, 8, 9]], np.int32),
        PIXELS,
        COMPLETED,
    )
    given = jax.device_put((*given, NOBODY, None, NULL_TEXT, TOKENS, PLACE, SAMPLING))
    call = functools.partial(make_segments, *given, shared_noise=small_networks.SCHEDULE.shared_noise)
    jax.block_until_ready(call())
    with jax.log_compiles(), caplog.at_level(logging.WARNING), jax.transfer_guard("disallow"):
        jax.block_until_ready([call() for _ in range(2)])
    assert not [record.message for record in caplog.records if "Compiling" in record.message]
