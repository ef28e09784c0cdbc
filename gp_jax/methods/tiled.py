"""A job whose frames are refined at the canvas' own size, in tiles of the size that its networks know.

    coarse = OutpaintJob(...)                   any job on latents that knows its `refining`
    job = TiledJob(coarse, overlap=2)

    coarse.frames()  ->  windows of T frames  ->  latents of the whole canvas, in tiles  ->  the source around it

The coarse job makes the whole scene at the networks' size; what it makes, enlarged, is noised in part and denoised by
tiles (tiling.py), so that these agree on the scene. A window begins with the last frames of the one before it, which
are complete then and conditions for the others. Frames stream: held are those of a window, and the journal has
their latents in a folder beside the coarse job's own.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from itertools import islice
from typing import Any

import numpy as np
from jax import ShapeDtypeStruct as Shape

from gp_jax.geometry import Canvas
from gp_jax.jobs.estimate import Effort, peak_bytes, seconds
from gp_jax.jobs.journal import name_of
from gp_jax.jobs.programs import Call, Cost, prepare
from gp_jax.jobs.rates import Clock
from gp_jax.jobs.shared_journal import journal_of
from gp_jax.methods.latent_job import LatentJob
from gp_jax.methods.method import Estimate, Progress, quiet
from gp_jax.methods.placement import Placement
from gp_jax.methods.rows import rows_of_calls
from gp_jax.methods.segments import Segment, chain
from gp_jax.methods.streams import chunk_size, fill, not_finite
from gp_jax.methods.tiling import Grid, Window, finish_frames
from gp_jax.parallel import use_mesh

TILES = "tiles"  # the folder of its journal, and after a method's prefix the stage of work
STRENGTH = 0.25  # how much of the way from noise tiles go once more
FINISH = "finish tiles"
Timed = Callable[[str], AbstractContextManager]  # what a stage's call is made in


def full_size(canvas: Canvas, cell: int, tile: tuple[int, ...]) -> Canvas:
    """The same picture in whole cells, of sides as near to the canvas' as can be, but none shorter than a tile's: some
    networks take no smaller one."""
    sides = canvas.height, canvas.width
    return canvas.resize(*(max(cell * round(side / cell), least) for side, least in zip(sides, tile, strict=True)))


def needs_tiles(job: LatentJob) -> bool:
    """Whether anything is made, and the canvas is larger than what the networks make at once."""
    tile = job.place.pixel_mask.shape
    frame = full_size(job.canvas, job.vae.config.downsampling, tile)
    return not job.canvas.is_complete and (frame.height > tile[0] or frame.width > tile[1])


class TiledJob:
    """A coarse job and what becomes of its frames; see `gp_jax.methods.method.Job`.

    Args:
      coarse: makes the frames that are refined.
      overlap: frames that a window of tiles has from the one before it.
    """

    def __init__(self, coarse: LatentJob, overlap: int):
        self.coarse, self.overlap, self.canvas = coarse, overlap, coarse.canvas
        self.windows = chain(len(coarse.clip), coarse.length, overlap)
        self.stage = coarse.prefix + TILES
        cell = coarse.vae.config.downsampling
        frame = full_size(coarse.canvas, cell, coarse.place.pixel_mask.shape)
        self.place = Placement.of(coarse.canvas, frame, cell)
        tile = coarse.place.latent_mask.shape
        number = Grid.of(frame, (tile[0], tile[1]), cell, 1).number
        self.grid = Grid.of(frame, (tile[0], tile[1]), cell, rows_of_calls([number], coarse.slices, coarse.batch))
        self.latents = (*self.place.latent_mask.shape, coarse.vae.config.latent_channels)
        self.chunk = min(chunk_size(self.canvas), coarse.length)
        self.journal = None
        if coarse.journal is not None:
            self.journal = journal_of(coarse.journal.folder / TILES, coarse.journal.of)

    @property
    def total(self) -> int:
        """Segments and windows of which `frames` tells that they are done."""
        return self.coarse.total + len(self.windows)

    @property
    def estimate(self) -> Estimate:
        """See `Job`; compiles all programs."""
        return self._estimate

    @functools.cached_property
    def _estimate(self) -> Estimate:
        first, coarse = self.coarse.estimate, self.coarse
        stages = [Effort(cost.name, cost.work, cost.times, cost.flops, cost.bytes) for cost in self.costs]
        often = coarse.refinements * sum(cost.times for cost in self.costs if cost.name == self.stage)
        evaluations, idle = often * (self.grid.number - self.grid.idle), often * self.grid.idle
        # Frames of a window and of a chunk, as bytes, and their latents.
        frame = 3 * self.canvas.height * self.canvas.width + 4 * math.prod(self.latents)
        held = coarse.held_bytes + (coarse.length + 2 * self.chunk) * frame
        peak = peak_bytes([*coarse.costs, *self.costs], held)
        both = (first.seconds or 0) + seconds(stages, coarse.rates)
        disk = first.disk_bytes + (0 if self.journal is None else 4 * math.prod(self.latents) * len(coarse.clip))
        return Estimate(first.evaluations + evaluations, both, peak, first.idle + idle, disk)

    @functools.cached_property
    def costs(self) -> list[Cost]:
        """Of the programs beside the coarse job's, compiled."""
        with use_mesh(self.coarse.mesh):
            return prepare(self.calls())

    def calls(self) -> list[Call]:
        """How these will be called."""
        length, size = self.coarse.length, (self.canvas.height, self.canvas.width, 3)
        missing = [w for w in self.windows if self.journal is None or not self.journal.has(name_of(0, [w]))]
        times, frames = Shape((length,), np.int32), Shape((length, *size), np.uint8)
        columns = times, frames, Shape((length, *self.latents), np.float32), Shape((length,), np.bool_)
        window = Window(*columns, self.place, self.grid)
        calls = []
        for is_first in (True, False):
            if count := sum((one is self.windows[0]) == is_first for one in missing):
                call = self.coarse.refining(self.stage, is_first, window)
                calls.append(dataclasses.replace(call, times=count))
        chunks = -(-len(self.coarse.clip) // self.chunk)
        frames, latents = Shape((self.chunk, *size), np.uint8), Shape((self.chunk, *self.latents), np.float32)
        finishing = self._finishing(latents, frames)
        return [*calls, dataclasses.replace(finishing, times=chunks)]

    def frames(self, progress: Progress = quiet) -> Generator[np.ndarray, None, None]:
        """See `Job`."""
        clock, work = Clock(), {cost.name: cost.work for cost in self.costs}
        done = {"coarse": 0, TILES: 0}

        def report(stage: str, count: int, label: str) -> None:
            done[stage] = count
            progress(sum(done.values()), self.total, label)

        def timed(name: str) -> AbstractContextManager:
            return clock(name, work[name])

        with ExitStack() as stack:
            coarse = self.coarse.frames(lambda count, _, label: report("coarse", count, label))
            made = self._made(stack.enter_context(closing(coarse)), stack, timed, report)
            while chunk := list(islice(made, self.chunk)):
                indices, latents, frames = zip(*chunk)
                with timed(FINISH):
                    call = self._finishing(fill(latents, self.chunk), fill(frames, self.chunk))
                    finished, finite = self.coarse.called(call)
                    if not finite:
                        raise not_finite("autoencoder", indices)
                    finished = np.asarray(finished)[: len(chunk)]
                yield from finished
        self.coarse.rates.learn(clock)

    def _made(
        self, coarse: Iterator[np.ndarray], stack: ExitStack, timed: Timed, report: Callable[[str, int, str], None]
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Index, latents and coarse frame of all frames; `stack` keeps the journal open."""
        frames: dict[int, np.ndarray] = {}
        latents: dict[int, np.ndarray] = {}
        for number, window in enumerate(self.windows, start=1):
            for index in range(max(frames, default=-1) + 1, window.frames[-1] + 1):
                frames[index] = next(coarse)
            if number == 1 and self.journal is not None:
                stack.enter_context(self.journal)  # after the coarse job's own, in whose folder it lies
            make = functools.partial(self._make, window, frames, latents, timed)
            made = make() if self.journal is None else self.journal.piece(name_of(0, [window]), make)
            latents |= {int(index): array for index, array in made.items()}
            report(TILES, number, f"window {number} of {len(self.windows)}, in tiles")
            for index in window.made:
                yield index, latents[index], frames[index]
            # The next window begins with the last frames of this one.
            for index in [index for index in frames if index <= window.frames[-1] - self.overlap]:
                del frames[index], latents[index]
        next(coarse, None)  # behind its last frame it learns how fast this device is

    def _make(
        self, window: Segment, frames: Mapping[int, np.ndarray], latents: Mapping[int, np.ndarray], timed: Timed
    ) -> dict[str, np.ndarray]:
        """The latents of the frames that a window makes, by the index of the frame."""
        nothing = np.zeros(self.latents, np.float32)
        completed = [latents[frame] if known else nothing for frame, known in zip(window.frames, window.known)]
        pixels = np.stack([frames[frame] for frame in window.frames])
        columns = np.array(window.times, np.int32), pixels, np.stack(completed), np.array(window.known)
        told = Window(*columns, self.place, self.grid)
        with timed(self.stage):
            call = self.coarse.refining(self.stage, not window.boundary, told)
            made = np.asarray(self.coarse.called(call))
        if not np.isfinite(made).all():
            raise not_finite("denoiser", window.frames)
        return {str(window.frames[position]): made[position] for position in window.kept}

    def _finishing(self, latents: Any, frames: Any) -> Call:
        observed = {"observed": (self.canvas.source_height, self.canvas.source_width)}
        return Call(FINISH, finish_frames, (self.coarse.vae, latents, frames, self.place, self.grid), observed)
