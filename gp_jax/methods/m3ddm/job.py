"""One clip on its way through M3DDM, as a stream.

    decode, shrink, guess   ->  spool                          once, by a thread: frames of the network's size
    decode                  ->  global tokens                  16 frames, spread over the clip
    spool                   ->  every 15th, every 5th, all     windows, each taken from the journal if it is there
    decode                  ->  finish                         the source's own pixels go around it

The network works at a size near the one that it was trained at, in the canvas' shape; what it makes there is brought up
to the canvas' size and put around the source, as GlobalPaint's work is. With `faithful` it works as it is published: on
a square in whose middle the canvas lies, all around the source masked, and the source is pasted with a hard edge.
"""

import dataclasses
import functools
import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
from jax.sharding import Mesh

from gp_jax.checkpoint.folder import Parts
from gp_jax.checkpoint.parameters import digest
from gp_jax.geometry import Canvas
from gp_jax.jobs.journal import Journal
from gp_jax.jobs.source import identity
from gp_jax.jobs.spool import Spool, check_room
from gp_jax.methods.execute import refine
from gp_jax.methods.globalpaint.conditioning import Placement
from gp_jax.methods.globalpaint.programs import finish
from gp_jax.methods.m3ddm import programs
from gp_jax.methods.m3ddm.options import Options
from gp_jax.methods.m3ddm.plan import hierarchy
from gp_jax.methods.method import Clip, Estimate, Progress, observed, quiet
from gp_jax.methods.segments import Segment
from gp_jax.methods.streams import chunk_size, fill, finished, native_frames, not_finite, reporting, surroundings
from gp_jax.parallel import use_mesh
from gp_jax.seeds import random_key
from gp_jax.video.clock import DEFAULT_RATE

RADIUS = 5  # pixels, of the first guess (TELEA's inpainting)


class OutpaintJob:
    """A clip and all that was decided of it; `Model.prepare` makes and checks it.

    Args:
      parts: `m3ddm`, `vae`, settings and schedule.
      mesh: the devices, None for a single one.
      clip, canvas: what is to be made.
      options: what was asked for, the checkpoint's own where nothing was.
      slices: windows that the mesh takes side by side.
      batch: windows denoised at once.
      work: a folder for the journal and for a spool that memory does not hold; None for no journal.

    Raises:
      UserError: the clip has no frames, the folder holds other work, or there is no room for the spool.
    """

    def __init__(
        self,
        parts: Parts,
        mesh: Mesh | None,
        clip: Clip,
        canvas: Canvas,
        options: Options,
        *,
        slices: int,
        batch: int,
        work: Path | None,
    ):
        self.parts, self.mesh, self.slices, self.batch, self.work = parts, mesh, slices, batch, work
        self.network, self.vae = parts.networks["m3ddm"], parts.networks["vae"]
        self.clip, self.canvas, self.options = clip, canvas, options
        self.levels = hierarchy(len(clip))
        self.total = sum(len(level.windows) for level in self.levels)
        cell = self.vae.config.downsampling
        multiple, area = cell * self.network.config.downsampling, parts.settings.native_area
        self.side = multiple * max(1, round(math.sqrt(area) / multiple))  # of the square of global frames
        self.frame = square(canvas) if options.faithful else canvas
        native = self.frame.resize(self.side, self.side) if options.faithful else canvas.native(area, multiple)
        self.place = Placement.of(self.frame, native, cell)
        if options.faithful:
            # Published is the nearest pixel's mask; a cell that is observed in part counts as unknown otherwise.
            self.place = self.place._replace(latent_mask=self.place.pixel_mask[::cell, ::cell])
        self.key = random_key(options.seed)
        info = getattr(clip, "info", None)
        self.frame_rate = DEFAULT_RATE if info is None else float(info.frame_rate)
        self.shape = (native.height, native.width, 3)
        check_room(len(clip), self.shape, work)
        self.journal = None if work is None or canvas.is_complete else Journal(work, self._identity())

    @property
    def estimate(self) -> Estimate:
        """See `Job`."""
        return Estimate(evaluations=self.total * (self.options.steps or 0) * programs.BRANCHES)

    def frames(self, progress: Progress = quiet) -> Generator[np.ndarray, None, None]:
        """See `Job`; nothing is to be made of a canvas that the source fills."""
        if self.canvas.is_complete:
            return observed(self.clip, self.canvas, range(len(self.clip)))
        return self._frames(progress)

    def _frames(self, progress: Progress) -> Generator[np.ndarray, None, None]:
        progress(0, self.total, self._label(0))
        with ExitStack() as stack:
            if self.journal is not None:
                stack.enter_context(self.journal)
            spool = stack.enter_context(Spool(len(self.clip), self.shape, self.work))
            spool.fill(map(self._guess, native_frames(self.clip, self.canvas, self.place, self.mesh)))
            make = functools.partial(self._make, spool, self._global_tokens())
            report = reporting(self.journal, make, self.total, self._label, progress)
            made = iter(())
            for number, level in enumerate(self.levels):
                # In the first level a window begins with the frame that the one before it ended with.
                batch = self.batch if number else 1
                made = refine(made, level.windows, batch, functools.partial(report, number))
            yield from finished(made, self.clip, self.canvas, self._finish, chunk_size(self.frame))

    def _guess(self, frame: np.ndarray) -> np.ndarray:
        """A frame of the network's size, what is unknown of it continued by TELEA's inpainting; [H, W, 3] in [-1, 1],
        of whole levels."""
        levels = np.round((np.clip(frame, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)
        made = cv2.inpaint(levels, self.place.pixel_mask.astype(np.uint8), RADIUS, cv2.INPAINT_TELEA)
        return made.astype(np.float32) / 127.5 - 1.0

    def _global_tokens(self) -> np.ndarray:
        if self.journal is None:
            return self._read_clip()
        return self.journal.piece("tokens", lambda: {"tokens": self._read_clip()})["tokens"]

    def _read_clip(self) -> np.ndarray:
        """Tokens of frames spread over the clip, each squashed to a square, its place in the canvas left out."""
        indices = np.linspace(0, len(self.clip) - 1, self.parts.settings.global_frames).astype(int)
        rising, size = sorted({*map(int, indices)}), (self.side, self.side)
        squares = {
            index: cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            for index, frame in zip(rising, observed(self.clip, self.canvas, rising))
        }
        with use_mesh(self.mesh):
            frames = np.stack([squares[index] for index in indices])
            return np.asarray(programs.read_clip(self.network, self.vae, self.key, indices.astype(np.int32), frames))

    def _make(
        self,
        source: Spool,
        tokens: np.ndarray,
        number: int,
        windows: Sequence[Segment],
        completed: Mapping[int, np.ndarray],
    ) -> dict[int, np.ndarray]:
        """The latents of the frames that some windows of a level keep, by index: a function of its arguments."""
        nothing = np.zeros((*self.place.latent_mask.shape, self.vae.config.latent_channels), np.float32)
        times, frames, latents, known = [], [], [], []
        for window in windows:
            times.append(window.times)
            frames.append(np.stack([source[frame] for frame in window.frames]))
            latents.append(np.stack([completed[f] if k else nothing for f, k in zip(window.frames, window.known)]))
            known.append(window.known)
        size = self.batch if number else self.slices
        with use_mesh(self.mesh):
            made = programs.make_windows(
                self.network,
                self.vae,
                self.key,
                *(fill(list(map(np.asarray, column)), size) for column in (times, frames, latents, known)),
                np.float32(math.floor(self.frame_rate / self.levels[number].stride)),
                tokens,
                self.place,
                np.array([self.options.local_guidance, self.options.guidance], np.float32),
                schedule=self.parts.schedule,
                steps=self.options.steps,
            )
        made = np.asarray(made)
        if not np.isfinite(made).all():
            raise not_finite("denoiser", [frame for window in windows for frame in window.frames])
        return {
            window.frames[position]: made[row, position]
            for row, window in enumerate(windows)
            for position in window.kept
        }

    def _finish(self, latents: np.ndarray, source: np.ndarray) -> tuple[jax.Array, jax.Array]:
        size = self.canvas.height, self.canvas.width
        with use_mesh(self.mesh):
            if not self.options.faithful:
                return finish(self.vae, latents, source, self.place, size=size)
            crop = np.array([self.frame.top - self.canvas.top, self.frame.left - self.canvas.left], np.int32)
            return programs.paste(self.vae, latents, source, self.place, crop, side=self.frame.height, size=size)

    def _label(self, number: int) -> str:
        stride = self.levels[number].stride
        return "all frames" if stride == 1 else f"every {stride}th frame"

    def _identity(self) -> dict[str, Any]:
        """All that the latents depend on, bit for bit, for the journal."""
        networks = {name: digest(self.parts.networks[name]) for name in ("m3ddm", "vae")}
        scheduler = {"scheduler": self.parts.schedule.to_config()}
        return {
            "method": "m3ddm",
            "source": identity(self.clip, self.canvas),
            "canvas": dataclasses.asdict(self.canvas),
            "checkpoint": networks | self.parts.settings.to_json() | scheduler,
            **dataclasses.asdict(self.options),
            "frame_rate": self.frame_rate,
            **surroundings(self.batch, self.mesh),
        }


def square(canvas: Canvas) -> Canvas:
    """The square in whose middle a canvas lies."""
    side = max(canvas.height, canvas.width)
    top, left = (side - canvas.height) // 2, (side - canvas.width) // 2
    return Canvas(side, side, top + canvas.top, left + canvas.left, canvas.source_height, canvas.source_width)
