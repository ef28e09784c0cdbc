"""The compiled program of MOTIA that gives a frame of any size the networks' full detail.

    refine_frames  frames enlarged from the networks' size -> latents of them at their own size, tile by tile

The last steps of MOTIA's way are taken once more, from the enlarged frames with noise. What is known is treated as the
source is in a coarse step, replaced at the next level of noise: the source's region, and of frames that are refined
already all. Each tile has its part of the picture that steers the ControlNet, and of the map that says how much of a
LoRA counts where (insertion.py); predictions are blended (../tiling.py). There is no noise regret: it belongs to the
first part of the way.
"""

import functools

import jax
import jax.numpy as jnp

from gp_jax.diffusion.noise import step_noise
from gp_jax.jobs.kept import Program
from gp_jax.methods.latents import complete
from gp_jax.methods.motia.programs import guided, moved, shown
from gp_jax.methods.motia.schedule import Row
from gp_jax.methods.placement import continued
from gp_jax.methods.tiling import Grid, Window, blended, cut, encode_tiles
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.models.controlnet import ControlNet
from gp_jax.models.unet import UNet
from gp_jax.parallel import constrain

Array = jax.Array


@functools.partial(Program, static_argnames=("branches",))
def refine_frames(
    unet: UNet,
    controlnet: ControlNet,
    vae: AutoencoderKL,
    key: Array,
    window: Window,
    text: Array | None,
    null_text: Array,
    insertion: Array,
    rows: Row,
    level: Array,
    *,
    branches: tuple[bool, ...],
) -> Array:
    """Encodes, noises, denoises.

    Args:
      key: of the clip.
      window: the frames.
      text: [1, L, D], or None for no prompt.
      null_text: [1, L, D].
      insertion: [H, W], of `insertion.insertion`.
      rows: the steps, [S] each.
      level: [2], the rates of clean latents and of noise to begin with.
      branches: of guidance, see `guide`.

    Returns:
      [T, h, w, C] float32, scaled latents, 0 where no tile lies; those of known frames are of no use.
    """
    times, _, completed, known, place, grid = window
    pixels, times = window.pixels, times[None]
    source = encode_tiles(vae, continued(pixels, place.pixel_mask), grid)[None]
    mask, source = complete(source, place.latent_mask[None, None], known[None], completed[None])
    picture, network = shown(pixels, place), guided(unet, controlnet, text, null_text, branches)
    noise = step_noise(key, jnp.int32(0), times, completed.shape[1:], 0.0)

    def step(latents: Array, row: Row) -> tuple[Array, None]:
        def denoise(batch: Grid, latents: Array, _: Array) -> Array:
            each = jnp.broadcast_to(times, (len(latents), times.shape[1]))
            pictures = constrain(cut(picture, batch.pixels), "batch", None, None, None, None)
            inserted = cut(insertion[None, ..., None], batch.pixels)[:, 0, ..., 0]
            return network(latents, row, each, pictures, inserted)

        predicted = blended(denoise, grid)(latents, row.timestep)
        return moved(row, latents, predicted, source, noise, mask == 0), None

    begin = level[0] * encode_tiles(vae, pixels, grid)[None] + level[1] * noise
    return jax.lax.scan(step, begin, rows)[0][0]
