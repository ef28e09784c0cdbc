"""One clip on its way through the networks, as a stream.

    decode, shrink   ->  spool                     once, by a thread: frames of the model's size, read in any order
    spool            ->  global tokens             a few frames, spread over the clip
    spool            ->  level 0, level 1, ...     segments, each taken from the journal if an earlier run made it
    decode           ->  finish                    once more, ahead of the work: the source's own pixels go around it

Kept are, of each level, only latents of completed frames that the next one still stands on, `4 * h * w * C` bytes each,
no more of them than a batch of segments has frames (execute.py).
"""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import ShapeDtypeStruct as Shape
from jax.sharding import Mesh

from gp_jax.checkpoint.folder import Checkpoint
from gp_jax.checkpoint.parameters import digest
from gp_jax.diffusion.samplers import OnStep
from gp_jax.geometry import Canvas, patch_positions
from gp_jax.jobs.estimate import Effort, peak_bytes, rates_of_this_device, seconds
from gp_jax.jobs.journal import Journal, name_of
from gp_jax.jobs.programs import Call, Cost, prepare
from gp_jax.jobs.rates import Clock, Rates
from gp_jax.jobs.source import identity
from gp_jax.jobs.spool import Spool, check_room
from gp_jax.methods.execute import batches, execute
from gp_jax.methods.globalpaint import programs
from gp_jax.methods.globalpaint.conditioning import Placement
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.globalpaint.plan import spread
from gp_jax.methods.method import Clip, Estimate, Progress, observed, quiet
from gp_jax.methods.segments import Plan, Segment
from gp_jax.methods.streams import (
    CHUNK_FRAMES,
    chunk_size,
    fill,
    finished,
    native_frames,
    not_finite,
    reporting,
    surroundings,
)
from gp_jax.parallel import use_mesh
from gp_jax.seeds import random_key

# Stages of the work, by which its speed is remembered.
SHRINK, DECODE, TOKENS, KEYS, BETWEEN, FINISH = "shrink", "decode", "tokens", "key frames", "interpolation", "finish"


class OutpaintJob:
    """A clip and all that was decided of it; `OutpaintPipeline.prepare` makes and checks it.

    Args:
      checkpoint: networks and settings.
      mesh: the devices, None for a single one.
      clip, canvas, plan, sampling: what is to be made, and how.
      options: what was asked for, the checkpoint's own where nothing was.
      text: [1, L, D] embedding of the prompt, None for none.
      null_text: [1, L, D], what guidance leads away from.
      slices: segments that the mesh takes side by side.
      batch: segments denoised at once.
      work: a folder for the journal and for a spool that memory does not hold; None for no journal.
      on_step: see `OutpaintPipeline.stream`; not called for what the journal knows.

    Raises:
      UserError: the folder holds other work, or there is no room for the spool.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        mesh: Mesh | None,
        clip: Clip,
        canvas: Canvas,
        plan: Plan,
        sampling: programs.Sampling,
        options: Options,
        text: np.ndarray | None,
        null_text: np.ndarray,
        *,
        slices: int,
        batch: int,
        work: Path | None,
        on_step: OnStep | None,
    ):
        self.checkpoint, self.mesh, self.slices, self.batch = checkpoint, mesh, slices, batch
        self.clip, self.canvas, self.plan, self.sampling = clip, canvas, plan, sampling
        cell = checkpoint.vae.config.downsampling
        self.native = canvas.native(checkpoint.settings.native_area, cell)
        self.place = Placement.of(canvas, self.native, cell)
        self.key = random_key(options.seed)
        self.text, self.null_text, self.on_step = text, null_text, on_step
        self.total = sum(map(len, plan.levels))
        self.work, self.shape = work, (self.native.height, self.native.width, 3)
        check_room(len(clip), self.shape, work)
        self.journal = None if work is None or canvas.is_complete else Journal(work, self._identity(options))

    @property
    def estimate(self) -> Estimate:
        """See `Job`; compiles all programs, so that only work is left to be estimated and done."""
        return self._estimate

    @functools.cached_property
    def _estimate(self) -> Estimate:
        if self.canvas.is_complete:
            return Estimate()
        steps = len(self.sampling.path.steps.timestep) * sum(self.sampling.branches)
        evaluations = steps * sum(len(segments) for _, segments in self._missing)
        costs, shrink = self.costs[1:], self.costs[0]
        stages = [Effort(cost.name, cost.work, cost.times, cost.flops, cost.bytes) for cost in costs]
        pixels = self.canvas.source_height * self.canvas.source_width
        if self._needs_source:
            decoding = shrink.bytes // CHUNK_FRAMES + 12 * pixels
            stages.append(Effort(DECODE, pixels, len(self.clip), shrink.flops // CHUNK_FRAMES, decoding))
        spool = len(self.clip) * 4 * math.prod(self.shape) - check_room(len(self.clip), self.shape, self.work)
        # Decoded ahead, composited, and on their way to the encoder.
        frames = 4 * chunk_size(self.canvas) * 3 * self.canvas.height * self.canvas.width
        return Estimate(evaluations, seconds(stages, self.rates), peak_bytes(self.costs, spool + frames))

    @functools.cached_property
    def rates(self) -> Rates:
        """What this device is known to do."""
        return rates_of_this_device()

    @functools.cached_property
    def costs(self) -> list[Cost]:
        """The job's programs, compiled: of `shrink` first, then of all whose calls are waited for."""
        with use_mesh(self.mesh):
            return prepare(self._calls())

    def frames(self, progress: Progress = quiet) -> Generator[np.ndarray, None, None]:
        """See `Job`; nothing is to be made of a canvas that the source fills."""
        if self.canvas.is_complete:
            return observed(self.clip, self.canvas, range(len(self.clip)))
        return self._frames(progress)

    def _frames(self, progress: Progress) -> Generator[np.ndarray, None, None]:
        progress(0, self.total, "reading")
        clock = Clock()
        with ExitStack() as stack:
            if self.journal is not None:
                stack.enter_context(self.journal)
            spool = stack.enter_context(Spool(len(self.clip), self.shape, self.work))
            work = {cost.name: cost.work for cost in self.costs}
            if self._needs_source:
                spool.fill(native_frames(self.clip, self.canvas, self.place, self.mesh))
                with clock(DECODE, self.canvas.source_height * self.canvas.source_width, len(self.clip)):
                    spool[self.plan.levels[0][0].denoised[-1]]  # nothing can be done before it is there
            tokens = self._global_tokens(spool)

            def make(number: int, *arguments: Any) -> dict[int, np.ndarray]:
                with clock(_level(number), work[_level(number)]):
                    return self._make(spool, tokens, number, *arguments)

            progress(0, self.total, self._label(0))
            made = execute(self.plan, reporting(self.journal, make, self.total, self._label, progress), self.batch)
            timed = functools.partial(clock, FINISH, work[FINISH])
            yield from finished(made, self.clip, self.canvas, self._finish, chunk_size(self.canvas), timed)
        self.rates.learn(clock)

    def _global_tokens(self, spool: Spool) -> np.ndarray | None:
        if self.checkpoint.vision is None or self.checkpoint.extractor is None:
            return None
        if self.journal is None:
            return self._read_clip(spool)
        return self.journal.piece(TOKENS, lambda: {TOKENS: self._read_clip(spool)})[TOKENS]

    def _read_clip(self, spool: Spool) -> np.ndarray:
        vision, extractor = self.checkpoint.vision, self.checkpoint.extractor
        count = self.checkpoint.settings.feature_frames
        indices = spread(len(self.clip), count)
        times = np.array(indices, np.float32) / max(len(self.clip) - 1, 1)
        pixels = fill([spool[index] for index in indices], count)
        valid = np.arange(count) < len(indices)
        with use_mesh(self.mesh):
            tokens = programs.read_clip(
                vision, extractor, pixels, self.place.pixel_mask, self._positions(), fill(list(times), count), valid
            )
        return np.asarray(tokens, np.float32)  # files have no bfloat16; the networks narrow it again, without loss

    def _make(
        self,
        source: Spool,
        tokens: np.ndarray | None,
        number: int,
        segments: Sequence[Segment],
        completed: Mapping[int, np.ndarray],
    ) -> dict[int, np.ndarray]:
        """The latents of the frames that some segments of a level make: a function of its arguments."""
        config = self.checkpoint.vae.config
        cell = config.downsampling
        nothing = np.zeros(self.shape, np.float32)
        no_latents = np.zeros((self.shape[0] // cell, self.shape[1] // cell, config.latent_channels), np.float32)
        times, pixels, latents, held = [], [], [], []
        for segment in segments:
            observed_frames = {frame: source[frame] for frame in segment.denoised}
            shares = dict(zip(segment.kept, segment.shares))
            hold = [1.0 if known else 1.0 - shares.get(at, 1.0) for at, known in enumerate(segment.known)]
            times.append(segment.times)
            pixels.append([observed_frames.get(frame, nothing) for frame in segment.frames])
            latents.append([completed[frame] if share else no_latents for frame, share in zip(segment.frames, hold)])
            held.append(np.array(hold, np.float32))
        size = self._rows(number)
        with use_mesh(self.mesh):
            made = programs.make_segments(
                self.checkpoint.interpolation_unet if number else self.checkpoint.unet,
                self.checkpoint.vae,
                self.key,
                *(fill(list(map(np.asarray, column)), size) for column in (times, pixels, latents, held)),
                self.text,
                self.null_text,
                tokens,
                self.place,
                self.sampling,
                shared_noise=self.checkpoint.schedule.shared_noise,
                on_step=self.on_step,
            )
        made = np.asarray(made)
        if not np.isfinite(made).all():
            raise not_finite("denoiser", [frame for segment in segments for frame in segment.frames])
        return {
            segment.frames[position]: made[row, position]
            for row, segment in enumerate(segments)
            for position in segment.kept
        }

    def _finish(self, latents: np.ndarray, source: np.ndarray) -> tuple[jax.Array, jax.Array]:
        size = self.canvas.height, self.canvas.width
        with use_mesh(self.mesh):
            return programs.finish(self.checkpoint.vae, latents, source, self.place, size=size)

    @functools.cached_property
    def _missing(self) -> list[tuple[int, Sequence[Segment]]]:
        """Level and segments of each call of `_make` that is to come, by level."""
        levels = enumerate(self.plan.levels)
        calls = [(number, batch) for number, level in levels for batch in batches(self.plan, level, self.batch)]
        return [call for call in calls if self.journal is None or not self.journal.has(name_of(*call))]

    @functools.cached_property
    def _needs_source(self) -> bool:
        """Whether anything is to be made of the source, or all is in the journal."""
        has_tokens = self.checkpoint.vision is not None and self.checkpoint.extractor is not None
        is_read = self.journal is not None and self.journal.has(TOKENS)
        return bool(self._missing) or (has_tokens and not is_read)

    def _calls(self) -> list[Call]:
        """How the programs will be called."""
        checkpoint, (height, width, _), settings = self.checkpoint, self.shape, self.checkpoint.settings
        source = Shape((CHUNK_FRAMES, self.canvas.source_height, self.canvas.source_width, 3), np.uint8)
        calls = [Call(SHRINK, programs.shrink, (source, self.place), times=-(-len(self.clip) // CHUNK_FRAMES))]
        tokens, count = None, settings.feature_frames
        if checkpoint.vision is not None and checkpoint.extractor is not None:
            arguments = (
                Shape((count, *self.shape), np.float32),
                self.place.pixel_mask,
                self._positions(),
                Shape((count,), np.float32),
                Shape((count,), bool),
            )
            calls.append(Call(TOKENS, programs.read_clip, (checkpoint.vision, checkpoint.extractor, *arguments)))
            config = checkpoint.extractor.config
            tokens = Shape((1, config.tokens, config.output_width), np.float32)
        cell, channels = checkpoint.vae.config.downsampling, checkpoint.vae.config.latent_channels
        latents = height // cell, width // cell, channels
        missing = [number for number, _ in self._missing]
        for number in sorted({min(number, 1) for number in missing}):
            rows = self._rows(number), settings.segment_frames
            arguments = (
                checkpoint.interpolation_unet if number else checkpoint.unet,
                checkpoint.vae,
                self.key,
                Shape(rows, np.int32),
                Shape((*rows, *self.shape), np.float32),
                Shape((*rows, *latents), np.float32),
                Shape(rows, np.float32),
                self.text,
                self.null_text,
                tokens,
                self.place,
                self.sampling,
            )
            static = {"shared_noise": checkpoint.schedule.shared_noise, "on_step": self.on_step}
            times = sum(min(other, 1) == number for other in missing)
            calls.append(Call(_level(number), programs.make_segments, arguments, static, times))
        pixels = Shape((chunk_size(self.canvas), *source.shape[1:]), np.uint8)
        arguments = checkpoint.vae, Shape((chunk_size(self.canvas), *latents), np.float32), pixels, self.place
        size = {"size": (self.canvas.height, self.canvas.width)}
        return [*calls, Call(FINISH, programs.finish, arguments, size, -(-len(self.clip) // chunk_size(self.canvas)))]

    def _positions(self) -> np.ndarray:
        assert self.checkpoint.vision is not None
        config = self.checkpoint.vision.config
        return patch_positions(self.native, config.image_size // config.patch_size)

    def _rows(self, number: int) -> int:
        """Segments of a level that are denoised at once. Key frames are one and chained ones come one by one: more
        than a row per slice would be idle work."""
        return self.batch if number and not self.plan.chained else self.slices

    def _label(self, number: int) -> str:
        return f"level {number} of {len(self.plan.levels) - 1}" if number else "key frames"

    def _identity(self, options: Options) -> dict[str, Any]:
        """All that the latents depend on, bit for bit, for the journal."""
        parts = {field.name: getattr(self.checkpoint, field.name) for field in dataclasses.fields(self.checkpoint)}
        networks = {name: digest(part) for name, part in parts.items() if isinstance(part, nnx.Module)}
        settings = self.checkpoint.settings
        texts = [text for text in (self.text, self.null_text) if text is not None]
        return {
            "method": "globalpaint",
            "source": identity(self.clip, self.canvas),
            "canvas": dataclasses.asdict(self.canvas),
            # What it is beside the digests of networks, which tell it too, so that it can be told by its name.
            "lora": self.checkpoint.lora or None,
            "checkpoint": networks | settings.to_json() | {"scheduler": self.checkpoint.schedule.to_config()},
            **dataclasses.asdict(options),
            "prompt_embeds": [hashlib.sha256(np.ascontiguousarray(text).data).hexdigest() for text in texts],
            **surroundings(self.batch, self.mesh),
        }


def _level(number: int) -> str:
    """The stage that a level belongs to."""
    return BETWEEN if number else KEYS
