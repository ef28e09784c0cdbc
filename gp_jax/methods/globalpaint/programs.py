"""The compiled programs of GlobalPaint.

    read_clip      a few frames of the whole clip -> its global tokens              once per clip
    make_segments  observed frames of some segments -> latents of all their frames  once per batch of segments

Each is compiled once per network and shape: the place of the source, the seed, the sampler and the weights of guidance
are numbers (`Placement`, `Sampling`). `make_segments` encodes, draws noise and runs the whole sampling loop. Both
are pure, and noise depends on seed, frame index and step alone, so that neither batching nor a mesh changes a clip.
"""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.diffusion.guidance import branches_of, check_scales, guide
from gp_jax.diffusion.noise import frame_noise, step_noise
from gp_jax.diffusion.samplers import OnStep, Trajectory, follow, trajectory
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.diffusion.tables import MOST_GUIDANCE
from gp_jax.errors import Notice
from gp_jax.jobs.kept import Program
from gp_jax.methods.globalpaint.conditioning import (
    FILLS,
    clip_tokens,
    inpainting_condition,
    observed_views,
)
from gp_jax.methods.latents import mask_of_latents
from gp_jax.methods.placement import Placement
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.models.clip import VisionTower
from gp_jax.models.global_tokens import GlobalTokens
from gp_jax.models.layers import for_loops
from gp_jax.models.unet import UNet
from gp_jax.parallel import constrain

Array = jax.Array


@functools.partial(jax.tree_util.register_dataclass, meta_fields=["branches"], data_fields=["path", "scales"])
@dataclasses.dataclass(frozen=True)
class Sampling:
    """How to sample; a new program only where the number of steps or the branches are others, or where a sampler adds
    noise and another does not.

    Attributes:
      path: the sampler's.
      scales: [2] float32, weights of the global tokens and of the prompt.
      branches: those that guidance computes.
    """

    path: Trajectory
    scales: Any  # numpy's, or jax's within a program
    branches: tuple[bool, ...]

    @classmethod
    def of(
        cls,
        schedule: NoiseSchedule,
        sampler: str,
        steps: int,
        guidance: float,
        text_guidance: float,
        eta: float | None = None,
        *,
        text: bool,
        tokens: bool,
    ) -> "Sampling":
        """In numpy; raises UserError as `trajectory` does, and where a weight is no finite number. A `Notice` says
        where guidance is stronger than networks for the sampler bear.

        Args:
          schedule, sampler, steps, eta: see `diffusion.samplers.trajectory`.
          guidance, text_guidance: weights of the global tokens and of the prompt.
          text, tokens: whether there are any.
        """
        check_scales(guidance=guidance, text_guidance=text_guidance)
        branches = branches_of(text_guidance, guidance, text, tokens)
        path = trajectory(schedule, sampler, steps, eta)
        most = MOST_GUIDANCE.get(sampler, math.inf)
        for name, scale, is_used in (("guidance", guidance, tokens), ("text_guidance", text_guidance, text)):
            if is_used and scale > most:
                what = f"{name} is {scale:g}, and networks for the sampler {sampler} have learned theirs"
                warnings.warn(f"{what}: they bear {most:g} at most", Notice, stacklevel=2)
        return cls(path, np.array([guidance, text_guidance], np.float32), branches)


@Program
def read_clip(
    vision: VisionTower,
    extractor: GlobalTokens,
    pixels: Array,
    pixel_mask: Array,
    positions: Array,
    times: Array,
    valid: Array,
) -> Array:
    """[1, K, D] global tokens of a clip.

    Args:
      pixels: [F, H, W, 3] float, frames spread over the clip; or [F, H, W, 4], see `make_segments`.
      pixel_mask: [H, W], or a rectangle for each frame, [F, H, W]: what is unknown within it is filled in.
      positions: [P, 2] or [F, P, 2], the `patch_positions` of the observed rectangle.
      times: [F], in [0, 1].
      valid: [F] bool.
    """
    if pixels.shape[-1] == 4:
        pixels = FILLS["edge"](pixels[None, ..., :3], 1 - pixels[None, ..., 3])[0]
    views = observed_views(constrain(pixels, "batch", None, None, None), pixel_mask, vision.config.image_size)
    return clip_tokens(vision, extractor, views[None], positions, times[None], valid[None])


@functools.partial(Program, static_argnames=("shared_noise", "on_step"))
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
    place: Placement,
    sampling: Sampling,
    *,
    shared_noise: float,
    on_step: OnStep | None = None,
) -> Array:
    """Encodes, draws noise, samples.

    Args:
      key: of the clip.
      times: [B, T] int, of the frames.
      pixels: [B, T, H, W, 3] float, at the model's size, read where observed and not wholly held; or [B, T, H, W, 4],
        the last channel 1 where a pixel of this frame is seen, the source's or not, and 0 elsewhere.
      completed: [B, T, h, w, C], the frames that are complete already.
      held: [B, T] float, the share of these in the result: 1 for boundary frames, which are conditions, 0 for frames
        that are not complete. Every step's estimate is drawn to it, so that where two versions of a frame meet the
        network brings them together, and neither is seen through the other.
      text: [1, L, D], or None for no prompt.
      null_text: [1, L, D].
      tokens: [1, K, D], or None for a model without.
      place: of the source; its masks count where pixels do not tell their own.
      sampling: how to sample.
      shared_noise: that of the schedule.
      on_step: see `follow`.

    Returns:
      [B, T, h, w, C] float32, scaled latents.
    """
    unet = for_loops(unet)
    masks = place.pixel_mask[None, None], place.latent_mask[None, None]
    if pixels.shape[-1] == 4:
        unknown = 1 - pixels[..., 3]
        pixels, masks = pixels[..., :3], (unknown, mask_of_latents(unknown, vae.config.downsampling))
    mask, masked = inpainting_condition(vae, pixels, *masks, held == 1, completed, unet.config.masked_fill)

    def laid_out(noise: Array) -> Array:
        return constrain(noise, "batch", "frame", None, None, None)

    noise = laid_out(frame_noise(key, times, masked.shape[2:], shared_noise))

    network = guided(unet, times, text, null_text, tokens, sampling)

    def denoise(latents: Array, timestep: Array) -> Array:
        return network(latents, mask, masked, timestep)

    def hold(clean: Array) -> Array:
        share = held[:, :, None, None, None]
        return share * completed + (1 - share) * clean

    def fresh(step: Array) -> Array:
        return laid_out(step_noise(key, step, times, masked.shape[2:], shared_noise))

    made = follow(denoise, noise, sampling.path, correct=hold, on_step=on_step, fresh=fresh)
    # Latents that know nothing beyond their cell are exact where the cell was observed.
    return jnp.where(mask == 0, masked, made) if vae.config.linear_latents else made


def guided(
    unet: UNet, times: Array, text: Array | None, null_text: Array, tokens: Array | None, sampling: Sampling
) -> Callable[[Array, Array, Array, Array], Array]:
    """(latents, mask, masked latents, each [B, T, h, w, C], timestep) -> the guided prediction; arguments as above."""

    def network(latents, timesteps, text, tokens, frames, mask, masked):
        return unet(jnp.concatenate([latents, mask, masked], axis=-1), timesteps, text, tokens, frames)

    def for_each(condition: Array | None) -> Array | None:
        return None if condition is None else jnp.broadcast_to(condition, (len(times), *condition.shape[1:]))

    def denoise(latents: Array, mask: Array, masked: Array, timestep: Array) -> Array:
        return guide(
            network,
            latents,
            timestep,
            for_each(text),
            null_text,
            for_each(tokens),
            text_scale=sampling.scales[1],
            token_scale=sampling.scales[0],
            branches=sampling.branches,
            frames=times,
            mask=mask,
            masked=masked,
        )

    return denoise
