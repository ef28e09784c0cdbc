"""Puts the made region around the source, without a seam and without touching a pixel of the source.

The model works at its own size, on a frame whose observed part it has made once more, nearly right. What it lacks
there is known,

    residual = seen - made        (on the observed rectangle, at the model's size)

and a seam is nothing but the residual's sudden end at the border. So the residual is carried on outwards from the
nearest border pixel and fades: slowly what varies slowly along the border, such as a shift in colour, and quickly what
varies quickly, since it would draw streaks otherwise. This is a multi-band blend (Burt and Adelson 1983, "A
multiresolution spline"): the band between Gaussians of deviation s / 2 and s fades within 2 s pixels, the coarsest one
within a quarter of the source's shorter side. Then the frame is brought up to the canvas' size and the source is laid
over it.

No source pixel is copied outwards: where the model is right, the residual is 0 and its frame stays as it is.
"""

import functools
import math

import jax
import jax.numpy as jnp

from gp_jax.jobs.kept import Program
from gp_jax.methods.placement import Placement, nearest, to_float, to_native
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.parallel import constrain

Array = jax.Array


@functools.partial(Program, static_argnames=("size", "observed"))
def finish(
    vae: AutoencoderKL,
    latents: Array,
    pixels: Array,
    place: Placement,
    *,
    size: tuple[int, int],
    observed: tuple[int, int] | None = None,
) -> tuple[Array, Array]:
    """Decodes and composites.

    Args:
      latents: [N, h, w, C], scaled.
      pixels: [N, Hs, Ws, 3] uint8, the source; or [N, H, W, 4], the source and what other frames show around it, and
        how far that can be trusted (`flow_propagation.carried`).
      place: of the source.
      size: height and width of the canvas.
      observed: those of the source, where `pixels` are more.

    Returns:
      [N, H, W, 3] uint8, and whether all that was decoded is finite: bytes don't show it.
    """
    latents, source = (constrain(x, "batch", None, None, None) for x in (latents, pixels))
    if observed is not None:
        source = jax.lax.dynamic_slice(source, (0, *place.corner, 0), (len(source), *observed, 3))
    decoded = vae.decode(latents / vae.config.scaling_factor)
    carried = None if observed is None else pixels
    return composite(decoded, source, place, size, carried), jnp.isfinite(decoded).all()


def composite(
    made: Array, source: Array, place: Placement, size: tuple[int, int], carried: Array | None = None
) -> Array:
    """Frames of the canvas' size.

    Args:
      made: [N, h, w, 3] float, the decoded frames at the model's size.
      source: [N, Hs, Ws, 3] uint8.
      place: of the source.
      size: height and width of the canvas.
      carried: [N, H, W, 4] uint8, what is laid over `made` as far as its last channel trusts it; None for nothing.

    Returns:
      [N, H, W, 3] uint8; the observed rectangle is `source`, bit for bit.
    """
    # The source's shorter side at the model's size, without the rounding that depends on its place.
    shorter = min(side * model / full for side, model, full in zip(source.shape[1:3], made.shape[1:3], size))
    blended = blend(made, to_native(source, place), place.pixel_mask, shorter)
    large = jax.image.resize(blended, (made.shape[0], *size, 3), "cubic")
    if carried is not None:
        trust = carried[..., 3:].astype(jnp.float32) / 255
        large = trust * to_float(carried[..., :3]) + (1 - trust) * large
    frames = jnp.round((jnp.clip(large, -1.0, 1.0) + 1.0) * 127.5).astype(jnp.uint8)
    return jax.lax.dynamic_update_slice(frames, source, (0, *place.corner, 0))


def blend(made: Array, seen: Array, pixel_mask: Array, shorter: float) -> Array:
    """`seen` on the observed rectangle and a feathered transition to `made` outside it.

    Args:
      made, seen: [N, H, W, 3] float; `seen` is read where it is observed.
      pixel_mask: [H, W], 1 where a pixel is unknown.
      shorter: the shorter side of the observed rectangle.

    Returns:
      [N, H, W, 3] float.
    """
    observed = pixel_mask == 0
    rows, columns = observed.any(axis=1), observed.any(axis=0)
    down, across = nearest(rows), nearest(columns)
    distance = jnp.hypot(*jnp.broadcast_arrays(_away(down)[:, None], _away(across)[None]))[..., None]
    width = max(2.0, shorter / 4)
    octaves = [2.0**k for k in range(max(1, int(math.log2(width))))]

    # Each pixel outside gets the value of the nearest border pixel.
    residual = (seen - made)[:, down][:, :, across]
    result = made
    for deviation in octaves:
        # A Gaussian over rows and columns, cut off and normalised anew at the borders, and carried on outwards.
        kernels = _gaussian(down, rows, deviation), _gaussian(across, columns, deviation)
        smooth = jnp.einsum("yh,nhwc,xw->nyxc", kernels[0], residual, kernels[1])
        result = result + (residual - smooth) * _fade(distance, 2 * deviation)
        residual = smooth
    result = result + residual * _fade(distance, width)
    return jnp.where(observed[..., None], seen, result)


def _gaussian(at: Array, counts: Array, deviation: float) -> Array:
    """[N, N]: row i weighs the places that count by their distance from place `at[i]`."""
    offsets = at[:, None] - jnp.arange(len(counts))
    weights = jnp.exp(-0.5 * (offsets / deviation) ** 2) * counts
    return weights / weights.sum(axis=1, keepdims=True)


def _away(nearest: Array) -> Array:
    """[N] float: how far each place is from the one that is nearest to it."""
    return jnp.abs(jnp.arange(len(nearest)) - nearest).astype(jnp.float32)


def _fade(distance: Array, width: float) -> Array:
    """1 at the border, 0 from `width` pixels on, a half cosine between."""
    return 0.5 + 0.5 * jnp.cos(jnp.pi * jnp.minimum(distance / width, 1.0))
