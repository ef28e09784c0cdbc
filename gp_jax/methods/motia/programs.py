"""The compiled programs of MOTIA.

    encode_frames  observed frames -> noise and latents to begin with            once per frame
    step_windows   windows, before a step -> their share of frames after it      in each step, once per batch of windows

Each is compiled once per network and shape, and `step_windows` once with and once without guidance: steps, the place of
the source, the seed and all weights are numbers. Noise depends on seed, frame and its own number alone, so that neither
batching nor a mesh changes a clip.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gp_jax.diffusion.guidance import guide
from gp_jax.diffusion.noise import step_noise
from gp_jax.jobs.kept import Program
from gp_jax.methods.latents import encode
from gp_jax.methods.motia.schedule import Row
from gp_jax.methods.placement import Placement, continued
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.models.controlnet import ControlNet
from gp_jax.models.unet import UNet
from gp_jax.parallel import constrain

Array = jax.Array


@Program
def encode_frames(vae: AutoencoderKL, key: Array, times: Array, pixels: Array, place: Placement) -> Array:
    """What sampling begins with.

    Args:
      key: of the clip.
      times: [B, T] int, of the frames.
      pixels: [B, T, H, W, 3] in [-1, 1], read where observed; elsewhere the nearest observed pixel stands for them.
      place: of the source.

    Returns:
      [B, T, h, w, 2 C] float32: noise, and scaled latents of the source, which are of use where it is observed.
    """
    source = encode(vae, continued(constrain(pixels, "batch", None, None, None, None), place.pixel_mask))
    return jnp.concatenate([step_noise(key, jnp.int32(0), times, source.shape[2:], 0.0), source], axis=-1)


@functools.partial(Program, static_argnames=("branches",))
def step_windows(
    unet: UNet,
    controlnet: ControlNet,
    key: Array,
    times: Array,
    pixels: Array,
    state: Array,
    shares: Array,
    text: Array | None,
    null_text: Array,
    insertion: Array,
    place: Placement,
    row: Row,
    *,
    branches: tuple[bool, ...],
) -> Array:
    """One step.

    Args:
      key: of the clip.
      times: [B, T] int, of the frames.
      pixels: [B, T, H, W, 3] in [-1, 1], read where observed.
      state: [B, T, h, w, 2 C], latents before the step, and those of `encode_frames`.
      shares: [B, T] float, of each window in the mean of a frame.
      text: [1, L, D], or None for no prompt.
      null_text: [1, L, D].
      insertion: [H, W], of `insertion.insertion`.
      place: of the source.
      row: the step.
      branches: of guidance, see `guide`.

    Returns:
      [B, T, h, w, C] float32, latents after the step times `shares`.
    """
    latents, source = jnp.split(constrain(state, "batch", "frame", None, None, None), 2, axis=-1)
    network = guided(unet, controlnet, text, null_text, branches)
    inserted = jnp.broadcast_to(insertion, (len(times), *insertion.shape))
    predicted = network(latents, row, times, shown(pixels, place), inserted)

    def noise(number: Array) -> Array:
        return constrain(step_noise(key, number, times, source.shape[2:], 0.0), "batch", "frame", None, None, None)

    after = moved(row, latents, predicted, source, noise(row.noise), place.latent_mask[..., None] == 0)
    after = row.stay * after + row.regret * noise(row.regret_noise)
    return shares[:, :, None, None, None] * after


def moved(row: Row, latents: Array, predicted: Array, source: Array, noise: Array, known: Array) -> Array:
    """Latents after a step, those that are `known` replaced by the source's at that level of noise; see schedule.py."""
    clean = row.noisy_to_clean * latents + row.noise_to_clean * predicted
    after = row.keep * latents + row.clean_weight * clean
    held = row.source_weight * source + row.noise_weight * noise
    return jnp.where((row.holds > 0) & known, held, after)


def shown(pixels: Array, place: Placement) -> Array:
    """What steers the ControlNet, of [..., H, W, 3] in [-1, 1]: from 0 to 1 where observed, else -1."""
    return jnp.where(place.pixel_mask[..., None] == 0, 0.5 * (pixels + 1.0), -1.0)


def guided(
    unet: UNet, controlnet: ControlNet, text: Array | None, null_text: Array, branches: tuple[bool, ...]
) -> Callable[[Array, Row, Array, Array, Array], Array]:
    """(latents [B, T, h, w, C], row, times [B, T], picture [B, T, H, W, 3], insertion [B, H, W]) -> the prediction;
    arguments as above."""

    def network(latents, timesteps, text, tokens, frames, picture, insertion):
        residuals = controlnet(latents, timesteps, text, picture)
        return unet(latents, timesteps, text, tokens, frames, residuals, insertion)

    def denoise(latents: Array, row: Row, times: Array, picture: Array, insertion: Array) -> Array:
        return guide(
            network,
            latents,
            row.timestep,
            None if text is None else jnp.broadcast_to(text, (len(times), *text.shape[1:])),
            null_text,
            None,
            text_scale=row.guidance,
            branches=branches,
            frames=times,
            picture=picture,
            insertion=insertion,
        )

    return denoise
