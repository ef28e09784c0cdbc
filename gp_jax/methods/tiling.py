"""A frame that is larger than a network's, in tiles: cut, made one batch after another, and blended.

    grid = Grid.of(canvas, native, 8, at_once=4)          where the tiles lie, in pixels and in latents
    latents = over_tiles(make, grid, "latents", shape)    the blend of what `make` gives of each batch of tiles

    def make(batch: Grid) -> Array:                       [n, T, h, w, C], of tiles at batch.latents.corners
        return encode(vae, cut(pixels, batch.pixels))

A sampler that calls its network so in every step (`blended`) denoises one large picture (Bar-Tal et al. 2023,
"MultiDiffusion", arXiv 2302.08113): where tiles overlap they agree after each step. Tiles without an unknown pixel are
left out. Tiles of a batch are an axis as segments are, spread over the mesh; batches come one after another, so memory
is that of one.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.geometry import Canvas, Tiles, latent_mask, tiles, weighed
from gp_jax.jobs.kept import Program
from gp_jax.methods.compositing import blend, laid_over
from gp_jax.methods.latents import encode
from gp_jax.methods.placement import Placement, to_float
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.parallel import constrain

Array = jax.Array


class Grid(NamedTuple):
    """The same tiles in pixels and in latents, [M, n, ...] each: M batches of n; outside of a program, numpy's."""

    pixels: Tiles
    latents: Tiles

    @classmethod
    def of(cls, frame: Canvas, tile: tuple[int, int], cell: int, at_once: int) -> "Grid":
        """Of a frame that is to be made at its own size.

        Args:
          frame: its sides are multiples of `cell`.
          tile: rows and columns of a tile, in latents.
          cell: pixels of a latent's side.
          at_once: n; the last batch is filled up by tiles that count nothing.
        """
        unknown = latent_mask(frame, cell)
        latents = tiles(unknown.shape, tile, wanted=unknown)
        sides = [cell * side for side in latents.weights.shape[1:]]
        pixels = weighed(cell * latents.corners, (sides[0], sides[1]), (frame.height, frame.width))
        return cls(_batched(pixels, at_once), _batched(latents, at_once))

    @property
    def number(self) -> int:
        """Of tiles, those that only fill a batch among them."""
        return self.latents.corners.shape[0] * self.latents.corners.shape[1]

    @property
    def idle(self) -> int:
        """How many of them only fill the last batch."""
        return int((self.latents.weights == 0).all((2, 3)).sum())


class Window(NamedTuple):
    """Some frames of a clip that are made together, in tiles.

    Attributes:
      times: [T] int.
      frames: uint8 [T, Hc, Wc, 3] of the canvas, complete but soft.
      completed: [T, h, w, C] latents, read where `known`.
      known: [T] bool, whether a frame is refined already and a condition for the others.
      place: of the source in the frame that is made, [H, W] of the canvas or the nearest multiples of a cell.
      grid: its tiles.
    """

    times: Any
    frames: Any
    completed: Any
    known: Any
    place: Placement
    grid: Grid

    @property
    def pixels(self) -> Array:
        """[T, H, W, 3] in [-1, 1]."""
        return resized(to_float(self.frames), self.place.pixel_mask.shape)


def cut(picture: Array, place: Tiles) -> Array:
    """[T, H, W, C] -> [n, T, h, w, C], the tiles at n corners."""
    size = (picture.shape[0], *place.weights.shape[1:], picture.shape[3])
    return jax.vmap(lambda corner: jax.lax.dynamic_slice(picture, (0, *corner, 0), size))(place.corners)


def encode_tiles(vae: AutoencoderKL, pixels: Array, grid: Grid, noise: Array | None = None) -> Array:
    """Scaled latents of frames, see `encode`: [T, H, W, 3] in [-1, 1], and [T, h, w, C] -> float32 [T, h, w, C]."""

    def make(batch: Grid) -> Array:
        parts = None if noise is None else cut(noise, batch.latents)
        return encode(vae, cut(pixels, batch.pixels), parts)

    cell = vae.config.downsampling
    sides = pixels.shape[1] // cell, pixels.shape[2] // cell
    return over_tiles(make, grid, "latents", (len(pixels), *sides, vae.config.latent_channels))


def blended(network: Callable[[Grid, Array, Array], Array], grid: Grid) -> Callable[[Array, Array], Array]:
    """What a sampler calls to denoise one large picture.

    Args:
      network: (a batch of n tiles, their latents [n, T, h, w, C], timestep) -> the prediction, of that shape.
      grid: of all tiles.

    Returns:
      (latents [1, T, H, W, C], timestep) -> the prediction.
    """

    def denoise(latents: Array, timestep: Array) -> Array:
        def make(batch: Grid) -> Array:
            return network(batch, laid_out(cut(latents[0], batch.latents)), timestep)

        return over_tiles(make, grid, "latents", latents.shape[1:])[None]

    return denoise


def laid_out(parts: Array) -> Array:
    """[n, T, h, w, C] of tiles, over the mesh."""
    return constrain(parts, "batch", "frame", None, None, None)


def over_tiles(make: Callable[[Grid], Array], grid: Grid, unit: str, shape: tuple[int, ...]) -> Array:
    """The sum of all tiles times their weights.

    Args:
      make: a batch of tiles, [n, ...] each -> [n, T, h, w, C].
      grid: of all tiles.
      unit: "pixels" or "latents", what `make` gives.
      shape: [T, H, W, C] of the whole.

    Returns:
      float32 of that shape, 0 where no tile lies.
    """

    def add(total: Array, batch: Grid) -> tuple[Array, None]:
        place: Tiles = getattr(batch, unit)
        parts = make(batch) * place.weights[:, None, :, :, None]
        for part, corner in zip(parts, place.corners):
            at = (0, *corner, 0)
            there = jax.lax.dynamic_slice(total, at, part.shape)
            total = jax.lax.dynamic_update_slice(total, there + part, at)
        return total, None

    return jax.lax.scan(add, jnp.zeros(shape, jnp.float32), grid)[0]


@functools.partial(Program, static_argnames=("observed",))
def finish_frames(
    vae: AutoencoderKL, latents: Array, frames: Array, place: Placement, grid: Grid, *, observed: tuple[int, int]
) -> tuple[Array, Array]:
    """Decodes and composites.

    Args:
      latents: [N, h, w, C], 0 where no tile lies.
      frames: uint8 [N, Hc, Wc, 3] of the canvas, complete but soft; these stay where no tile lies.
      place: of the source in the frame that is made, [H, W] of the canvas or the nearest multiples of a cell.
      grid: its tiles.
      observed: height and width of the source.

    Returns:
      [N, Hc, Wc, 3] uint8, and whether all that was decoded is finite.
    """
    pixels = resized(to_float(frames), place.pixel_mask.shape)

    def decode(batch: Grid) -> Array:
        parts = constrain(cut(latents, batch.latents), "batch", None, None, None, None)
        decoded = vae.decode(parts.reshape(-1, *parts.shape[2:]) / vae.config.scaling_factor)
        return decoded.reshape(*parts.shape[:2], *decoded.shape[1:])

    made = over_tiles(decode, grid, "pixels", pixels.shape)
    ones = jnp.ones((1, *pixels.shape[1:3], 1))
    cover = over_tiles(lambda batch: cut(ones, batch.pixels), grid, "pixels", ones.shape)
    made = jnp.where(cover > 0.5, made, pixels)
    source = jax.lax.dynamic_slice(frames, (0, *place.corner, 0), (len(frames), *observed, 3))
    shorter = min(side * own / full for side, own, full in zip(observed, pixels.shape[1:3], frames.shape[1:3]))
    large = resized(blend(made, pixels, place.pixel_mask, shorter), (frames.shape[1], frames.shape[2]), "cubic")
    return laid_over(large, source, place), jnp.isfinite(made).all()


def resized(pixels: Array, size: tuple[int, int], method: str = "linear") -> Array:
    """[N, H, W, 3], by a few pixels a side; as they are where that is their size."""
    return pixels if pixels.shape[1:3] == size else jax.image.resize(pixels, (len(pixels), *size, 3), method)


def _batched(place: Tiles, size: int) -> Tiles:
    missing = -len(place.corners) % size
    corners = np.pad(place.corners, ((0, missing), (0, 0)), mode="edge")
    weights = np.pad(place.weights, ((0, missing), (0, 0), (0, 0)))
    return Tiles(corners.reshape(-1, size, 2), weights.reshape(-1, size, *weights.shape[1:]))
