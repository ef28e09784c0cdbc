"""The three compiled programs of outpainting.

    read_clip      a few frames of the whole clip -> its global tokens              once per clip
    make_segments  observed frames of some segments -> latents of all their frames  once per batch of segments
    finish         latents of some frames, and the source -> frames to be written   once per chunk of frames

Each is compiled once per network and shape; `make_segments` encodes, draws noise and runs the whole sampling loop. All
three are pure, and noise depends on seed and frame index alone, so that neither batching nor a mesh changes a clip.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from gp_jax.diffusion.guidance import guide
from gp_jax.diffusion.noise import frame_noise
from gp_jax.diffusion.samplers import sample
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.geometry import Canvas, latent_mask, patch_positions, pixel_mask
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.models.clip import VisionTower
from gp_jax.models.global_tokens import GlobalTokens
from gp_jax.models.unet import UNet
from gp_jax.parallel import constrain
from gp_jax.pipelines.compositing import composite
from gp_jax.pipelines.conditioning import clip_tokens, inpainting_condition, observed_views, to_native

Array = jax.Array

shrink = jax.jit(to_native, static_argnames=("canvas", "native"))


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How to sample; a new one is a new program.

    Attributes:
      sampler: a name in `diffusion.samplers.SAMPLERS`.
      steps: of the sampler.
      guidance, text_guidance: weights of the global tokens and of the prompt.
    """

    sampler: str
    steps: int
    guidance: float
    text_guidance: float


@functools.partial(jax.jit, static_argnames="native")
def read_clip(
    vision: VisionTower, extractor: GlobalTokens, pixels: Array, times: Array, valid: Array, *, native: Canvas
) -> Array:
    """[1, K, D] global tokens of a clip.

    Args:
      pixels: [F, H, W, 3] float, frames spread over the clip.
      times: [F], in [0, 1].
      valid: [F] bool.
    """
    config = vision.config
    views = observed_views(constrain(pixels, "batch", None, None, None), native, config.image_size)
    positions = patch_positions(native, config.image_size // config.patch_size)
    return clip_tokens(vision, extractor, views[None], positions, times[None], valid[None])


@functools.partial(jax.jit, static_argnames=("native", "schedule", "sampling"))
def make_segments(
    unet: UNet,
    vae: AutoencoderKL,
    key: Array,
    times: Array,
    pixels: Array,
    completed: Array,
    held: Array,
    text: Array | None,
    null_text: Array,
    tokens: Array | None,
    *,
    native: Canvas,
    schedule: NoiseSchedule,
    sampling: Sampling,
) -> Array:
    """Encodes, draws noise, samples.

    Args:
      key: of the clip.
      times: [B, T] int, of the frames.
      pixels: [B, T, H, W, 3] float of the size of `native`, read where observed and not wholly held.
      completed: [B, T, h, w, C], the frames that are complete already.
      held: [B, T] float, the share of these in the result: 1 for boundary frames, which are conditions, 0 for frames
        that are not complete. Every step's estimate is drawn to it, so that where two versions of a frame meet the
        network brings them together, and neither is seen through the other.
      text: [1, L, D], or None for no prompt.
      null_text: [1, L, D].
      tokens: [1, K, D], or None for a model without.

    Returns:
      [B, T, h, w, C] float32, scaled latents.
    """
    masks = jnp.asarray(pixel_mask(native))[None], jnp.asarray(latent_mask(native, vae.config.downsampling))[None]
    mask, masked = inpainting_condition(vae, pixels, *masks, held == 1, completed, unet.config.masked_fill)
    noise = frame_noise(key, times, masked.shape[2:], schedule.shared_noise)
    noise = constrain(noise, "batch", "frame", None, None, None)

    def network(latents, timesteps, text, tokens, frames, mask, masked):
        return unet(jnp.concatenate([latents, mask, masked], axis=-1), timesteps, text, tokens, frames)

    def for_each(condition: Array | None) -> Array | None:
        return None if condition is None else jnp.broadcast_to(condition, (len(times), *condition.shape[1:]))

    def denoise(latents, timestep):
        return guide(
            network,
            latents,
            timestep,
            for_each(text),
            null_text,
            for_each(tokens),
            text_scale=sampling.text_guidance,
            token_scale=sampling.guidance,
            frames=times,
            mask=mask,
            masked=masked,
        )

    def hold(clean: Array) -> Array:
        share = held[:, :, None, None, None]
        return share * completed + (1 - share) * clean

    made = sample(denoise, noise, schedule, sampler=sampling.sampler, steps=sampling.steps, correct=hold)
    # Latents that know nothing beyond their cell are exact where the cell was observed.
    return jnp.where(mask == 0, masked, made) if vae.config.linear_latents else made


@functools.partial(jax.jit, static_argnames=("canvas", "native"))
def finish(vae: AutoencoderKL, latents: Array, source: Array, *, canvas: Canvas, native: Canvas) -> tuple[Array, Array]:
    """Decodes and composites.

    Args:
      latents: [N, h, w, C], scaled.
      source: [N, Hs, Ws, 3] uint8.

    Returns:
      [N, H, W, 3] uint8 of the size of `canvas`, and whether all that was decoded is finite: bytes don't show it.
    """
    latents, source = (constrain(x, "batch", None, None, None) for x in (latents, source))
    decoded = vae.decode(latents / vae.config.scaling_factor)
    return composite(decoded, source, canvas, native), jnp.isfinite(decoded).all()
