"""Detail from the clip itself: what was made is soft, and the source has sharp patches that look like it.

    job = with_detail(coarse)                    any job on latents, and if there is anything to do
    job.frames()                                 its frames, what was made with residuals of the source

At the networks' size each made patch is matched against all patches of the source, of frames spread over the clip. What
the source loses by being shrunk to that size and enlarged again, its residual, is what the made side has none of; that
of the match is added, blended over patches that overlap (self-example super-resolution: Freeman et al. 2002, Glasner et
al. 2009). What looked best in the frame before costs less than the rest, so that what stands still does not flicker. A
source patch whose residual is uneven, a line or an outline and no texture, costs more: a viewer would recognise it.

    72 x 128                          shrunk, enlarged          residual
    made patch  <- looks like ->      source patch              source - enlarged      added to the made patch, enlarged

Where what is seen is no rectangle, or moves (seen.py), detail is added wherever it is not trusted wholly, and none is
taken from what a mask hides. Frames stream; beside one at a time there are the residuals of `EXAMPLES` frames.
"""

import dataclasses
import functools
import math
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import ShapeDtypeStruct as Shape

from gp_jax.geometry import Canvas, tiles
from gp_jax.jobs.estimate import Effort, peak_bytes, seconds
from gp_jax.jobs.kept import Program
from gp_jax.jobs.programs import Call, Cost, prepare
from gp_jax.jobs.rates import Clock
from gp_jax.methods.latent_job import LatentJob
from gp_jax.methods.method import Estimate, Progress, observed, quiet
from gp_jax.methods.placement import Placement, to_float, to_native
from gp_jax.parallel import use_mesh

Array = jax.Array

PATCH, OVERLAP = 11, 5 / 11  # a side, in pixels of the networks' size; the share that made patches have in common
MARGIN = 2  # of these pixels, as far as enlarging looks
UNEVEN = 16.0  # what unevenness of a residual costs, of as much unlikeness
EXAMPLES = 4  # frames of the source that are looked at
STEADY = 0.5  # what the choice of the frame before costs, of what it would
LEARN, CARRY = "learn detail", "carry detail"  # stages of work
_BLOCK = 64  # made patches that are compared at once


class Examples(NamedTuple):
    """The source's patches."""

    looks: Any  # [N, D]: at the networks' size
    costs: Any  # [N]: what a choice costs however a made patch looks, |looks|^2 included
    corners: Any  # [N, 3] int32: frame, and row and column in `residuals`
    residuals: Any  # [K, Hs, Ws, 3]


class Patches(NamedTuple):
    """Where patches lie: numbers, not shapes."""

    corners: Any  # [N, 2] int32, at the networks' size
    full: Any  # [N, 2] int32, in the canvas


@functools.partial(Program, static_argnames=("size",))
def learn(
    sources: Array, hidden: Array | None, place: Placement, patches: Patches, *, size: tuple[int, int]
) -> Examples:
    """Looks at source frames.

    Args:
      sources: uint8 [K, Hs, Ws, 3].
      hidden: bool [K, Hs, Ws], what nobody may see of them; None for nothing.
      place: of the source at the networks' size.
      patches: those that lie within the source.
      size: height and width of the canvas.
    """
    low = to_native(sources, place)
    large = jax.image.resize(low, (len(low), *size, 3), "cubic")
    seen = jax.lax.dynamic_slice(large, (0, *place.corner, 0), sources.shape)
    looks = _all_looks(low, patches.corners)
    residuals = to_float(sources) - seen

    def shrunk(x: Array) -> Array:
        """[K, Hs, Ws, 1], at the networks' size."""
        shape, offset = (*low.shape[:3], 1), place.scale * place.corner
        return jax.image.scale_and_translate(x, shape, (1, 2), place.scale, offset, "linear", antialias=True)

    strength = shrunk(jnp.abs(residuals).mean(axis=-1, keepdims=True))
    costs = (looks**2).sum(axis=1) + UNEVEN * 3 * PATCH**2 * _all_looks(strength, patches.corners).var(axis=1)
    if hidden is not None:
        around = (1, 2 * MARGIN + 1, 2 * MARGIN + 1, 1)
        spoilt = jax.lax.reduce_window(shrunk(1.0 * hidden[..., None]), 0.0, jax.lax.max, around, (1, 1, 1, 1), "SAME")
        costs = jnp.where(_all_looks(spoilt, patches.corners).any(axis=1), jnp.inf, costs)
        residuals = jnp.where(jnp.isfinite(costs).any(), residuals, 0.0)
    count = len(patches.full)
    which = jnp.repeat(jnp.arange(len(low)), count)[:, None]
    corners = jnp.concatenate([which, jnp.tile(patches.full - place.corner, (len(low), 1))], axis=1)
    return Examples(looks, costs, corners, residuals)


@functools.partial(Program, static_argnames=("patch", "observed"))
def carry(
    frame: Array,
    trust: Array | None,
    before: Array,
    examples: Examples,
    place: Placement,
    patches: Patches,
    *,
    patch: tuple[int, int],
    observed: tuple[int, int],
) -> tuple[Array, Array]:
    """Adds detail to a frame.

    Args:
      frame: uint8 [H, W, 3], made at the networks' size and enlarged, the source in it.
      trust: uint8 [H, W], how far what is seen is trusted; None for a source at its place.
      before: [M] int, the choice of the frame before; any number below 0 for none.
      examples: of `learn`.
      place: of the source.
      patches: the made ones.
      patch: height and width of a patch in the canvas.
      observed: height and width of the source.

    Returns:
      uint8 [H, W, 3], the source as it was, and the choice, [M] int32.
    """
    low = jax.image.resize(to_float(frame), (*place.pixel_mask.shape, 3), "linear")
    looks = _looks(low, patches.corners)

    def choose(block: tuple[Array, Array]) -> Array:
        made, before = block
        cost = examples.costs - 2 * made @ examples.looks.T + (made**2).sum(axis=1, keepdims=True)
        favoured = jnp.arange(cost.shape[1]) == before[:, None]
        return jnp.where(favoured, STEADY * cost, cost).argmin(axis=1)

    missing = -len(looks) % _BLOCK
    blocks = jnp.pad(looks, ((0, missing), (0, 0))), jnp.pad(before, (0, missing))
    chosen = jax.lax.map(choose, jax.tree.map(lambda x: x.reshape(-1, _BLOCK, *x.shape[1:]), blocks))
    chosen = chosen.reshape(-1)[: len(looks)].astype(jnp.int32)
    down, across = (jnp.sin(jnp.pi * (jnp.arange(side) + 0.5) / side) ** 2 for side in patch)
    window = (down[:, None] * across)[..., None]

    def add(total: Array, at: tuple[Array, Array]) -> tuple[Array, None]:
        corner, source = at
        residual = jax.lax.dynamic_slice(examples.residuals, (*source, 0), (1, *patch, 3))[0]
        part = jnp.concatenate([window * residual, window], axis=-1)
        there = jax.lax.dynamic_slice(total, (*corner, 0), part.shape)
        return jax.lax.dynamic_update_slice(total, there + part, (*corner, 0)), None

    empty = jnp.zeros((*frame.shape[:2], 4))
    total, _ = jax.lax.scan(add, empty, (patches.full, examples.corners[chosen]))
    detail = total[..., :3] / jnp.maximum(total[..., 3:], 1e-9)
    made = to_float(frame) + (detail if trust is None else (1 - trust[..., None] / 255.0) * detail)
    made = jnp.round((jnp.clip(made, -1.0, 1.0) + 1.0) * 127.5).astype(jnp.uint8)
    if trust is not None:
        return jnp.where(trust[..., None] == 255, frame, made), chosen
    source = jax.lax.dynamic_slice(frame, (*place.corner, 0), (*observed, 3))
    return jax.lax.dynamic_update_slice(made, source, (*place.corner, 0)), chosen


def _looks(frame: Array, corners: Array) -> Array:
    """[h, w, C] -> [N, D], the patches at N corners."""
    cut = jax.vmap(lambda corner: jax.lax.dynamic_slice(frame, (*corner, 0), (PATCH, PATCH, frame.shape[2])))
    return cut(corners).reshape(len(corners), -1)


def _all_looks(frames: Array, corners: Array) -> Array:
    """[K, h, w, C] -> [K N, D]."""
    looks = jax.lax.map(lambda frame: _looks(frame, corners), frames)
    return looks.reshape(-1, looks.shape[-1])


def with_detail(job: LatentJob) -> "LatentJob | SourceDetailJob":
    """The job, in a `SourceDetailJob` where anything is made smaller than it is shown, beside a source that has patches
    to look at."""
    canvas, native = job.canvas, _native(job)
    is_smaller = native.height < canvas.height or native.width < canvas.width
    if job.is_complete or not is_smaller or not len(_within(native)):
        return job
    return SourceDetailJob(job)


class SourceDetailJob:
    """A job and what becomes of its frames; see `gp_jax.methods.method.Job` and `with_detail`.

    Args:
      coarse: makes the frames.
    """

    def __init__(self, coarse: LatentJob):
        self.coarse, self.clip, self.canvas, self.mesh = coarse, coarse.clip, coarse.canvas, coarse.mesh
        self.total, self.journal, self.place = coarse.total, coarse.journal, coarse.place
        native, canvas = _native(coarse), coarse.canvas
        scale = canvas.height / native.height, canvas.width / native.width
        sides = canvas.source_height, canvas.source_width
        self.patch = tuple(min(math.ceil(PATCH * factor), side) for factor, side in zip(scale, sides))
        self.source = self._patches(_within(native), (canvas.top, canvas.left), sides)
        unknown = self.place.pixel_mask if coarse.channels == 3 else None  # else another one in each frame
        made = tiles((native.height, native.width), (PATCH, PATCH), OVERLAP, unknown).corners
        self.made = self._patches(made, (0, 0), (canvas.height, canvas.width))
        self.examples = np.unique(np.linspace(0, len(self.clip) - 1, EXAMPLES).round().astype(int)).tolist()

    def _patches(self, corners: np.ndarray, first: tuple[int, int], sides: tuple[int, int]) -> Patches:
        """Patches of the canvas at these corners of the networks' frame, within a rectangle."""
        full = np.round(corners / self.place.scale)
        return Patches(corners, np.clip(full, first, np.add(first, sides) - self.patch).astype(np.int32))

    @property
    def estimate(self) -> Estimate:
        """See `Job`; compiles all programs."""
        return self._estimate

    @functools.cached_property
    def _estimate(self) -> Estimate:
        first = self.coarse.estimate
        stages = [Effort(cost.name, cost.work, cost.times, cost.flops, cost.bytes) for cost in self.costs]
        took = (first.seconds or 0) + seconds(stages, self.coarse.rates)
        held = 12 * len(self.examples) * self.canvas.source_height * self.canvas.source_width
        peak = max((first.peak_bytes or 0) + held, peak_bytes(self.costs, held))
        return dataclasses.replace(first, seconds=took, peak_bytes=peak)

    @functools.cached_property
    def costs(self) -> list[Cost]:
        """Of the programs beside the coarse job's, compiled."""
        with use_mesh(self.mesh):
            return prepare(self.calls())

    def calls(self) -> list[Call]:
        """How the programs beside the coarse job's will be called."""
        source = self.canvas.source_height, self.canvas.source_width, 3
        learning = self._learning(Shape((len(self.examples), *source), np.uint8))
        found = jax.eval_shape(functools.partial(learning.function, **learning.static), *learning.arguments)
        size, layered = (self.canvas.height, self.canvas.width), self.coarse.channels == 4
        trust = Shape(size, np.uint8) if layered else None
        carrying = self._carrying(Shape((*size, 3), np.uint8), trust, Shape((len(self.made.full),), np.int32), found)
        return [learning, dataclasses.replace(carrying, times=len(self.clip))]

    def frames(self, progress: Progress = quiet) -> Generator[np.ndarray, None, None]:
        """See `Job`."""
        clock, work = Clock(), {cost.name: cost.work for cost in self.costs}
        trusts: deque[np.ndarray | None] = deque()

        def told() -> Iterator[np.ndarray]:
            for pixels in self.coarse.pixels():
                trusts.append(pixels[..., 3] if self.coarse.channels == 4 else None)
                yield pixels

        with closing(self.coarse.frames(progress, told())) as frames:
            sources = np.stack(list(observed(self.clip, self.canvas, self.examples)))
            examples, before = self.coarse.called(self._learning(sources)), np.full(len(self.made.full), -1, np.int32)
            for frame in frames:
                with clock(CARRY, work[CARRY]):
                    made, before = self.coarse.called(self._carrying(frame, trusts.popleft(), before, examples))
                    made = np.asarray(made)
                yield made
        self.coarse.rates.learn(clock)

    @functools.cached_property
    def _hidden(self) -> np.ndarray | None:
        return self.coarse.hidden(self.examples)

    def _learning(self, sources: Any) -> Call:
        size = {"size": (self.canvas.height, self.canvas.width)}
        return Call(LEARN, learn, (sources, self._hidden, self.place, self.source), size)

    def _carrying(self, frame: Any, trust: Any, before: Any, examples: Any) -> Call:
        sizes = {"patch": self.patch, "observed": (self.canvas.source_height, self.canvas.source_width)}
        return Call(CARRY, carry, (frame, trust, before, examples, self.place, self.made), sizes)


def _native(job: LatentJob) -> Canvas:
    return job.canvas.resize(*job.place.pixel_mask.shape)


def _within(native: Canvas) -> np.ndarray:
    """[N, 2], corners of all patches of the source whose residual knows nothing of what lies beyond it."""
    rows, columns = (
        np.arange(first + MARGIN, first + side - MARGIN - PATCH + 1)
        for first, side in ((native.top, native.source_height), (native.left, native.source_width))
    )
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.int32)
