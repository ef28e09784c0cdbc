"""The compiled programs of M3DDM.

    read_clip      frames spread over the clip -> tokens, without and with what they show      once per clip
    make_windows   observed frames of some windows -> latents of all their frames              once per batch of windows
    paste          latents of some frames, and the source -> frames as published               once per chunk of frames

Each is compiled once per network and shape: the place of the source, the seed, the frame rate and the weights of
guidance are numbers. (Without `faithful` frames are finished as GlobalPaint's are.) Noise is the same in every window,
and what is drawn of a frame's latents depends on seed and frame alone, so that neither batching nor a mesh changes a
clip.

Three predictions are mixed, e(nothing), e(local) and e(local and global):

    e = e(0, 0) + local * (e(l, 0) - e(0, 0)) + global * (e(l, g) - e(l, 0))           published: 2 and 4
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gp_jax.diffusion.noise import frame_noise
from gp_jax.diffusion.plms import plms_timesteps, sample_plms
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.jobs.kept import Program
from gp_jax.methods.latents import complete, encode
from gp_jax.methods.placement import Placement, to_float
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.models.layers import for_loops
from gp_jax.models.m3ddm.network import M3DDM
from gp_jax.parallel import constrain

Array = jax.Array

BRANCHES = 3
# Keys of a clip: of the windows' noise, of the latents of observed frames, of first frames and of the global ones.
NOISE, MASKED, INITIAL, _GLOBAL = range(4)


@Program
def read_clip(network: M3DDM, vae: AutoencoderKL, key: Array, times: Array, frames: Array) -> Array:
    """Tokens of the global encoder.

    Args:
      key: of the clip.
      times: [F] int, of the frames.
      frames: uint8 [F, S, S, 3], of the whole source, squashed.

    Returns:
      [2, K, D]: of latents that are zero, which stand for no clip, and of the clip.
    """
    latents = sampled_latents(vae, jax.random.fold_in(key, _GLOBAL), times[None], to_float(frames)[None])
    return network.encode_global(jnp.concatenate([jnp.zeros_like(latents), latents])).astype(jnp.float32)


@functools.partial(Program, static_argnames=("schedule", "steps"))
def make_windows(
    network: M3DDM,
    vae: AutoencoderKL,
    key: Array,
    times: Array,
    pixels: Array,
    completed: Array,
    known: Array,
    rate: Array,
    tokens: Array,
    place: Placement,
    scales: Array,
    *,
    schedule: NoiseSchedule,
    steps: int,
) -> Array:
    """Encodes, adds noise, samples.

    Args:
      key: of the clip.
      times: [B, T] int, of the frames.
      pixels: [B, T, H, W, 3] in [-1, 1], the source's where observed, a first guess elsewhere.
      completed: [B, T, h, w, C], latents of frames that are known, read where `known`.
      known: [B, T] bool.
      rate: frames per second of a window, float32.
      tokens: of `read_clip`.
      place: of the source; its masks are those of M3DDM.
      scales: [2] float32, weights of the local and of the global condition.
      schedule, steps: of the sampler.

    Returns:
      [B, T, h, w, C] float32, scaled latents.
    """
    network = for_loops(network)
    pixels = constrain(pixels, "batch", None, None, None, None)
    masked = jnp.where(place.pixel_mask[..., None] == 1, -1.0, pixels)
    initial = sampled_latents(vae, jax.random.fold_in(key, INITIAL), times, pixels)
    seen = sampled_latents(vae, jax.random.fold_in(key, MASKED), times, masked)
    black = sampled_latents(vae, jax.random.fold_in(key, MASKED), times[:1, :1], jnp.full_like(pixels[:1, :1], -1.0))

    told = conditions(seen, black, place.latent_mask, known, completed)
    predict = guided(network, rate, tokens, scales)

    def denoise(latents: Array, timestep: Array) -> Array:
        return predict(latents, told, timestep)

    noise = jax.random.normal(jax.random.fold_in(key, NOISE), seen.shape[1:])
    start = schedule.add_noise(initial, noise[None], jnp.full(len(times), plms_timesteps(schedule, steps)[0]))
    start = constrain(start, "batch", "frame", None, None, None)
    return sample_plms(denoise, start, schedule, steps=steps)


def conditions(seen: Array, black: Array, latent_mask: Array, known: Array, completed: Array) -> Array:
    """What each prediction is told of a window beside its noisy latents.

    Args:
      seen: [B, T, h, w, C], latents of the observed pixels.
      black: [1, 1, h, w, C], of a black frame.
      latent_mask: [h, w], 1 where a latent is unknown.
      known, completed: see `make_windows`.

    Returns:
      [3, B, T, h, w, C + 1], latents and mask: nothing, local, local.
    """

    def condition(latents: Array, mask: Array) -> Array:
        mask, latents = complete(latents, mask, known, completed)
        return jnp.concatenate([latents, jnp.broadcast_to(mask, (*latents.shape[:-1], 1))], axis=-1)

    local = condition(seen, latent_mask)
    nothing = condition(jnp.broadcast_to(black, seen.shape), jnp.ones_like(latent_mask))
    return jnp.stack([nothing, local, local])


def guided(network: M3DDM, rate: Array, tokens: Array, scales: Array) -> Callable[[Array, Array, Array], Array]:
    """(latents [B, T, h, w, C], their `conditions`, timestep) -> the predictions, mixed; see `make_windows`."""
    contexts = tokens[jnp.array([0, 0, 1])]
    weights = jnp.stack([1 - scales[0], scales[0] - scales[1], scales[1]])

    def predict(latents: Array, conditions: Array, timestep: Array) -> Array:
        batch = len(latents)

        def add(total: Array, branch: tuple[Array, Array, Array]) -> tuple[Array, None]:
            condition, context, weight = branch
            sample = jnp.concatenate([latents, condition], axis=-1)
            steps, rates = (jnp.full(batch, x, jnp.float32) for x in (timestep, rate))
            predicted = network(sample, steps, rates, jnp.broadcast_to(context, (batch, *context.shape)))
            return total + weight * predicted.astype(jnp.float32), None

        # One after the other: attention to the global tokens takes gigabytes for each.
        return jax.lax.scan(add, jnp.zeros_like(latents), (conditions, contexts, weights))[0]

    return predict


def sampled_latents(vae: AutoencoderKL, key: Array, times: Array, pixels: Array) -> Array:
    """Latents drawn from the autoencoder's posterior, a function of key and time.

    Args:
      times: [B, T] int.
      pixels: [B, T, H, W, 3] in [-1, 1]. The frames of a window go through one after another, to save memory.

    Returns:
      [B, T, h, w, C] float32, scaled.
    """
    cell = vae.config.downsampling
    shape = (pixels.shape[2] // cell, pixels.shape[3] // cell, vae.config.latent_channels)
    return encode(vae, pixels, frame_noise(key, times, shape, 0.0))


@functools.partial(Program, static_argnames=("side", "size"))
def paste(
    vae: AutoencoderKL,
    latents: Array,
    source: Array,
    place: Placement,
    crop: Array,
    *,
    side: int,
    size: tuple[int, int],
) -> tuple[Array, Array]:
    """Decodes, and lays the source over the square with a hard edge.

    Args:
      latents: [N, h, w, C], scaled, of squares.
      source: [N, Hs, Ws, 3] uint8.
      place: of the source in a square of `side` pixels.
      crop: [2] int, first row and column of the canvas in that square.
      side: of the square.
      size: height and width of the canvas.

    Returns:
      [N, H, W, 3] uint8, and whether all that was decoded is finite.
    """
    latents, source = (constrain(x, "batch", None, None, None) for x in (latents, source))
    decoded = vae.decode(latents / vae.config.scaling_factor)
    large = jax.image.resize(decoded, (len(latents), side, side, 3), "cubic")
    frames = jnp.round((jnp.clip(large, -1.0, 1.0) + 1.0) * 127.5).astype(jnp.uint8)
    frames = jax.lax.dynamic_update_slice(frames, source, (0, *place.corner, 0))
    cut = jax.lax.dynamic_slice(frames, (0, *crop, 0), (len(latents), *size, 3))
    return cut, jnp.isfinite(decoded).all()
