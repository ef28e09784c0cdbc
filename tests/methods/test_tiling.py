"""Whatever is cut into tiles and put together again is what it was, and so is what each tile's network gives of it."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gp_jax.geometry import Canvas
from gp_jax.methods.compositing import composite
from gp_jax.methods.placement import Placement
from gp_jax.methods.tiled import full_size
from gp_jax.methods.tiling import Grid, cut, finish_frames, over_tiles
from gp_jax.models.autoencoder import AutoencoderConfig, AutoencoderKL

CANVAS = Canvas(61, 93, 10, 20, 40, 50)  # in whole cells of 8 it is 64 x 96
FRAME = full_size(CANVAS, 8, (24, 40))
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("at_once", [1, 3, 4])
def test_tiles_put_together_are_the_picture(at_once):
    grid = Grid.of(FRAME, (3, 5), 8, at_once)
    assert (FRAME.height, FRAME.width) == (64, 96) and grid.number % at_once == 0
    assert grid.number - grid.idle == Grid.of(FRAME, (3, 5), 8, 1).number and grid.idle < at_once
    for unit, shape in (("latents", (2, 8, 12, 3)), ("pixels", (1, 64, 96, 3))):
        picture = RNG.normal(size=shape).astype(np.float32)
        made = jax.jit(lambda x, g, u=unit: over_tiles(lambda b: cut(x, getattr(b, u)), g, u, x.shape))(picture, grid)
        np.testing.assert_allclose(made, picture, atol=1e-5)


def test_no_side_is_shorter_than_a_tiles():
    frame = full_size(CANVAS, 8, (72, 40))
    assert (frame.height, frame.width) == (72, 96)
    assert abs(frame.top / 72 - CANVAS.top / 61) < 1 / 72 and abs(frame.source_height / 72 - 40 / 61) < 2 / 72


def test_where_all_is_observed_no_tile_lies():
    canvas = Canvas(64, 256, 0, 0, 64, 216)
    grid = Grid.of(canvas, (8, 8), 8, 2)
    ones = np.ones((1, 8, 32, 1), np.float32)
    cover = over_tiles(lambda batch: cut(ones, batch.latents), grid, "latents", ones.shape)[0, 0, :, 0]
    assert (cover[-8:] > 0.999).all() and (cover[:16] == 0).all()


def test_a_decoder_of_cells_finishes_tiles_as_it_would_the_whole():
    """Of one cell each: no tile lacks what lies beyond it."""
    config = AutoencoderConfig(
        block_out_channels=(8,), layers_per_block=1, norm_num_groups=4, patch_size=8, linear_latents=True
    )
    vae = AutoencoderKL(config, rngs=nnx.Rngs(0))
    vae.decode = lambda latents: jnp.repeat(jnp.repeat(latents[..., :3], 8, axis=1), 8, axis=2)
    latents = 0.3 * RNG.normal(size=(2, 8, 12, config.latent_channels)).astype(np.float32)
    frames = np.stack([cv2.resize(RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8), (93, 61)) for _ in range(2)])
    place, grid = Placement.of(CANVAS, FRAME, 8), Grid.of(FRAME, (3, 5), 8, 1)
    made, finite = finish_frames(vae, latents, frames, place, grid, observed=(40, 50))
    source = frames[:, *CANVAS.observed]
    whole = jax.jit(composite, static_argnums=3)(vae.decode(latents / config.scaling_factor), source, place, (61, 93))
    np.testing.assert_array_equal(np.asarray(made)[:, *CANVAS.observed], source)
    np.testing.assert_allclose(np.asarray(made, int), np.asarray(whole, int), atol=1)
    assert finite
