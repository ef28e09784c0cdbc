"""Conditions stand where the source stands, and tell nothing of what is unknown."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gp_jax.geometry import Canvas, latent_mask, patch_positions, pixel_mask
from gp_jax.methods.globalpaint.conditioning import (
    FILLS,
    clip_tokens,
    inpainting_condition,
    observed_views,
)
from gp_jax.methods.latents import encode
from gp_jax.models.clip import preprocess
from tests import small_networks

NATIVE = Canvas(24, 32, 3, 9, 19, 15)
MASKS = pixel_mask(NATIVE)[None, None], latent_mask(NATIVE, 8)[None, None]


@jax.jit
def conditions(networks, pixels, known, completed):
    """All that the UNet is told of a clip; every frame is also a frame for the global tokens."""
    views = observed_views(pixels, MASKS[0][0, 0], small_networks.VISION.image_size)
    times = jnp.linspace(0, 1, len(pixels))[None]
    tokens = clip_tokens(
        networks["clip"],
        networks["global_tokens"],
        views[None],
        patch_positions(NATIVE, 2),
        times,
        jnp.ones_like(times, bool),
    )
    mask, masked = inpainting_condition(networks["vae"], pixels[None], *MASKS, known, completed)
    return mask, masked, views, tokens


@pytest.fixture(scope="module")
def networks():
    return {name: small_networks.build(name) for name in ("vae", "clip", "global_tokens")}


def test_unknown_pixels_change_nothing(networks):
    rng = np.random.default_rng(0)
    pixels = rng.uniform(-1, 1, (3, 24, 32, 3)).astype(np.float32)
    known, completed = np.array([[False, True, False]]), np.ones((1, 3, 3, 4, 4), np.float32)
    before = conditions(networks, pixels, known, completed)
    changed = np.where(MASKS[0][0, 0, :, :, None] == 1, np.nan, pixels)
    for a, b in zip(before, conditions(networks, changed, known, completed)):
        np.testing.assert_array_equal(a, b)
    seen = pixels.copy()
    seen[2, 10, 12] *= -1
    _, masked, views, tokens = conditions(networks, seen, known, completed)
    for a, b in zip(before[1:], (masked, views, tokens)):
        assert np.abs(np.asarray(a) - np.asarray(b)).max() > 1e-4, "an observed pixel matters"


def test_completed_frames_enter_whole(networks):
    """The formula that training uses: clean latents and mask 0, else latents of the observed part and its mask."""
    pixels = np.random.default_rng(1).uniform(-1, 1, (3, 24, 32, 3)).astype(np.float32)
    known, completed = np.array([[True, False, False]]), np.full((1, 3, 3, 4, 4), 7, np.float32)
    mask, masked, _, _ = conditions(networks, pixels, known, completed)
    observed = encode(networks["vae"], (pixels * (1 - MASKS[0][0, 0, :, :, None]))[None])
    np.testing.assert_array_equal(masked[:, 0], completed[:, 0])
    np.testing.assert_allclose(masked[:, 1:], observed[:, 1:], atol=1e-5)
    np.testing.assert_array_equal(mask[0, :, :, :, 0], [0 * MASKS[1][0, 0], MASKS[1][0, 0], MASKS[1][0, 0]])


@pytest.mark.parametrize("size", [3, 8, 30])
def test_views_are_the_rectangle_alone_resized(size):
    pixels = np.random.default_rng(3).uniform(-1, 1, (2, 24, 32, 3)).astype(np.float32)
    expected = preprocess(pixels[:, *NATIVE.observed], size)
    np.testing.assert_allclose(observed_views(pixels, MASKS[0][0, 0], size), expected, atol=1e-5)


def test_edge_fill_repeats_the_border_and_shows_nothing_else():
    canvas = Canvas(5, 7, top=1, left=2, source_height=3, source_width=4)
    pixels = np.random.default_rng(0).normal(size=(1, 2, 5, 7, 3)).astype(np.float32)
    rows, columns = canvas.observed
    padding = ((0, 0), (0, 0), (1, 1), (2, 1), (0, 0))
    expected = np.pad(pixels[:, :, rows, columns], padding, mode="edge")
    np.testing.assert_array_equal(FILLS["edge"](pixels, pixel_mask(canvas)[None, None]), expected)


def test_each_frame_has_a_mask_of_its_own(networks):
    """Of any shape; what one frame shows is of no use to another, and nothing unknown is told."""
    rng = np.random.default_rng(2)
    pixels = rng.uniform(-1, 1, (1, 3, 24, 32, 3)).astype(np.float32)
    unknown = rng.integers(0, 2, (1, 3, 24, 32)).astype(np.float32)
    unknown[:, 1] = 1  # of this one nothing is seen
    cells = np.ones((1, 3, 3, 4), np.float32)
    nobody, completed = np.zeros((1, 3), bool), np.zeros((1, 3, 3, 4, 4), np.float32)
    for fill in FILLS:
        told = [
            inpainting_condition(networks["vae"], shown, unknown, cells, nobody, completed, fill)[1]
            for shown in (pixels, np.where(unknown[..., None] == 1, np.nan, pixels))
        ]
        np.testing.assert_array_equal(*told)
        for frame in range(3):
            alone = unknown[:, frame][:, None]
            masked = inpainting_condition(networks["vae"], pixels, alone, cells, nobody, completed, fill)[1]
            np.testing.assert_allclose(masked[:, frame], told[0][:, frame], atol=1e-5)
