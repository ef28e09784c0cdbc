"""The compiled program of M3DDM that gives a frame of any size the network's full detail.

    refine_frames  frames enlarged from the network's size -> latents of them at their own size, tile by tile

As in a coarse window, frames that are known are conditions, what is unknown of the others is black, and latents are
drawn from the autoencoder's posterior, the same in all tiles that have a pixel (../tiling.py). Tokens of the whole clip
are those of the coarse pass, and the frame rate is that of all frames. The first guess, which the noise is added to,
is the enlarged frame. A part of a way has no history, so the steps are DDIM's, which PLMS are without it.
"""

import jax
import jax.numpy as jnp

from gp_jax.diffusion.noise import frame_noise
from gp_jax.diffusion.samplers import Trajectory, follow
from gp_jax.jobs.kept import Program
from gp_jax.methods.m3ddm.programs import INITIAL, MASKED, NOISE, conditions, guided
from gp_jax.methods.tiling import Grid, Window, blended, cut, encode_tiles, laid_out
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.models.layers import for_loops
from gp_jax.models.m3ddm.network import M3DDM

Array = jax.Array


@Program
def refine_frames(
    network: M3DDM,
    vae: AutoencoderKL,
    key: Array,
    window: Window,
    rate: Array,
    tokens: Array,
    scales: Array,
    path: Trajectory,
    level: Array,
) -> Array:
    """Encodes, noises, denoises.

    Args:
      key: of the clip.
      window: the frames.
      rate: frames per second of the clip, float32.
      tokens: of `programs.read_clip`.
      scales: [2] float32, weights of the local and of the global condition.
      path, level: of `diffusion.samplers.rest`, the steps, and the rates of clean latents and of noise to begin with.

    Returns:
      [T, h, w, C] float32, scaled latents, 0 where no tile lies; those of known frames are of no use.
    """
    times, _, completed, known, place, grid = window
    pixels = window.pixels
    predict = guided(for_loops(network), rate, tokens, scales)

    def drawn(number: int, pixels: Array) -> Array:
        own = jax.random.fold_in(key, number)
        noise = frame_noise(own, times[None, : len(pixels)], completed.shape[1:], 0.0)
        return encode_tiles(vae, pixels, grid, noise[0])[None]

    seen = drawn(MASKED, jnp.where(place.pixel_mask[..., None] == 1, -1.0, pixels))
    black = drawn(MASKED, jnp.full_like(pixels[:1], -1.0))
    told = conditions(seen, black, place.latent_mask, known[None], completed[None])

    def denoise(batch: Grid, latents: Array, timestep: Array) -> Array:
        parts = [laid_out(cut(condition, batch.latents)) for condition in told[:, 0]]
        return predict(latents, jnp.stack(parts), timestep)

    noise = jax.random.normal(jax.random.fold_in(key, NOISE), completed.shape)[None]
    begin = level[0] * drawn(INITIAL, pixels) + level[1] * noise
    return follow(blended(denoise, grid), noise, path, begin=begin)[0]
