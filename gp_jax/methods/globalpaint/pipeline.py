"""Outpainting of whole clips: from frames to wider frames.

    pipe = OutpaintPipeline.from_pretrained("tiny")
    canvas = Canvas.from_aspect(144, 176, aspect=16 / 9)
    video = pipe(frames, canvas, seed=0)                         # uint8 [T, 144, 176, 3] -> uint8 [T, 144, 256, 3]

    for frame in pipe.stream(VideoReader("clip.mp4"), canvas):   # any length: frames come and go
        writer.write(frame)

The work is done at the model's native size, on `canvas.native(...)`; what is made there is brought up to the canvas'
size and put around the source's own pixels, which come back exactly.

Frames stream: the clip is read once for its global tokens, once per level of its plan and once for the result, each
pass a few frames ahead of the work. Kept are only latents of completed frames that a level still stands on,
`4 * h * w * C` bytes each, no more of them than a batch of segments has frames (execute.py).
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jax.typing import DTypeLike

from gp_jax.checkpoint.folder import Checkpoint, load_checkpoint
from gp_jax.diffusion.samplers import OnStep
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas, patch_positions
from gp_jax.jobs.compilation_cache import keep_programs
from gp_jax.memory import require
from gp_jax.methods.globalpaint import programs
from gp_jax.methods.globalpaint.conditioning import Placement
from gp_jax.methods.globalpaint.execute import execute
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.globalpaint.plan import PLANS, Plan, Segment, spread
from gp_jax.methods.method import ArrayClip, Clip, Estimate, Progress, observed, quiet
from gp_jax.methods.options import Count, Seed
from gp_jax.parallel import use_mesh
from gp_jax.seeds import check_seed, random_key

# Segments denoised at once, per slice of the mesh: on a CPU a larger batch is no faster, only later.
BATCH = {"cpu": 1}
DEFAULT_BATCH = 4

# Frames decoded and composited at once, fewer where they are large.
CHUNK_FRAMES, CHUNK_PIXELS = 8, 2**24


class OutpaintPipeline:
    """A checkpoint on its devices, ready for clips.

    Attributes:
      checkpoint: networks and settings.
      mesh: the devices, None for a single one. Segments lie along its data axes.
    """

    def __init__(self, checkpoint: Checkpoint, mesh: Mesh | None = None):
        self.checkpoint, self.mesh = checkpoint, mesh

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        mesh: Mesh | None = None,
        dtype: DTypeLike | None = None,
        attention: str | None = None,
        **components: nnx.Module,
    ) -> "OutpaintPipeline":
        """Loads a checkpoint folder, or one of this package by its name.

        Args:
          name_or_folder, mesh, dtype, attention: see `checkpoint.folder.load_checkpoint`.
          **components: networks in the place of the folder's, such as `vae=my_autoencoder`.

        Programs that are compiled from here on are kept for the next process; see compilation_cache.py.
        """
        keep_programs()
        return cls(load_checkpoint(name_or_folder, mesh, dtype, attention, components), mesh)

    def save_pretrained(self, folder: str | Path, dtype: DTypeLike | None = None) -> None:
        """Writes a checkpoint folder, whole or not at all, which `from_pretrained` reads.

        Args:
          folder: must not be there.
          dtype: of the parameters in the files; None keeps theirs.

        Raises:
          UserError: the folder is there or can't be written.
        """
        self.checkpoint.save(folder, dtype)

    def __call__(
        self,
        frames: np.ndarray | Sequence[np.ndarray],
        canvas: Canvas,
        *,
        seed: int | Sequence[int] = 0,
        steps: int | None = None,
        sampler: str | None = None,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        prompt_embeds: np.ndarray | None = None,
        guidance: float | None = None,
        text_guidance: float | None = None,
        plan: str = "hierarchical",
        progress: Progress = quiet,
        on_step: OnStep | None = None,
        batch: int | None = None,
    ) -> np.ndarray | list[np.ndarray]:
        """Outpaints a clip in memory, or several, or one with several seeds.

        Args:
          frames: uint8 [T, Hs, Ws, 3]; or a list of such clips.
          canvas: the target frame.
          seed: or a list of seeds.
          steps, sampler, prompt, negative_prompt, prompt_embeds, guidance, text_guidance, plan, progress, on_step,
            batch: those of `stream`.

        Returns:
          uint8 [T, H, W, 3], observed pixels exactly those of `frames`; a list of such for a list of clips or seeds,
          of both clip by clip.
        """
        clips = frames if isinstance(frames, list | tuple) else [frames]
        seeds = seed if isinstance(seed, Sequence) else [seed]
        videos = [
            self.stream(
                clip,
                canvas,
                seed=each,
                steps=steps,
                sampler=sampler,
                prompt=prompt,
                negative_prompt=negative_prompt,
                prompt_embeds=prompt_embeds,
                guidance=guidance,
                text_guidance=text_guidance,
                plan=plan,
                progress=progress,
                on_step=on_step,
                batch=batch,
            )
            for clip in clips
            for each in seeds
        ]
        made = [np.stack(list(video)) for video in videos]
        return made if clips is frames or seeds is seed else made[0]

    def stream(
        self,
        reader: Clip | np.ndarray,
        canvas: Canvas,
        *,
        seed: int = 0,
        steps: int | None = None,
        sampler: str | None = None,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        prompt_embeds: np.ndarray | None = None,
        guidance: float | None = None,
        text_guidance: float | None = None,
        plan: str = "hierarchical",
        progress: Progress = quiet,
        on_step: OnStep | None = None,
        batch: int | None = None,
    ) -> Iterator[np.ndarray]:
        """Outpaints a clip frame by frame.

        Args:
          reader: the clip; or uint8 [T, Hs, Ws, 3].
          canvas: the target frame.
          seed: from 0 to 2^64 - 1; the same seed gives the same clip, however it is batched.
          steps, sampler, guidance, text_guidance: see `programs.Sampling.of`; None for the checkpoint's own.
          prompt: what the new region shows, for checkpoints with a text tower; what is too long is cut, with a notice.
          negative_prompt: what it is not to show; weighs as much as the prompt, and needs one.
          prompt_embeds: float [1, L, D] in the place of the prompt.
          plan: a name in `plan.PLANS`.
          progress: called with (segments done, segments in all, name of the level).
          on_step: called with (step, latents [B, T, h, w, C]) after each denoising step of some segments; it takes a
            program of its own, and the latents to this process.
          batch: segments denoised at once.

        Returns:
          An iterator over uint8 [H, W, 3], in the order of time.

        Raises:
          UserError: an argument is of another type, a name is unknown, a number is out of range, the checkpoint reads
            no prompt or, on the way, frames are not of the size that the canvas was made for, or a network made NaN or
            infinity of them.
        """
        options = Options(
            seed=Seed(seed),
            steps=steps and Count(steps),
            sampler=sampler,
            guidance=guidance,
            prompt=prompt,
            negative_prompt=negative_prompt,
            text_guidance=text_guidance,
            plan=plan,
        )
        job = self.prepare(reader, canvas, options, prompt_embeds=prompt_embeds, on_step=on_step, batch=batch)
        return job.frames(progress)

    def prepare(
        self,
        clip: Clip | np.ndarray,
        canvas: Canvas,
        options: Options,
        work: Path | None = None,
        *,
        prompt_embeds: np.ndarray | None = None,
        on_step: OnStep | None = None,
        batch: int | None = None,
    ) -> "OutpaintJob":
        """A clip's way through the networks, checked; see `gp_jax.methods.method.Method`.

        Args:
          clip, canvas, prompt_embeds, on_step, batch: those of `stream`.
          options: what is asked for.
          work: a folder for the journal.

        Raises:
          UserError: as for `stream`.
        """
        if not isinstance(canvas, Canvas):
            raise UserError(
                f"the canvas is {canvas!r}, not a gp_jax.geometry.Canvas: make one by "
                "Canvas.from_aspect(height, width, 16 / 9), from_size or from_pads"
            )
        if isinstance(clip, str | Path):
            raise UserError(f"the clip is the name {str(clip)!r}, not frames: read it by gp_jax.video.VideoReader")
        if not hasattr(clip, "frames_at"):
            clip = ArrayClip(clip)
        if options.plan not in PLANS:
            raise UserError(f"there is no plan {options.plan!r}: choose one of {', '.join(PLANS)}")
        settings = self.checkpoint.settings
        plan = PLANS[options.plan](len(clip), settings.segment_frames)
        check_seed(options.seed)
        text, null_text = self._texts(options, prompt_embeds)
        sampling = programs.Sampling.of(
            self.checkpoint.schedule,
            settings.sampler if options.sampler is None else options.sampler,
            settings.steps if options.steps is None else options.steps,
            settings.guidance if options.guidance is None else options.guidance,
            settings.text_guidance if options.text_guidance is None else options.text_guidance,
            text=text is not None,
            tokens=self.checkpoint.extractor is not None and self.checkpoint.vision is not None,
        )
        require(canvas.frame_bytes, f"a frame of {canvas.width}x{canvas.height} pixels")
        batch = batch or self.slices * BATCH.get(jax.default_backend(), DEFAULT_BATCH)
        return OutpaintJob(self, clip, canvas, plan, sampling, options.seed, text, null_text, on_step, batch)

    def _texts(self, options: Options, embeds: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray]:
        """[1, L, D] each: the prompt's embedding, None for no prompt, and what guidance leads away from."""
        if embeds is not None and options.prompt:
            raise UserError("there are both a prompt and prompt_embeds: give one of them")
        if options.negative_prompt and embeds is None and not options.prompt:
            raise UserError("guidance leads from the negative prompt to the prompt, and there is no prompt: give one")
        null = self.checkpoint.embed(options.negative_prompt or "")
        if embeds is None:
            return (self.checkpoint.embed(options.prompt) if options.prompt else None), null
        embeds = np.asarray(embeds, np.float32)
        if embeds.ndim != 3 or len(embeds) != 1 or embeds.shape[2] != null.shape[2]:
            raise UserError(f"prompt_embeds must be [1, L, {null.shape[2]}], and are {list(embeds.shape)}")
        if embeds.shape != null.shape:
            raise UserError(f"prompt_embeds have {embeds.shape[1]} places, and this checkpoint's have {null.shape[1]}")
        return embeds, null

    @property
    def slices(self) -> int:
        """How many segments the mesh takes side by side."""
        return math.prod(self.mesh.shape[axis] for axis in ("data", "fsdp")) if self.mesh else 1


class OutpaintJob:
    """One clip on its way through a pipeline."""

    def __init__(
        self,
        pipeline: OutpaintPipeline,
        clip: Clip,
        canvas: Canvas,
        plan: Plan,
        sampling: programs.Sampling,
        seed: int,
        text: np.ndarray | None,
        null_text: np.ndarray,
        on_step: OnStep | None,
        batch: int,
    ):
        checkpoint = pipeline.checkpoint
        self.checkpoint, self.mesh, self.slices, self.batch = checkpoint, pipeline.mesh, pipeline.slices, batch
        self.clip, self.canvas, self.plan, self.sampling = clip, canvas, plan, sampling
        cell = checkpoint.vae.config.downsampling
        self.native = canvas.native(checkpoint.settings.native_area, cell)
        self.place = Placement.of(canvas, self.native, cell)
        self.key = random_key(seed)
        self.text, self.null_text, self.on_step = text, null_text, on_step
        self.done, self.total = 0, sum(map(len, plan.levels))

    @property
    def estimate(self) -> Estimate:
        """See `Job`."""
        steps = len(self.sampling.path.steps.timestep) * sum(self.sampling.branches)
        return Estimate(evaluations=self.total * steps)

    def frames(self, progress: Progress = quiet) -> Iterator[np.ndarray]:
        """See `Job`; nothing is to be made of a canvas that the source fills."""
        if self.canvas.is_complete:
            return observed(self.clip, self.canvas, range(len(self.clip)))
        return self._frames(progress)

    def _frames(self, progress: Progress) -> Iterator[np.ndarray]:
        self.progress = progress
        self.progress(0, self.total, self._label(0))
        self.sources = [
            self._native_frames(frame for segment in level for frame in segment.denoised) for level in self.plan.levels
        ]
        self.tokens = self._global_tokens()
        made = execute(self.plan, self._make, self.batch)
        source = observed(self.clip, self.canvas, range(len(self.clip)))
        size = max(1, min(CHUNK_FRAMES, CHUNK_PIXELS // (self.canvas.height * self.canvas.width)))
        while chunk := list(islice(zip(made, source), size)):
            latents = _fill([latents for (_, latents), _ in chunk], size)
            pixels = _fill([pixels for _, pixels in chunk], size)
            with use_mesh(self.mesh):
                finished, finite = programs.finish(
                    self.checkpoint.vae, latents, pixels, self.place, size=(self.canvas.height, self.canvas.width)
                )
            if not finite:
                raise _not_finite("autoencoder", [index for (index, _), _ in chunk])
            yield from np.asarray(finished)[: len(chunk)]

    def _global_tokens(self) -> jax.Array | None:
        vision, extractor = self.checkpoint.vision, self.checkpoint.extractor
        if vision is None or extractor is None:
            return None
        count = self.checkpoint.settings.feature_frames
        indices = spread(len(self.clip), count)
        times = np.array(indices, np.float32) / max(len(self.clip) - 1, 1)
        pixels = list(self._native_frames(indices))
        positions = patch_positions(self.native, vision.config.image_size // vision.config.patch_size)
        with use_mesh(self.mesh):
            return programs.read_clip(
                vision,
                extractor,
                _fill(pixels, count),
                self.place.pixel_mask,
                positions,
                _fill(times, count),
                np.arange(count) < len(indices),
            )

    def _make(
        self, number: int, segments: Sequence[Segment], completed: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        """The latents of the frames that some segments of a level make."""
        config = self.checkpoint.vae.config
        native, cell = self.native, config.downsampling
        nothing = np.zeros((native.height, native.width, 3), np.float32)
        no_latents = np.zeros((native.height // cell, native.width // cell, config.latent_channels), np.float32)
        # Key frames are one segment and chained ones come one by one: more than a row per slice would be idle work.
        size = self.batch if number and not self.plan.chained else self.slices
        times, pixels, latents, held = [], [], [], []
        for segment in segments:
            source = dict(zip(segment.denoised, self.sources[number]))
            shares = dict(zip(segment.kept, segment.shares))
            hold = [1.0 if known else 1.0 - shares.get(at, 1.0) for at, known in enumerate(segment.known)]
            times.append(segment.times)
            pixels.append([source.get(frame, nothing) for frame in segment.frames])
            latents.append([completed[frame] if share else no_latents for frame, share in zip(segment.frames, hold)])
            held.append(np.float32(hold))
        with use_mesh(self.mesh):
            made = programs.make_segments(
                self.checkpoint.interpolation_unet if number else self.checkpoint.unet,
                self.checkpoint.vae,
                self.key,
                *(_fill(list(map(np.asarray, column)), size) for column in (times, pixels, latents, held)),
                self.text,
                self.null_text,
                self.tokens,
                self.place,
                self.sampling,
                shared_noise=self.checkpoint.schedule.shared_noise,
                on_step=self.on_step,
            )
        made = np.asarray(made)
        if not np.isfinite(made).all():
            raise _not_finite("denoiser", [frame for segment in segments for frame in segment.frames])
        self.done += len(segments)
        self.progress(self.done, self.total, self._label(number))
        return {
            segment.frames[position]: made[row, position]
            for row, segment in enumerate(segments)
            for position in segment.kept
        }

    def _native_frames(self, indices: Iterable[int]) -> Iterator[np.ndarray]:
        """Float [H, W, 3] at the model's size, for rising indices."""
        source = observed(self.clip, self.canvas, indices)
        while chunk := list(islice(source, CHUNK_FRAMES)):
            frames = programs.shrink(_fill(chunk, CHUNK_FRAMES), self.place)
            yield from np.asarray(frames)[: len(chunk)]

    def _label(self, number: int) -> str:
        return f"level {number} of {len(self.plan.levels) - 1}" if number else "key frames"


def _not_finite(network: str, frames: Sequence[int]) -> UserError:
    return UserError(
        f"the {network} made NaN or infinity of the frames {min(frames)} to {max(frames)}: its weights are broken, or "
        "the guidance is too strong or the dtype too narrow for it"
    )


def _fill(rows: Sequence[np.ndarray], size: int) -> np.ndarray:
    """A batch of `size` rows, the last one repeated: one shape, one program."""
    return np.stack([*rows, *[rows[-1]] * (size - len(rows))])
