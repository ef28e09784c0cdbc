"""One clip on its way through M3DDM: every 15th frame, every 5th, all.

How the work streams is the same for all methods on latents (../latent_job.py); here is what its programs are given.

The network works at a size near the one that it was trained at, in the canvas' shape; what it makes there is brought up
to the canvas' size and put around the source, as GlobalPaint's work is. With `faithful` it works as it is published: on
a square in whose middle the canvas lies, all around the source masked, and the source is pasted with a hard edge.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jax import ShapeDtypeStruct as Shape
from jax.sharding import Mesh

from gp_jax.checkpoint.folder import Parts
from gp_jax.checkpoint.parameters import digest
from gp_jax.diffusion.samplers import Trajectory, rest
from gp_jax.geometry import Canvas
from gp_jax.jobs.passes import Passes
from gp_jax.jobs.programs import Call
from gp_jax.jobs.source import identity
from gp_jax.jobs.spool import Spool
from gp_jax.methods.execute import cut, refine
from gp_jax.methods.latent_job import TOKENS, Frames, LatentJob
from gp_jax.methods.m3ddm import programs
from gp_jax.methods.m3ddm.options import Options
from gp_jax.methods.m3ddm.plan import LENGTH, hierarchy
from gp_jax.methods.m3ddm.refining import refine_frames
from gp_jax.methods.method import Clip, observed
from gp_jax.methods.placement import Placement
from gp_jax.methods.segments import Segment
from gp_jax.methods.streams import Make, surroundings
from gp_jax.methods.tiled import STRENGTH
from gp_jax.methods.tiling import Window
from gp_jax.models.m3ddm.encoder import token_count
from gp_jax.seeds import random_key

RADIUS = 5  # pixels, of the first guess (TELEA's inpainting)


class OutpaintJob(LatentJob):
    """A clip and all that was decided of it; `Model.prepare` makes and checks it.

    Args:
      parts: `m3ddm`, `vae`, settings and schedule.
      mesh: the devices, None for a single one.
      clip, canvas: what is to be made.
      options: what was asked for, the checkpoint's own where nothing was.
      frame_rate: of the clip, frames per second.
      batch: windows denoised at once.
      work: a folder for the journal and for a spool that memory does not hold; None for no journal.

    Raises:
      UserError: the clip has no frames, the folder holds other work, or there is no room for the spool.
    """

    held = np.bool_  # whether a frame's latents are known
    prefix = "m3ddm "

    def __init__(
        self,
        parts: Parts,
        mesh: Mesh | None,
        clip: Clip,
        canvas: Canvas,
        options: Options,
        frame_rate: float,
        *,
        batch: int,
        work: Path | None,
    ):
        self.parts, self.network, self.options = parts, parts.networks["m3ddm"], options
        vae = parts.networks["vae"]
        self.levels = hierarchy(len(clip))
        cell = vae.config.downsampling
        multiple, area = cell * self.network.config.downsampling, parts.settings.native_area
        self.side = multiple * max(1, round(math.sqrt(area) / multiple))  # of the square of global frames
        frame = square(canvas) if options.faithful else canvas
        native = frame.resize(self.side, self.side) if options.faithful else canvas.native(area, multiple)
        place = Placement.of(frame, native, cell)
        if options.faithful:
            # Published is the nearest pixel's mask; a cell that is observed in part counts as unknown otherwise.
            place = place._replace(latent_mask=place.pixel_mask[::cell, ::cell])
        self.key = random_key(options.seed)
        self.frame_rate = frame_rate
        super().__init__(mesh, clip, canvas, frame, place, vae, length=LENGTH, batch=batch, work=work)

    def _evaluations(self, number: int) -> int:
        return (self.options.steps or 0) * programs.BRANCHES

    def _segments(self) -> list[tuple[int, Sequence[Segment]]]:
        levels = enumerate(self.levels)
        return [(number, batch) for number, level in levels for batch in cut(level.windows, self._size(number))]

    def _run(self, make: Make) -> Iterator[tuple[int, np.ndarray]]:
        made = iter(())
        for number, level in enumerate(self.levels):
            made = refine(made, level.windows, self._size(number), functools.partial(make, number))
        return made

    def _size(self, number: int) -> int:
        """In the first level a window begins with the frame that the one before it ended with."""
        return self.batch if number else 1

    def _rows(self, number: int) -> int:
        return self.batch if number else self.slices

    def _stage(self, number: int) -> str:
        return f"{self.prefix}windows" if number else f"{self.prefix}first windows"

    def _label(self, number: int) -> str:
        stride = self.levels[number].stride
        return "all frames" if stride == 1 else f"every {stride}th frame"

    def _native_frames(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        return map(self._guess, super()._native_frames(indices))

    def _guess(self, frame: np.ndarray) -> np.ndarray:
        """A frame of the network's size, what is unknown of it continued by TELEA's inpainting; [H, W, 3] in [-1, 1],
        of whole levels."""
        levels = np.round((np.clip(frame, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)
        made = cv2.inpaint(levels, self.place.pixel_mask.astype(np.uint8), RADIUS, cv2.INPAINT_TELEA)
        return made.astype(np.float32) / 127.5 - 1.0

    def _reading(self) -> Call:
        count = self.parts.settings.global_frames
        return self._read(Shape((count,), np.int32), Shape((count, self.side, self.side, 3), np.uint8))

    def _token_shape(self) -> tuple[int, ...]:
        cells = self.side // self.vae.config.downsampling
        count = self.parts.settings.global_frames * token_count(cells, cells)
        return 2, count, self.network.config.cross_attention_dim

    def _read(self, indices: Any, frames: Any) -> Call:
        """See `programs.read_clip`."""
        return Call(self.prefix + TOKENS, programs.read_clip, (self.network, self.vae, self.key, indices, frames))

    def _read_clip(self, spool: Spool | Passes) -> np.ndarray:
        """Of frames spread over the clip, each squashed to a square, its place in the canvas left out."""
        indices = np.linspace(0, len(self.clip) - 1, self.parts.settings.global_frames).astype(int)
        rising, size = sorted({*map(int, indices)}), (self.side, self.side)
        squares = {
            index: cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            for index, frame in zip(rising, observed(self.clip, self.canvas, rising))
        }
        frames = np.stack([squares[index] for index in indices])
        return np.asarray(self.called(self._read(indices.astype(np.int32), frames)))

    def _columns(
        self, source: Frames, segments: Sequence[Segment], completed: Mapping[int, np.ndarray]
    ) -> Sequence[Sequence[Any]]:
        nothing = np.zeros(self.latents, np.float32)
        times, frames, latents, known = [], [], [], []
        for window in segments:
            times.append(window.times)
            frames.append(np.stack([source[frame] for frame in window.frames]))
            latents.append(np.stack([completed[f] if k else nothing for f, k in zip(window.frames, window.known)]))
            known.append(window.known)
        return times, frames, latents, known

    def _denoising(self, number: int, tokens: Any, times: Any, pixels: Any, latents: Any, held: Any) -> Call:
        arguments = (
            self.network,
            self.vae,
            self.key,
            times,
            pixels,
            latents,
            held,
            np.float32(math.floor(self.frame_rate / self.levels[number].stride)),
            tokens,
            self.place,
            self._scales,
        )
        static = {"schedule": self.parts.schedule, "steps": self.options.steps}
        return Call(self._stage(number), programs.make_windows, arguments, static)

    @property
    def refinements(self) -> int:
        return len(self._rest[0].steps.timestep) * programs.BRANCHES

    @functools.cached_property
    def _rest(self) -> tuple[Trajectory, np.ndarray]:
        assert self.options.steps is not None
        return rest(self.parts.schedule, "ddim", self.options.steps, STRENGTH)

    def refining(self, name: str, is_first: bool, window: Window) -> Call:
        path, level = self._rest
        arguments = (
            self.network,
            self.vae,
            self.key,
            window,
            np.float32(math.floor(self.frame_rate)),
            self._told_tokens,
            self._scales,
            path,
            level,
        )
        return Call(name, refine_frames, arguments)

    @property
    def _scales(self) -> np.ndarray:
        return np.array([self.options.local_guidance, self.options.guidance], np.float32)

    def _finishing(self, latents: Any, pixels: Any) -> Call:
        if not self.options.faithful:
            return super()._finishing(latents, pixels)
        crop = np.array([self.frame.top - self.canvas.top, self.frame.left - self.canvas.left], np.int32)
        sizes = {"side": self.frame.height, "size": (self.canvas.height, self.canvas.width)}
        return Call(f"{self.prefix}paste", programs.paste, (self.vae, latents, pixels, self.place, crop), sizes)

    def _identity(self) -> dict[str, Any]:
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
