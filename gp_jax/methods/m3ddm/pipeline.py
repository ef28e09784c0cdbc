"""Outpainting of whole clips by M3DDM: from frames to wider frames.

    model = Model.from_pretrained("m3ddm/")
    job = model.prepare(VideoReader("clip.mp4"), canvas, Options(seed=3))
    for frame in job.frames():                               uint8 [H, W, 3], observed pixels exactly the source's
        writer.write(frame)

The network works at a size near the one that it was trained at, in the canvas' shape; what it makes there is brought up
to the canvas' size and put around the source's own pixels, as GlobalPaint's work is. With `faithful` it works as it is
published: on a square in whose middle the canvas lies, all around the source masked, and the source is pasted.

Frames stream: the clip is read once for its global tokens, once per level and once for the result.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import cv2
import jax
import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike

from gp_jax.checkpoint.folder import Parts, load_parts
from gp_jax.diffusion.guidance import check_scales
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.jobs.compilation_cache import keep_programs
from gp_jax.memory import require
from gp_jax.methods.globalpaint.conditioning import Placement
from gp_jax.methods.globalpaint.execute import refine
from gp_jax.methods.globalpaint.plan import Segment
from gp_jax.methods.globalpaint.programs import finish, shrink
from gp_jax.methods.m3ddm import programs
from gp_jax.methods.m3ddm.options import Options
from gp_jax.methods.m3ddm.plan import hierarchy
from gp_jax.methods.method import Clip, Estimate, Progress, observed, quiet
from gp_jax.parallel import use_mesh
from gp_jax.seeds import check_seed, random_key

# Windows denoised at once, per slice of the mesh.
BATCH = {"cpu": 1}
DEFAULT_BATCH = 2
# Frames brought to another size or composited at once, fewer where they are large.
CHUNK_FRAMES, CHUNK_PIXELS = 8, 2**24
RADIUS = 5  # pixels, of the first guess (TELEA's inpainting)
FRAME_RATE = 24  # of clips that don't say theirs
FEWEST_STEPS = 3  # of the sampler


@dataclasses.dataclass(frozen=True)
class Model:
    """A checkpoint on its devices, ready for clips.

    Attributes:
      parts: `m3ddm`, `vae`, settings and schedule.
      mesh: the devices, None for a single one. Windows lie along its data axes.
    """

    parts: Parts
    mesh: Mesh | None = None

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | Path, mesh: Mesh | None = None, dtype: DTypeLike | None = None
    ) -> "Model":
        """Loads a checkpoint folder of M3DDM; see `checkpoint.folder.load_parts`."""
        keep_programs()
        return cls(load_parts(name_or_folder, "m3ddm", ("m3ddm", "vae"), mesh, dtype), mesh)

    def prepare(self, clip: Clip, canvas: Canvas, options: Options, batch: int | None = None) -> "OutpaintJob":
        """A clip's way through the networks, checked.

        Args:
          clip: of frames of the canvas' source size; if it has an `info`, its frame rate is told to the network.
          canvas: the target frame.
          options: what is asked for.
          batch: windows denoised at once.

        Raises:
          UserError: an option is out of range, or there are no frames.
        """
        settings = self.parts.settings
        steps = settings.steps if options.steps is None else options.steps
        if steps < FEWEST_STEPS:
            raise UserError(f"M3DDM's sampler takes {FEWEST_STEPS} steps or more, not {steps}")
        self.parts.schedule.positions(steps)
        local = settings.local_guidance if options.local_guidance is None else options.local_guidance
        whole = settings.guidance if options.guidance is None else options.guidance
        check_scales(local_guidance=local, guidance=whole)
        check_seed(options.seed)
        require(canvas.frame_bytes, f"a frame of {canvas.width}x{canvas.height} pixels")
        frame = _square(canvas) if options.faithful else canvas
        batch = batch or self.slices * BATCH.get(jax.default_backend(), DEFAULT_BATCH)
        return OutpaintJob(self, clip, canvas, frame, steps, np.float32([local, whole]), options.seed, batch)

    @property
    def slices(self) -> int:
        """How many windows the mesh takes side by side."""
        return math.prod(self.mesh.shape[axis] for axis in ("data", "fsdp")) if self.mesh else 1


class OutpaintJob:
    """One clip on its way through a model.

    Args:
      model, clip, canvas: see `Model.prepare`.
      frame: the canvas, or the square around it in which the network is to work.
      steps, scales: of the sampler; weights of the local and of the global condition.
      seed: of the clip.
      batch: windows denoised at once.
    """

    def __init__(
        self,
        model: Model,
        clip: Clip,
        canvas: Canvas,
        frame: Canvas,
        steps: int,
        scales: np.ndarray,
        seed: int,
        batch: int,
    ):
        self.parts, self.mesh, self.slices, self.batch = model.parts, model.mesh, model.slices, batch
        self.network, self.vae = model.parts.networks["m3ddm"], model.parts.networks["vae"]
        self.clip, self.canvas, self.frame, self.steps, self.scales = clip, canvas, frame, steps, scales
        self.levels = hierarchy(len(clip))
        self.total = sum(len(level.windows) for level in self.levels)
        self.cell = self.vae.config.downsampling
        multiple = self.cell * self.network.config.downsampling
        area = model.parts.settings.native_area
        self.side = multiple * max(1, round(math.sqrt(area) / multiple))  # of the square of global frames
        self.faithful = frame is not canvas
        native = frame.resize(self.side, self.side) if self.faithful else canvas.native(area, multiple)
        self.place = Placement.of(frame, native, self.cell)
        if self.faithful:
            # Published is the nearest pixel's mask; a cell that is observed in part counts as unknown otherwise.
            nearest = self.place.pixel_mask[:: self.cell, :: self.cell]
            self.place = self.place._replace(latent_mask=nearest)
        self.key = random_key(seed)
        info = getattr(clip, "info", None)
        self.frame_rate = FRAME_RATE if info is None else float(info.frame_rate)

    @property
    def estimate(self) -> Estimate:
        """See `Job`."""
        return Estimate(evaluations=self.total * self.steps * programs.BRANCHES)

    def frames(self, progress: Progress = quiet) -> Iterator[np.ndarray]:
        """See `Job`; nothing is to be made of a canvas that the source fills."""
        if self.canvas.is_complete:
            return observed(self.clip, self.canvas, range(len(self.clip)))
        return self._frames(progress)

    def _frames(self, progress: Progress) -> Iterator[np.ndarray]:
        done = 0

        def make(number: int, windows: Sequence[Segment], completed: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
            nonlocal done
            made = self.make(number, windows, completed, sources[number])
            done += len(windows)
            progress(done, self.total, self._label(number))
            return made

        progress(0, self.total, self._label(0))
        sources = [_Lookahead(self, [frame for window in level.windows for frame in window.frames])
                   for level in self.levels]  # fmt: skip
        self.tokens = self._read_clip()
        completed = iter(())
        for number, level in enumerate(self.levels):
            # In the first level a window begins with the frame that the one before it ended with.
            batch = self.batch if number else 1
            completed = refine(completed, level.windows, batch, functools.partial(make, number))
        yield from self._finished(completed)

    def make(
        self, number: int, windows: Sequence[Segment], completed: Mapping[int, np.ndarray], source: "_Lookahead"
    ) -> dict[int, np.ndarray]:
        """The latents of the frames that some windows of a level keep, by index: a function of its arguments.

        Args:
          number: of the level.
          windows: of that level.
          completed: latents of the frames that they know.
          source: the level's frames, to be taken in the order of time.
        """
        nothing = np.zeros((*self.place.latent_mask.shape, self.vae.config.latent_channels), np.float32)
        size = self.batch if number else self.slices
        times, frames, latents, known = [], [], [], []
        for window in windows:
            guesses = self._guesses(source.take(window.frames))
            times.append(window.times)
            frames.append(np.stack([guesses[frame] for frame in window.frames]))
            known.append(window.known)
            latents.append(np.stack([completed[f] if k else nothing for f, k in zip(window.frames, window.known)]))
        rate = np.float32(math.floor(self.frame_rate / self.levels[number].stride))
        with use_mesh(self.mesh):
            made = programs.make_windows(
                self.network,
                self.vae,
                self.key,
                *(_fill(list(map(np.asarray, column)), size) for column in (times, frames, latents, known)),
                rate,
                self.tokens,
                self.place,
                self.scales,
                schedule=self.parts.schedule,
                steps=self.steps,
            )
        made = np.asarray(made)
        if not np.isfinite(made).all():
            raise _not_finite("denoiser", [frame for window in windows for frame in window.frames])
        return {
            window.frames[position]: made[row, position]
            for row, window in enumerate(windows)
            for position in window.kept
        }

    def _read_clip(self) -> jax.Array:
        """Tokens of frames spread over the clip, each squashed to a square, its place in the canvas left out."""
        indices = np.linspace(0, len(self.clip) - 1, self.parts.settings.global_frames).astype(int)
        size = (self.side, self.side)
        squares = {
            index: cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            for index, frame in zip(sorted({*indices}), observed(self.clip, self.canvas, sorted({*indices})))
        }
        with use_mesh(self.mesh):
            frames = np.stack([squares[index] for index in indices])
            return programs.read_clip(self.network, self.vae, self.key, indices.astype(np.int32), frames)

    def _guesses(self, source: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """uint8 [H, W, 3] at the model's size: what is observed, continued by TELEA's inpainting."""
        unknown, made = self.place.pixel_mask.astype(np.uint8), {}
        rows = iter(source.items())
        while chunk := list(islice(rows, CHUNK_FRAMES)):
            pixels = np.asarray(shrink(_fill([frame for _, frame in chunk], CHUNK_FRAMES), self.place))
            pixels = np.round((np.clip(pixels, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)
            made |= {
                index: cv2.inpaint(frame, unknown, RADIUS, cv2.INPAINT_TELEA)
                for (index, _), frame in zip(chunk, pixels)
            }
        return made

    def _finished(self, completed: Iterator[tuple[int, np.ndarray]]) -> Iterator[np.ndarray]:
        """Frames of the canvas' size, of the latents of all frames in the order of time."""
        source = observed(self.clip, self.canvas, range(len(self.clip)))
        size = max(1, min(CHUNK_FRAMES, CHUNK_PIXELS // (self.frame.height * self.frame.width)))
        while chunk := list(islice(zip(completed, source), size)):
            latents = _fill([latents for (_, latents), _ in chunk], size)
            pixels = _fill([pixels for _, pixels in chunk], size)
            with use_mesh(self.mesh):
                frames, finite = self._finish(latents, pixels)
            if not finite:
                raise _not_finite("autoencoder", [index for (index, _), _ in chunk])
            yield from np.asarray(frames)[: len(chunk)]

    def _finish(self, latents: np.ndarray, pixels: np.ndarray) -> tuple[jax.Array, jax.Array]:
        size = self.canvas.height, self.canvas.width
        if not self.faithful:
            return finish(self.vae, latents, pixels, self.place, size=size)
        crop = np.array([self.frame.top - self.canvas.top, self.frame.left - self.canvas.left], np.int32)
        return programs.paste(self.vae, latents, pixels, self.place, crop, side=self.frame.height, size=size)

    def _label(self, number: int) -> str:
        stride = self.levels[number].stride
        return "all frames" if stride == 1 else f"every {stride}th frame"


class _Lookahead:
    """A level's source frames, read once, taken by window; windows that nobody asks for are passed over."""

    def __init__(self, job: OutpaintJob, frames: Sequence[int]):
        indices = sorted({*frames})
        self.pending = zip(indices, observed(job.clip, job.canvas, indices))
        self.held: dict[int, np.ndarray] = {}

    def take(self, frames: Sequence[int]) -> dict[int, np.ndarray]:
        """uint8 [Hs, Ws, 3] by index; `frames` rise, and begin no earlier than those taken before."""
        self.held = {index: frame for index, frame in self.held.items() if index >= frames[0]}
        while frames[-1] not in self.held:
            index, frame = next(self.pending)
            if index >= frames[0]:
                self.held[index] = frame
        return {index: self.held[index] for index in frames}


def _square(canvas: Canvas) -> Canvas:
    """The square in whose middle a canvas lies."""
    side = max(canvas.height, canvas.width)
    top, left = (side - canvas.height) // 2, (side - canvas.width) // 2
    return Canvas(side, side, top + canvas.top, left + canvas.left, canvas.source_height, canvas.source_width)


def _not_finite(network: str, frames: Sequence[int]) -> UserError:
    return UserError(
        f"the {network} made NaN or infinity of the frames {min(frames)} to {max(frames)}: its weights are broken, or "
        "the guidance is too strong or the dtype too narrow for it"
    )


def _fill(rows: Sequence[np.ndarray], size: int) -> np.ndarray:
    """A batch of `size` rows, the last one repeated: one shape, one program."""
    return np.stack([*rows, *[rows[-1]] * (size - len(rows))])
