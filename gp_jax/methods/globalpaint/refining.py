"""The compiled program of GlobalPaint that gives a frame of any size the networks' full detail.

    refine_frames  frames enlarged from the networks' size -> latents of them at their own size, tile by tile

The enlarged frames are noised and denoised from there, so that all tiles begin with one scene, which the coarse pass
made, and a network adds what it knows of edges and texture. In every step each tile gets its part of the noisy latents,
of the mask and of the masked video, and the predictions of all are blended (../tiling.py). Global tokens are those of
the coarse pass.
"""

import functools

import jax
import jax.numpy as jnp

from gp_jax.diffusion.noise import frame_noise, step_noise
from gp_jax.diffusion.samplers import follow
from gp_jax.jobs.kept import Program
from gp_jax.methods.globalpaint.conditioning import FILLS
from gp_jax.methods.globalpaint.programs import Sampling, guided
from gp_jax.methods.latents import complete
from gp_jax.methods.placement import continued
from gp_jax.methods.tiling import Grid, Window, blended, cut, encode_tiles, laid_out
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.models.layers import for_loops
from gp_jax.models.unet import UNet

Array = jax.Array


@functools.partial(Program, static_argnames=("shared_noise",))
def refine_frames(
    unet: UNet,
    vae: AutoencoderKL,
    key: Array,
    window: Window,
    text: Array | None,
    null_text: Array,
    tokens: Array | None,
    sampling: Sampling,
    level: Array,
    *,
    shared_noise: float,
) -> Array:
    """Encodes, noises, denoises.

    Args:
      key: of the clip.
      window: the frames.
      text: [1, L, D], or None for no prompt.
      null_text: [1, L, D].
      tokens: [1, K, D], or None for a model without.
      sampling: how to sample, from `diffusion.samplers.rest`.
      level: [2], the rates of clean latents and of noise to begin with.
      shared_noise: that of the schedule.

    Returns:
      [T, h, w, C] float32, scaled latents, 0 where no tile lies.
    """
    times, _, completed, known, place, grid = window
    unet, times, pixels = for_loops(unet), times[None], window.pixels
    if (fill := unet.config.masked_fill) == "edge":  # of a rectangle, without a search for the nearest pixel
        filled = continued(pixels, place.pixel_mask)
    else:
        filled = FILLS[fill](pixels[None], place.pixel_mask[None, None])[0]
    shape = completed.shape

    masked = encode_tiles(vae, filled, grid)[None]
    mask, masked = complete(masked, place.latent_mask[None, None], known[None], completed[None])
    mask = jnp.broadcast_to(mask, (*masked.shape[:4], 1))

    def denoise(batch: Grid, latents: Array, timestep: Array) -> Array:
        rows = jnp.broadcast_to(times, (len(latents), times.shape[1]))
        network = guided(unet, rows, text, null_text, tokens, sampling)
        conditions = [laid_out(cut(x[0], batch.latents)) for x in (mask, masked)]
        return network(latents, conditions[0], conditions[1], timestep)

    def hold(clean: Array) -> Array:
        return jnp.where(known[None, :, None, None, None], completed[None], clean)

    def fresh(step: Array) -> Array:
        return step_noise(key, step, times, shape[1:], shared_noise)

    noise = frame_noise(key, times, shape[1:], shared_noise)
    begin = level[0] * encode_tiles(vae, pixels, grid)[None] + level[1] * noise
    made = follow(blended(denoise, grid), noise, sampling.path, correct=hold, fresh=fresh, begin=begin)
    # Latents that know nothing beyond their cell are exact where the cell was observed.
    return (jnp.where(mask == 0, masked, made) if vae.config.linear_latents else made)[0]
