"""One clip on its way through GlobalPaint: key frames, then what lies between them, from coarse to fine.

How the work streams is the same for all methods on latents (../latent_job.py); here is what its programs are given.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from gp_jax.checkpoint.folder import Checkpoint
from gp_jax.checkpoint.parameters import digest
from gp_jax.diffusion.samplers import OnStep, Trajectory, rest
from gp_jax.geometry import Canvas, patch_positions, pixel_mask
from gp_jax.jobs.passes import Passes
from gp_jax.jobs.programs import Call
from gp_jax.jobs.source import identity
from gp_jax.jobs.spool import Spool
from gp_jax.methods.execute import batches, execute
from gp_jax.methods.globalpaint import programs
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.globalpaint.plan import spread
from gp_jax.methods.globalpaint.refining import refine_frames
from gp_jax.methods.latent_job import TOKENS, Frames, LatentJob
from gp_jax.methods.method import Clip, Progress
from gp_jax.methods.placement import Placement
from gp_jax.methods.seen import Seen, hull
from gp_jax.methods.segments import Plan, Segment
from gp_jax.methods.streams import Make, fill, surroundings
from gp_jax.methods.tiled import STRENGTH
from gp_jax.methods.tiling import Window
from gp_jax.methods.together import lengths_of
from gp_jax.models.unet import UNet
from gp_jax.seeds import random_key

if TYPE_CHECKING:  # it imports what training is made of, which takes a second
    from gp_jax.methods.globalpaint.clip_lora import ClipLora


class OutpaintJob(LatentJob):
    """A clip and all that was decided of it; `OutpaintPipeline.prepare` makes and checks it.

    Args:
      checkpoint: networks and settings.
      mesh: the devices, None for a single one.
      clip, canvas, plan, sampling: what is to be made, and how.
      options: what was asked for, the checkpoint's own where nothing was.
      seen: what is seen of each frame, None for the source alone.
      text: [1, L, D] embedding of the prompt, None for none.
      null_text: [1, L, D], what guidance leads away from.
      batch: segments denoised at once.
      work: a folder for the journal and for a spool that memory does not hold; None for no journal.
      lora: what is fitted to the clip first, None for nothing.
      on_step: see `OutpaintPipeline.stream`; not called for what the journal knows.

    Raises:
      UserError: the folder holds other work, or there is no room for the spool.
    """

    held = np.float32  # the share of the complete latents in a frame

    def __init__(
        self,
        checkpoint: Checkpoint,
        mesh: Mesh | None,
        clip: Clip,
        canvas: Canvas,
        plan: Plan,
        sampling: programs.Sampling,
        options: Options,
        seen: Seen | None,
        text: np.ndarray | None,
        null_text: np.ndarray,
        *,
        batch: int,
        work: Path | None,
        lora: "ClipLora | None",
        on_step: OnStep | None,
    ):
        self.lora = lora
        self.seen, self.channels = seen, 4 if seen else 3
        self.checkpoint, self.plan, self.sampling, self.options = checkpoint, plan, sampling, options
        self.starts = list(dict.fromkeys(segment.start for segment in plan.levels[0]))  # of several clips, or 0
        self.text, self.null_text, self.on_step = text, null_text, on_step
        self.key = random_key(options.seed)
        cell, settings = checkpoint.vae.config.downsampling, checkpoint.settings
        self.native = canvas.native(settings.native_area, cell)
        place, length = Placement.of(canvas, self.native, cell), settings.segment_frames
        if seen is not None:
            place = place._replace(enough=np.uint8(seen.enough))
            self.carrying = "carry and " * seen.is_carried
        super().__init__(mesh, clip, canvas, canvas, place, checkpoint.vae, length=length, batch=batch, work=work)

    def _evaluations(self, number: int) -> int:
        return len(self.sampling.path.steps.timestep) * sum(self.sampling.branches)

    def _segments(self) -> list[tuple[int, Sequence[Segment]]]:
        levels = enumerate(self.plan.levels)
        return [(number, batch) for number, level in levels for batch in batches(self.plan, level, self.batch)]

    def _run(self, make: Make) -> Iterator[tuple[int, np.ndarray]]:
        return execute(self.plan, make, self.batch)

    def _rows(self, number: int) -> int:
        """Key frames of a clip are one segment and chained ones come one by one: more than a row per slice would be
        idle work."""
        return self.slices if self.plan.chained or (number == 0 and len(self.starts) == 1) else self.batch

    def _stage(self, number: int) -> str:
        return "interpolation" if number else "key frames"

    def _label(self, number: int) -> str:
        return f"level {number} of {len(self.plan.levels) - 1}" if number else "key frames"

    def _fitting(self) -> Sequence[Call]:
        return self.lora.calls(self.journal) if self.lora else ()

    def _fit(self, timed: Callable[[str], AbstractContextManager], progress: Progress) -> None:
        if self.lora:
            self.lora.fit(self.journal, timed, progress)

    def _reading(self) -> Call | None:
        if self.checkpoint.vision is None or self.checkpoint.extractor is None:
            return None
        count = self.checkpoint.settings.feature_frames
        call = self._read(
            np.zeros((count, *self.shape), np.float32), np.zeros(count, np.float32), np.zeros(count, bool)
        )
        return dataclasses.replace(call, times=len(self.starts))

    def _token_shape(self) -> tuple[int, ...]:
        """A row that all segments share or, of several clips, one for each."""
        assert self.checkpoint.extractor is not None
        config = self.checkpoint.extractor.config
        return 1 if len(self.starts) == 1 else self.batch, config.tokens, config.output_width

    def _read(self, pixels: np.ndarray, times: np.ndarray, valid: np.ndarray) -> Call:
        """See `programs.read_clip`; of a frame of which all sorts is seen, the rectangle around that."""
        vision, extractor = self.checkpoint.vision, self.checkpoint.extractor
        if self.seen is None or self.seen.stands:
            return Call(
                TOKENS,
                programs.read_clip,
                (vision, extractor, pixels[..., :3], self.place.pixel_mask, self._positions(self.native), times, valid),
            )
        around = [hull(frame[..., 3] > 0) for frame in pixels]
        masks, positions = (np.stack(list(map(of, around))) for of in (pixel_mask, self._positions))
        return Call(TOKENS, programs.read_clip, (vision, extractor, pixels, masks, positions, times, valid))

    def _read_clip(self, spool: Spool | Passes) -> np.ndarray:
        """Of several clips, one after the other: [clips, K, D]."""
        count, made = self.checkpoint.settings.feature_frames, []
        for start, length in zip(self.starts, lengths_of(self.clip)):
            indices = spread(length, count)
            times = np.array(indices, np.float32) / max(length - 1, 1)
            pixels = fill(spool.some([start + index for index in indices]), count)
            valid = np.arange(count) < len(indices)
            tokens = self.called(self._read(pixels, fill(list(times), count), valid))
            made.append(np.asarray(tokens, np.float32))  # files have no bfloat16; the networks narrow it, without loss
        return np.concatenate(made)

    def _tokens_of(self, segments: Sequence[Segment], tokens: np.ndarray | None) -> np.ndarray | None:
        if tokens is None or len(self.starts) == 1:
            return tokens
        return fill([tokens[self.starts.index(segment.start)] for segment in segments], self.batch)

    def _columns(
        self, source: Frames, segments: Sequence[Segment], completed: Mapping[int, np.ndarray]
    ) -> Sequence[Sequence[Any]]:
        nothing, no_latents = np.zeros(self.shape, np.float32), np.zeros(self.latents, np.float32)
        times, pixels, latents, held = [], [], [], []
        for segment in segments:
            observed_frames = {frame: source[frame] for frame in segment.denoised}
            shares = dict(zip(segment.kept, segment.shares))
            hold = [1.0 if known else 1.0 - shares.get(at, 1.0) for at, known in enumerate(segment.known)]
            times.append(segment.times)
            pixels.append([observed_frames.get(frame, nothing) for frame in segment.frames])
            latents.append([completed[frame] if share else no_latents for frame, share in zip(segment.frames, hold)])
            held.append(np.array(hold, np.float32))
        return times, pixels, latents, held

    @property
    def _networks(self) -> tuple[UNet, UNet]:
        """Of key frames and of those between, fitted to the clip where that was asked for."""
        return self.lora.networks if self.lora else (self.checkpoint.unet, self.checkpoint.interpolation_unet)

    def _denoising(self, number: int, tokens: Any, times: Any, pixels: Any, latents: Any, held: Any) -> Call:
        arguments = (
            self._networks[min(number, 1)],
            self.vae,
            self.key,
            times,
            pixels,
            latents,
            held,
            self.text,
            self.null_text,
            tokens,
            self.place,
            self.sampling,
        )
        static = {"shared_noise": self.checkpoint.schedule.shared_noise, "on_step": self.on_step}
        return Call(self._stage(number), programs.make_segments, arguments, static)

    @property
    def refinements(self) -> int:
        return len(self._rest[0].steps.timestep) * sum(self.sampling.branches)

    @functools.cached_property
    def _rest(self) -> tuple[Trajectory, np.ndarray]:
        options, schedule = self.options, self.checkpoint.schedule
        assert options.sampler is not None and options.steps is not None
        return rest(schedule, options.sampler, options.steps, STRENGTH, options.eta)

    def refining(self, name: str, is_first: bool, window: Window) -> Call:
        path, level = self._rest
        arguments = (
            self._networks[0 if is_first else 1],
            self.vae,
            self.key,
            window,
            self.text,
            self.null_text,
            self._told_tokens,
            dataclasses.replace(self.sampling, path=path),
            level,
        )
        return Call(name, refine_frames, arguments, {"shared_noise": self.checkpoint.schedule.shared_noise})

    def pixels(self) -> Iterator[np.ndarray]:
        return self.seen.layers() if self.seen else super().pixels()

    def hidden(self, indices: Sequence[int]) -> np.ndarray | None:
        return self.seen.hidden(indices) if self.seen else None

    def _pixels_bytes(self) -> int:
        return self.seen.bytes if self.seen else 0

    def _positions(self, native: Canvas) -> np.ndarray:
        assert self.checkpoint.vision is not None
        config = self.checkpoint.vision.config
        return patch_positions(native, config.image_size // config.patch_size)

    def _identity(self) -> dict[str, Any]:
        parts = {field.name: getattr(self.checkpoint, field.name) for field in dataclasses.fields(self.checkpoint)}
        networks = {name: digest(part) for name, part in parts.items() if isinstance(part, nnx.Module)}
        settings = self.checkpoint.settings
        texts = [text for text in (self.text, self.null_text) if text is not None]
        return {
            "method": "globalpaint",
            "source": identity(self.clip, self.canvas),
            "canvas": dataclasses.asdict(self.canvas),
            "shots": self.starts if len(self.starts) > 1 else None,
            "seen": self.seen.identity() if self.seen else None,
            # What it is beside the digests of networks, which tell it too, so that it can be told by its name.
            "lora": self.checkpoint.lora or None,
            "checkpoint": networks | settings.to_json() | {"scheduler": self.checkpoint.schedule.to_config()},
            **dataclasses.asdict(dataclasses.replace(self.options, save_lora=None, mask=None, path=None)),
            "prompt_embeds": [hashlib.sha256(np.ascontiguousarray(text).data).hexdigest() for text in texts],
            **surroundings(self.batch, self.mesh),
        }
