"""One clip on its way through MOTIA: learned by a LoRA, encoded, then step by step, all its windows in each.

How the work streams is the same for all methods on latents (../latent_job.py), with one difference: a step needs all
windows of the step before, so that the latents of the whole clip are kept, twice 64 KiB a frame of 512 x 512 pixels.
Level 0 is what sampling begins with, level n the n-th step. The journal keeps level 0 and the last two steps.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from gp_jax.checkpoint.folder import Parts
from gp_jax.checkpoint.parameters import digest
from gp_jax.diffusion.guidance import branches_of
from gp_jax.diffusion.samplers import part
from gp_jax.diffusion.tables import rates
from gp_jax.geometry import Canvas
from gp_jax.jobs.journal import name_of
from gp_jax.jobs.programs import Call
from gp_jax.jobs.source import identity
from gp_jax.methods.execute import cut
from gp_jax.methods.latent_job import Frames, LatentJob
from gp_jax.methods.method import Clip, Progress
from gp_jax.methods.motia import programs
from gp_jax.methods.motia.clip_lora import ClipLora
from gp_jax.methods.motia.insertion import insertion
from gp_jax.methods.motia.options import Options
from gp_jax.methods.motia.plan import LENGTH, chunks, windows
from gp_jax.methods.motia.refining import refine_frames
from gp_jax.methods.motia.schedule import Row, rows
from gp_jax.methods.placement import Placement
from gp_jax.methods.segments import Segment
from gp_jax.methods.streams import Make, surroundings
from gp_jax.methods.tiled import STRENGTH, full_size
from gp_jax.methods.tiling import Window
from gp_jax.models.unet import UNet
from gp_jax.seeds import random_key


class OutpaintJob(LatentJob):
    """A clip and all that was decided of it; `Model.prepare` makes and checks it.

    Args:
      parts: `unet`, `controlnet`, `vae`, settings and schedule.
      mesh: the devices, None for a single one.
      clip, canvas, rows: what is to be made, and how.
      native: the canvas at the networks' size.
      options: what was asked for, the published numbers where nothing was.
      text: [1, L, D] embedding of the prompt, None for none.
      null_text: [1, L, D], what guidance leads away from.
      batch: windows denoised at once.
      work: a folder for the journal and for a spool that memory does not hold; None for no journal.
      lora: what is fitted to the clip first, None for nothing.

    Raises:
      UserError: the clip has no frames, the folder holds other work, or there is no room for the spool.
    """

    held = np.float32  # the share of a window in a frame
    prefix = "motia "

    def __init__(
        self,
        parts: Parts,
        mesh: Mesh | None,
        clip: Clip,
        canvas: Canvas,
        native: Canvas,
        rows: Sequence[Row],
        options: Options,
        text: np.ndarray | None,
        null_text: np.ndarray,
        *,
        batch: int,
        work: Path | None,
        lora: ClipLora | None,
    ):
        self.lora = lora
        self.parts, self.rows, self.options, self.text, self.null_text = parts, rows, options, text, null_text
        self.key = random_key(options.seed)
        self.chunks, self.windows = chunks(len(clip)), windows(len(clip))
        vae = parts.networks["vae"]
        cell = vae.config.downsampling
        self.insertion = insertion(native, options.insertion)
        place = Placement.of(canvas, native, cell)
        super().__init__(mesh, clip, canvas, canvas, place, vae, length=LENGTH, batch=batch, work=work)
        self.known = (*self.latents[:2], 2 * self.latents[2])  # what stands before a step, and the source's

    def _evaluations(self, number: int) -> int:
        return sum(self._branches(number)) if number else 0

    def _segments(self) -> list[tuple[int, Sequence[Segment]]]:
        """Those of level 0, and of the steps from the last one on that the journal has the whole of."""
        levels = [0, *range(self._from, len(self.rows) + 1)]
        return [(number, batch) for number in levels for batch in self._batches(number)]

    def _batches(self, number: int) -> list[Sequence[Segment]]:
        return cut(self.windows if number else self.chunks, self.batch)

    @functools.cached_property
    def _from(self) -> int:
        if self.journal is None:
            return 1
        steps = range(len(self.rows), 1, -1)
        has = self.journal.has
        return next((n for n in steps if all(has(name_of(n, batch)) for batch in self._batches(n))), 1)

    def _run(self, make: Make) -> Iterator[tuple[int, np.ndarray]]:
        state: dict[int, np.ndarray] = {}
        for batch in self._batches(0):
            state.update(make(0, batch, {}))
        channels = self.latents[2]
        for number in range(self._from, len(self.rows) + 1):
            means: dict[int, np.ndarray] = {}
            for batch in self._batches(number):
                _add(means, make(number, batch, state))
            state = {index: np.concatenate([mean, state[index][..., channels:]], -1) for index, mean in means.items()}
            if self.journal is not None and number > 1:
                for batch in self._batches(number - 1):
                    self.journal.drop(name_of(number - 1, batch))
        yield from ((index, state[index][..., :channels]) for index in sorted(state))

    def _gathered(self, segments: Sequence[Segment], made: np.ndarray) -> dict[int, np.ndarray]:
        if made.shape[-1] != self.latents[2]:
            return super()._gathered(segments, made)
        sums: dict[int, np.ndarray] = {}
        for row, segment in enumerate(segments):
            _add(sums, {segment.frames[position]: made[row, position] for position in segment.kept})
        return sums

    def _fitting(self) -> Sequence[Call]:
        return self.lora.calls(self.journal) if self.lora else ()

    def _fit(self, timed: Callable[[str], AbstractContextManager], progress: Progress) -> None:
        if self.lora:
            self.lora.fit(self.journal, timed, progress)

    def _rows(self, number: int) -> int:
        return self.batch

    def _stage(self, number: int) -> str:
        return (
            f"{self.prefix}{'guided ' * (sum(self._branches(number)) > 1)}steps" if number else f"{self.prefix}encode"
        )

    def _label(self, number: int) -> str:
        return f"step {number} of {len(self.rows)}" if number else "encoding"

    def _columns(
        self, source: Frames, segments: Sequence[Segment], completed: Mapping[int, np.ndarray]
    ) -> Sequence[Sequence[Any]]:
        nothing = np.zeros(self.known, np.float32)
        times, pixels, state, shares = [], [], [], []
        for window in segments:
            times.append(window.times)
            pixels.append(np.stack([source[frame] for frame in window.frames]))
            state.append(np.stack([completed.get(frame, nothing) for frame in window.frames]))
            filled = [*window.shares, *[0.0] * (self.length - len(window.shares))]
            shares.append(np.array(filled, np.float32))
        return times, pixels, state, shares

    def _denoising(self, number: int, tokens: Any, times: Any, pixels: Any, latents: Any, held: Any) -> Call:
        if number == 0:
            return Call(self._stage(0), programs.encode_frames, (self.vae, self.key, times, pixels, self.place))
        arguments = (
            self._unet,
            self.parts.networks["controlnet"],
            self.key,
            times,
            pixels,
            latents,
            held,
            self.text,
            self.null_text,
            self.insertion,
            self.place,
            self.rows[number - 1],
        )
        static = {"branches": self._branches(number)}
        return Call(self._stage(number), programs.step_windows, arguments, static)

    def _branches(self, number: int) -> tuple[bool, ...]:
        return self._branches_of(self.rows[number - 1])

    def _branches_of(self, row: Row) -> tuple[bool, ...]:
        return branches_of(float(row.guidance), 1.0, self.text is not None, False)

    @property
    def refinements(self) -> int:
        return len(self._rest[0].timestep) * sum(self._rest[2])

    @functools.cached_property
    def _rest(self) -> tuple[Row, np.ndarray, tuple[bool, ...]]:
        """The last steps of the way, stacked, the rates that they begin with, and the branches of all of them."""
        options, schedule = self.options, self.parts.schedule
        assert options.steps is not None and options.text_guidance is not None
        left, whole = part(options.steps, STRENGTH)
        guided = int(options.published.guided * whole)
        last = rows(schedule, whole, options.text_guidance, guided, 0)[-left:]
        branches = [self._branches_of(row) for row in last]
        level = np.concatenate(rates(schedule, np.array([last[0].timestep], np.float64)))
        return Row(*map(np.stack, zip(*last))), level.astype(np.float32), tuple(map(any, zip(*branches)))

    def refining(self, name: str, is_first: bool, window: Window) -> Call:
        last, level, branches = self._rest
        frame = full_size(self.canvas, self.vae.config.downsampling, self.shape[:2])
        arguments = (
            self._unet,
            self.parts.networks["controlnet"],
            self.vae,
            self.key,
            window,
            self.text,
            self.null_text,
            insertion(frame, self.options.insertion),
            last,
            level,
        )
        return Call(name, refine_frames, arguments, {"branches": branches})

    @property
    def _unet(self) -> UNet:
        return self.lora.unet if self.lora else self.parts.networks["unet"]

    def _identity(self) -> dict[str, Any]:
        networks = {name: digest(self.parts.networks[name]) for name in ("unet", "controlnet", "vae")}
        texts = [text for text in (self.text, self.null_text) if text is not None]
        return {
            "method": "motia",
            "source": identity(self.clip, self.canvas),
            "canvas": dataclasses.asdict(self.canvas),
            "checkpoint": networks | self.parts.settings.to_json() | {"scheduler": self.parts.schedule.to_config()},
            **dataclasses.asdict(dataclasses.replace(self.options, save_lora=None)),
            "prompt_embeds": [hashlib.sha256(np.ascontiguousarray(text).data).hexdigest() for text in texts],
            **surroundings(self.batch, self.mesh),
        }


def _add(sums: dict[int, np.ndarray], parts: Mapping[int, np.ndarray]) -> None:
    for index, latents in parts.items():
        sums[index] = sums[index] + latents if index in sums else latents
