"""One clip on its way through networks that work on latents, as a stream: what all such methods do alike.

    decode, shrink   ->  spool                    once, by a thread: frames of the network's size, read in any order;
                                                  of clips that are too long to be kept, once for each level (passes.py)
    the clip         ->  networks                 once, where they are fitted to it first
    frames of all the clip  ->  tokens            once, for methods that have them
    spool            ->  level 0, level 1, ...    segments, each taken from the journal if an earlier run made it
    decode           ->  finish                   once more, ahead of the work: the source's own pixels go around it

A method says which programs there are and what their arguments are; how long all of it will take, in how much memory,
and what is left to do of it after a kill is known here. Its programs are told as `Call`s, of arrays to be run and of
shapes to be counted, so that what is estimated is what runs.

Kept are, of each level, only latents of completed frames that the next one still stands on, `4 * h * w * C` bytes each,
no more of them than a batch of segments has frames (execute.py).
"""

import functools
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, ClassVar, Protocol

import jax
import numpy as np
from jax import ShapeDtypeStruct as Shape
from jax.sharding import Mesh

from gp_jax.geometry import Canvas
from gp_jax.jobs.estimate import Effort, peak_bytes, rates_of_this_device, seconds
from gp_jax.jobs.journal import name_of
from gp_jax.jobs.passes import Passes
from gp_jax.jobs.programs import Call, Cost, prepare
from gp_jax.jobs.rates import Clock, Rates
from gp_jax.jobs.shared_journal import journal_of
from gp_jax.jobs.spool import Spool, check_room, is_kept
from gp_jax.methods.compositing import finish
from gp_jax.methods.method import Clip, Estimate, Progress, observed, quiet
from gp_jax.methods.placement import Placement, shrink
from gp_jax.methods.rows import slices_of
from gp_jax.methods.segments import Segment
from gp_jax.methods.streams import CHUNK_FRAMES, Make, chunk_size, fill, finished, native_frames, not_finite, reporting
from gp_jax.methods.tiling import Window
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.parallel import use_mesh
from gp_jax.parallel.gather import whole
from gp_jax.parallel.processes import is_first

# Stages of the work, by which its speed is remembered.
SHRINK, DECODE, TOKENS, FINISH = "shrink", "decode", "tokens", "finish"

Completed = Mapping[int, np.ndarray]


class Frames(Protocol):
    """Frames of `LatentJob.shape`, float32, by index."""

    def __getitem__(self, index: int) -> np.ndarray: ...


class LatentJob(ABC):
    """A clip and all that was decided of it; what `_identity` tells of it is there before this is initialised.

    Args:
      mesh: the devices, None for a single one.
      clip, canvas: what is to be made.
      frame: of whose rectangle the network's frame is a picture: the canvas, or one around it.
      place: of the source in the network's frame.
      vae: the autoencoder.
      length: frames of a segment.
      batch: segments denoised at once.
      work: a folder for the journal and for a spool that memory does not hold; None for no journal.

    Attributes:
      held: the type of what is told of the frames of a segment that are complete already.
      known: the shape of what is told of a frame that is complete, its latents' if nothing else is.
      prefix: of the names of stages that take another time here than in other methods.
      carrying: the same of stages that wait for what other frames show.
      channels: of what `pixels` gives: 3 for the source, 4 for layers (placement.py), which say of each frame what is
        seen of it.
      tokens: of the clip, once they are read.

    Raises:
      UserError: the folder holds other work, or there is no room for the spool.
    """

    held: ClassVar[Any]
    prefix: ClassVar[str] = ""
    carrying: str = ""
    channels: int = 3
    tokens: np.ndarray | None = None

    def __init__(
        self,
        mesh: Mesh | None,
        clip: Clip,
        canvas: Canvas,
        frame: Canvas,
        place: Placement,
        vae: AutoencoderKL,
        *,
        length: int,
        batch: int,
        work: Path | None,
    ):
        self.mesh, self.clip, self.canvas, self.frame, self.place, self.vae = mesh, clip, canvas, frame, place, vae
        self.length, self.slices, self.batch = length, slices_of(mesh), batch
        self.work = work if is_first() else None  # of several processes one keeps files there
        self.shape = (*place.pixel_mask.shape, self.channels)
        self.latents = (*place.latent_mask.shape, vae.config.latent_channels)
        self.known = self.latents
        self.is_kept = is_kept(len(clip), self.shape)
        self.disk_bytes = check_room(len(clip), self.shape, self.work) if self.is_kept else 0
        # What layers tell may be less than all of a canvas that the source fills.
        self.is_complete = canvas.is_complete and self.channels == 3
        self.journal = None if work is None or self.is_complete else journal_of(work, self._identity())

    @abstractmethod
    def _evaluations(self, number: int) -> int:
        """Network evaluations of a segment of a level, all branches of guidance together."""

    @abstractmethod
    def _segments(self) -> list[tuple[int, Sequence[Segment]]]:
        """Level and segments of each call of `_make`, by level and in the order of time."""

    @abstractmethod
    def _run(self, make: Make) -> Iterator[tuple[int, np.ndarray]]:
        """The latents of all frames, in the order of time; see execute.py."""

    @abstractmethod
    def _rows(self, number: int) -> int:
        """Segments of a level that are denoised at once, the batch filled up."""

    @abstractmethod
    def _stage(self, number: int) -> str:
        """The name under which the speed of a level is remembered."""

    @abstractmethod
    def _label(self, number: int) -> str:
        """A level, for people."""

    def _reading(self) -> Call | None:
        """The program that makes tokens of a clip; None for a method or a checkpoint without."""
        return None

    def _token_shape(self) -> tuple[int, ...]:
        """Of its outcome."""
        raise NotImplementedError

    def _read_clip(self, spool: Spool | Passes) -> np.ndarray:
        """Its outcome."""
        raise NotImplementedError

    def _tokens_of(self, segments: Sequence[Segment], tokens: np.ndarray | None) -> np.ndarray | None:
        """What segments are told of it, of `_token_shape`."""
        return tokens

    @abstractmethod
    def _columns(self, source: Frames, segments: Sequence[Segment], completed: Completed) -> Sequence[Sequence[Any]]:
        """For each segment its times [T] int, pixels [T, H, W, 3], latents of complete frames [T, h, w, C], and what is
        complete [T], of the type `held`."""

    @abstractmethod
    def _denoising(self, number: int, tokens: Any, times: Any, pixels: Any, latents: Any, held: Any) -> Call:
        """The program of a level; arguments with a row for each segment, arrays or shapes."""

    @property
    @abstractmethod
    def refinements(self) -> int:
        """Network evaluations of a tile of a window in `refining`."""

    @abstractmethod
    def refining(self, name: str, is_first: bool, window: Window) -> Call:
        """The program that refines frames in tiles (tiled.py): its outcome is their latents, [T, h, w, C].

        Args:
          name: of the stage of work.
          is_first: whether no frame of it is refined yet.
          window: the frames, arrays or shapes.
        """

    def _gathered(self, segments: Sequence[Segment], made: np.ndarray) -> dict[int, np.ndarray]:
        """By frame, what segments made of it: of [B, T, h, w, C]."""
        return {
            segment.frames[position]: made[row, position]
            for row, segment in enumerate(segments)
            for position in segment.kept
        }

    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """All that the latents depend on, bit for bit, for the journal."""

    def _fitting(self) -> Sequence[Call]:
        """Programs by which networks are fitted to the clip before anything is made of it; see adaptation.py."""
        return ()

    def _fit(self, timed: Callable[[str], AbstractContextManager], progress: Progress) -> None:
        """Fits them; `timed` is what a call is made in, by the name of its stage."""
        raise NotImplementedError

    def _finishing(self, latents: Any, pixels: Any) -> Call:
        """What makes frames of the canvas, of [N, h, w, C] latents and N of what `pixels` gives."""
        size = {"size": (self.canvas.height, self.canvas.width)}
        return Call(self.carrying + FINISH, finish, (self.vae, latents, pixels, self.place), size)

    def pixels(self) -> Iterator[np.ndarray]:
        """Uint8 of `_pixels_shape`: what networks are told of each frame, and what is put into it: the source."""
        return observed(self.clip, self.canvas, range(len(self.clip)))

    def hidden(self, indices: Sequence[int]) -> np.ndarray | None:
        """Bool [K, Hs, Ws], which pixels of the source nobody may see in frames with rising indices; None for none."""
        return None

    @property
    def _pixels_shape(self) -> tuple[int, int, int]:
        source = self.canvas.source_height, self.canvas.source_width
        return *(source if self.channels == 3 else (self.canvas.height, self.canvas.width)), self.channels

    def _pixels_bytes(self) -> int:
        """What `pixels` holds, beside the frames that it gives, where it runs once."""
        return 0

    def _native_frames(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Float of `shape`, of frames with rising indices."""
        if self.channels == 3:
            pixels = observed(self.clip, self.canvas, indices)
        else:  # layers come in the order of time
            wanted = set(indices)
            layers = enumerate(itertools.islice(self.pixels(), max(wanted, default=-1) + 1))
            pixels = (layer for index, layer in layers if index in wanted)
        return native_frames(pixels, self.place)

    def _source(self) -> Spool | Passes:
        """The clip's frames at the network's size: kept, or of a longer clip read once for each level."""
        if self.is_kept:
            return Spool(len(self.clip), self.shape, self.work)
        walks: dict[int, set[int]] = {}
        for number, segments in self._missing:
            walks.setdefault(number, set()).update(frame for segment in segments for frame in segment.frames)
        return Passes(self._native_frames, {number: sorted(frames) for number, frames in walks.items()}, CHUNK_FRAMES)

    @property
    def estimate(self) -> Estimate:
        """See `Job`; compiles all programs, so that only work is left to be estimated and done."""
        return self._estimate

    @functools.cached_property
    def _estimate(self) -> Estimate:
        if self.is_complete:
            return Estimate()
        costs, shrinking = self.costs[1:], self.costs[0]
        stages = [Effort(cost.name, cost.work, cost.times, cost.flops, cost.bytes) for cost in costs]
        if self._needs_source:
            pixels = math.prod(self._pixels_shape[:2])
            decoding = shrinking.bytes // CHUNK_FRAMES + 12 * pixels
            passes = 1 if self.is_kept else len({number for number, _ in self._missing})
            often = passes * len(self.clip)
            stages.append(Effort(self._decoding, pixels, often, shrinking.flops // CHUNK_FRAMES, decoding))
        evaluations = sum(self._evaluations(number) * len(segments) for number, segments in self._missing)
        idle = sum(
            self._evaluations(number) * (self._rows(number) - len(segments)) for number, segments in self._missing
        )
        return Estimate(
            evaluations,
            seconds(stages, self.rates),
            peak_bytes(self.costs, self.held_bytes),
            idle=idle,
            disk_bytes=self.disk_bytes + self._journal_bytes,
        )

    @property
    def _journal_bytes(self) -> int:
        """What the journal will have grown by at the end."""
        if self.journal is None:
            return 0
        kept = sum(len(segment.kept) for _, segments in self._missing for segment in segments)
        return 4 * math.prod(self.latents) * kept

    @property
    def held_bytes(self) -> int:
        """What is held beside a program at work."""
        frame = 4 * math.prod(self.shape)
        if self.is_kept:
            spool = len(self.clip) * frame - self.disk_bytes
        else:  # of each level a batch of segments, and what is read ahead
            spool = len({number for number, _ in self._missing}) * (self.batch * self.length + 2 * CHUNK_FRAMES) * frame
        # Decoded ahead, composited, and on their way to the encoder.
        frames = 4 * chunk_size(self.frame) * 3 * self.canvas.height * self.canvas.width
        return spool + frames + 2 * self._pixels_bytes()  # for the networks, and once more around them

    @functools.cached_property
    def rates(self) -> Rates:
        """What this device is known to do."""
        return rates_of_this_device()

    @functools.cached_property
    def costs(self) -> list[Cost]:
        """The job's programs, compiled: of `shrink` first, then of all whose calls are waited for."""
        calls = self.calls()
        local = iter(prepare([call for call in calls if call.function is shrink]))
        with use_mesh(self.mesh):
            others = iter(prepare([call for call in calls if call.function is not shrink]))
        return [next(local if call.function is shrink else others) for call in calls]

    def frames(
        self, progress: Progress = quiet, pixels: Iterator[np.ndarray] | None = None
    ) -> Generator[np.ndarray, None, None]:
        """See `Job`; nothing is to be made of a canvas that the source fills.

        `pixels` are those of `pixels()`, which goes into the frames, where somebody looks at them on the way.
        """
        if self.is_complete:
            return observed(self.clip, self.canvas, range(len(self.clip)))
        return self._frames(progress, self.pixels() if pixels is None else pixels)

    def _frames(self, progress: Progress, pixels: Iterator[np.ndarray]) -> Generator[np.ndarray, None, None]:
        progress(0, self.total, "reading")
        clock = Clock()
        with ExitStack() as stack:
            if self.journal is not None:
                stack.enter_context(self.journal)
            work = {cost.name: cost.work for cost in self.costs}
            if self._fitting():
                self._fit(lambda name: clock(name, work[name]), progress)
            spool = stack.enter_context(self._source())
            if self._needs_source and isinstance(spool, Spool):
                spool.fill(self._native_frames(range(len(self.clip))))
                last = max(self._segments()[0][1][0].denoised)  # nothing can be done before it is there
                with clock(self._decoding, math.prod(self._pixels_shape[:2]), last + 1):
                    spool[last]
            self.tokens = tokens = self._tokens(spool)

            def make(number: int, *arguments: Any) -> dict[int, np.ndarray]:
                with clock(self._stage(number), work[self._stage(number)]):
                    return self._make(spool, tokens, number, *arguments)

            progress(0, self.total, self._label(0))
            made = self._run(reporting(self.journal, make, self.total, self._label, progress))
            finishing = self.costs[-1]
            timed = functools.partial(clock, finishing.name, finishing.work)
            yield from finished(made, pixels, self._finish, chunk_size(self.frame), timed)
        self.rates.learn(clock)

    @property
    def _decoding(self) -> str:
        """The name of the stage in which a frame comes, is brought to the network's size and kept."""
        return self.carrying + self.prefix + DECODE

    @property
    def _told_tokens(self) -> Any:
        """Those of the clip; as long as they are not read, their shape; None for a method or a checkpoint without."""
        return Shape(self._token_shape(), np.float32) if self.tokens is None and self._reading() else self.tokens

    def _tokens(self, spool: Spool | Passes) -> np.ndarray | None:
        if self._reading() is None:
            return None
        if self.journal is None:
            return self._read_clip(spool)
        return self.journal.piece(TOKENS, lambda: {TOKENS: self._read_clip(spool)})[TOKENS]

    def _make(
        self,
        spool: Spool | Passes,
        tokens: np.ndarray | None,
        number: int,
        segments: Sequence[Segment],
        completed: Completed,
    ) -> dict[int, np.ndarray]:
        """The latents of the frames that some segments of a level make: a function of its arguments."""
        first = min(frame for segment in segments for frame in segment.frames)
        columns = self._columns(spool.along(number, first), segments, completed)
        rows = (fill(list(map(np.asarray, column)), self._rows(number)) for column in columns)
        made = self.called(self._denoising(number, self._tokens_of(segments, tokens), *rows))
        made = np.asarray(made)
        if not np.isfinite(made).all():
            raise not_finite("denoiser", [frame for segment in segments for frame in segment.frames])
        return self._gathered(segments, made)

    def _finish(self, latents: np.ndarray, pixels: np.ndarray) -> tuple[jax.Array, jax.Array]:
        return self.called(self._finishing(latents, pixels))

    def called(self, call: Call) -> Any:
        """What a program gives, run on the devices of the job; whole for each process."""
        with use_mesh(self.mesh):
            return whole(call.function(*call.arguments, **call.static))

    @property
    def total(self) -> int:
        """Segments of which `frames` tells that they are done, be they made or taken from the journal."""
        return sum(len(segments) for _, segments in self._segments())

    @functools.cached_property
    def _missing(self) -> list[tuple[int, Sequence[Segment]]]:
        """Level and segments of each call of `_make` that is to come, by level."""
        return [call for call in self._segments() if self.journal is None or not self.journal.has(name_of(*call))]

    @functools.cached_property
    def _needs_source(self) -> bool:
        """Whether anything is to be made of the source, or all is in the journal."""
        is_read = self.journal is not None and self.journal.has(TOKENS)
        return bool(self._missing) or (self._reading() is not None and not is_read)

    def calls(self) -> list[Call]:
        """How the programs will be called."""
        chunk, size = Shape((CHUNK_FRAMES, *self._pixels_shape), np.uint8), chunk_size(self.frame)
        calls = [Call(SHRINK, shrink, (chunk, self.place), times=-(-len(self.clip) // CHUNK_FRAMES)), *self._fitting()]
        if reading := self._reading():
            calls.append(reading)
        stages: dict[str, list[int]] = {}
        for number, _ in self._missing:
            stages.setdefault(self._stage(number), []).append(number)
        for numbers in stages.values():
            rows = self._rows(numbers[0]), self.length
            pixels, latents = (Shape((*rows, *inner), np.float32) for inner in (self.shape, self.known))
            call = self._denoising(
                numbers[0], self._told_tokens, Shape(rows, np.int32), pixels, latents, Shape(rows, self.held)
            )
            calls.append(_often(call, len(numbers)))
        pixels = Shape((size, *self._pixels_shape), np.uint8)
        last = self._finishing(Shape((size, *self.latents), np.float32), pixels)
        return [*calls, _often(last, -(-len(self.clip) // size))]


def _often(call: Call, times: int) -> Call:
    return Call(call.name, call.function, call.arguments, call.static, times)
