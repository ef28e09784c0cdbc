"""Outpainting of whole clips: from frames to wider frames.

    pipe = OutpaintPipeline.from_pretrained("tiny")
    canvas = Canvas.from_aspect(144, 176, aspect=16 / 9)
    video = pipe(frames, canvas, seed=0)                         # uint8 [T, 144, 176, 3] -> uint8 [T, 144, 256, 3]

    for frame in pipe.stream(VideoReader("clip.mp4"), canvas):   # any length: frames come and go
        writer.write(frame)

The work is done at the model's native size, on `canvas.native(...)`; what is made there is brought up to the canvas'
size and put around the source's own pixels, which come back exactly.

Frames stream: memory does not grow with the length of the clip (job.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jax.typing import DTypeLike

from gp_jax.checkpoint.components import read_configs
from gp_jax.checkpoint.folder import Checkpoint, find_checkpoint, load_checkpoint
from gp_jax.convert.lora import Lora, named, read_adapters, shown
from gp_jax.diffusion.samplers import OnStep
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.jobs.compilation_cache import keep_programs
from gp_jax.json_config import short
from gp_jax.memory import require
from gp_jax.methods.globalpaint import programs
from gp_jax.methods.globalpaint.job import OutpaintJob
from gp_jax.methods.globalpaint.options import ADAPT_RATE, Options
from gp_jax.methods.globalpaint.plan import KNOWN, PLANS
from gp_jax.methods.latent_job import LatentJob
from gp_jax.methods.method import Clip, Progress, check_canvas, clip_of, quiet
from gp_jax.methods.options import Count, Seed, Text, Whole, check_outcome
from gp_jax.methods.outcome import outcome
from gp_jax.methods.rows import batch_of, slices_of
from gp_jax.methods.seen import Feathered, Seen, seen_of
from gp_jax.methods.segments import Plan
from gp_jax.methods.together import Together, apart, joint, lengths_of
from gp_jax.seeds import check_seed

if TYPE_CHECKING:  # it imports what training is made of, which takes a second
    from gp_jax.methods.globalpaint.clip_lora import ClipLora

MOST_AT_ONCE = 4  # segments, on each slice of the mesh


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
        mesh: Mesh | None = None,
        dtype: DTypeLike | None = None,
        attention: str | None = None,
        *,
        lora: Lora | None = None,
        fuse_lora: bool = True,
        **components: nnx.Module,
    ) -> "OutpaintPipeline":
        """Loads a checkpoint folder, or one of this package by its name.

        Args:
          name_or_folder, mesh, dtype, attention: see `checkpoint.folder.load_checkpoint`.
          lora: files whose updates are added to the UNets and the text tower: a path, (path, strength), or a list of
            these; strengths may be negative, and several files add up.
          fuse_lora: whether updates are merged into the weights; else they are computed beside them, which takes more
            time and keeps what weights of few bits would round off.
          **components: networks in the place of the folder's, such as `vae=my_autoencoder`.

        Raises:
          UserError: as there, or a LoRA is broken or of another model.

        Programs that are compiled from here on are kept for the next process; see compilation_cache.py.
        """
        keep_programs()
        chosen = named(lora)
        adapters = read_adapters(chosen, read_configs(find_checkpoint(name_or_folder))) if chosen else {}
        checkpoint = load_checkpoint(
            name_or_folder, mesh, dtype, attention, components, adapters, fuse_lora, lora=shown(chosen)
        )
        return cls(checkpoint, mesh)

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
        seed: int | Sequence[int] = 0,
        *,
        steps: int | None = None,
        sampler: str | None = None,
        eta: float | None = None,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        prompt_embeds: np.ndarray | None = None,
        guidance: float | None = None,
        text_guidance: float | None = None,
        plan: str = "hierarchical",
        adapt: int | None = None,
        adapt_rate: float | None = None,
        save_lora: str | None = None,
        propagate: bool = False,
        detail: str = "none",
        overlap: int = 0,
        mask: Clip | np.ndarray | str | Path | None = None,
        path: np.ndarray | str | Path | None = None,
        stabilize: bool = False,
        progress: Progress = quiet,
        on_step: OnStep | None = None,
        batch: int | None = None,
    ) -> np.ndarray | list[np.ndarray]:
        """Outpaints a clip in memory, or several, or one with several seeds.

        Args:
          frames: uint8 [T, Hs, Ws, 3]; or a list of such clips.
          canvas: the target frame.
          seed: or a list of seeds.
          steps, sampler, eta, prompt, negative_prompt, prompt_embeds, guidance, text_guidance, plan, adapt, adapt_rate,
            save_lora, propagate, detail, overlap, mask, path, stabilize, progress, on_step, batch: those of
              `stream`.

        Returns:
          uint8 [T, H, W, 3], observed pixels exactly those of `frames`; a list of such for a list of clips or of seeds,
          of both clip by clip.
        """
        clips = _clips(frames)
        seeds = seed if isinstance(seed, Sequence) else [seed]
        _check_kept(adapt and save_lora, len(clips) * len(seeds))
        videos = [
            self.stream(
                clips if len(clips) > 1 else clips[0],
                canvas,
                seed=each,
                steps=steps,
                sampler=sampler,
                eta=eta,
                prompt=prompt,
                negative_prompt=negative_prompt,
                prompt_embeds=prompt_embeds,
                guidance=guidance,
                text_guidance=text_guidance,
                plan=plan,
                adapt=adapt,
                adapt_rate=adapt_rate,
                save_lora=save_lora,
                propagate=propagate,
                detail=detail,
                overlap=overlap,
                mask=mask,
                path=path,
                stabilize=stabilize,
                progress=progress,
                on_step=on_step,
                batch=batch,
            )
            for each in seeds
        ]
        made = [apart(video, clips) for video in videos]
        in_order = [of_seed[number] for number in range(len(clips)) for of_seed in made]
        return in_order if clips[0] is not frames or seeds is seed else in_order[0]

    def stream(
        self,
        reader: Clip | np.ndarray | Sequence[Clip | np.ndarray],
        canvas: Canvas,
        *,
        seed: int = 0,
        steps: int | None = None,
        sampler: str | None = None,
        eta: float | None = None,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        prompt_embeds: np.ndarray | None = None,
        guidance: float | None = None,
        text_guidance: float | None = None,
        plan: str = "hierarchical",
        adapt: int | None = None,
        adapt_rate: float | None = None,
        save_lora: str | None = None,
        propagate: bool = False,
        detail: str = "none",
        overlap: int = 0,
        mask: Clip | np.ndarray | str | Path | None = None,
        path: np.ndarray | str | Path | None = None,
        stabilize: bool = False,
        progress: Progress = quiet,
        on_step: OnStep | None = None,
        batch: int | None = None,
    ) -> Iterator[np.ndarray]:
        """Outpaints a clip frame by frame.

        Args:
          reader: the clip; or uint8 [T, Hs, Ws, 3]; or a list of several, which share a mesh if they can.
          canvas: the target frame.
          seed: from 0 to 2^64 - 1; the same seed gives the same clip, however it is batched.
          steps, sampler, guidance, text_guidance: see `programs.Sampling.of`; None for the checkpoint's own.
          eta: share of fresh noise, from 0 to 1, for samplers that take it; None for the sampler's own.
          prompt: what the new region shows, for checkpoints with a text tower; what is too long is cut, with a notice.
          negative_prompt: what it is not to show; weighs as much as the prompt, and needs one.
          prompt_embeds: float [1, L, D] in the place of the prompt.
          plan: a name in `plan.PLANS`.
          adapt: steps in which a LoRA is fitted to the clip first, for each network (clip_lora.py); None for none. The
            pipeline's own networks stay as they are.
          adapt_rate: of its optimizer, above 0; None for `options.ADAPT_RATE`.
          save_lora: a file that the LoRA is written to.
          propagate: whether what other frames show of the new region is carried over; the networks' is then the rest.
          detail: none, source or tiles: how what is made gets detail beyond the networks' size.
          overlap: pixels of the networks' frame by which what is made grows into the source, and as many over which it
            fades; with 0 the source's pixels stay what they are.
          mask: of what is to be made within the source: a file, or bool or uint8 [T, Hs, Ws] or [Hs, Ws]; see seen.py.
          path: of a source that moves within the canvas: a file, or [T, 2], x and y of its upper left corner.
          stabilize: whether the source is moved so that its camera goes smoothly.
          progress: called with (segments done, segments in all, name of the level).
          on_step: called with (step, latents [B, T, h, w, C]) after each denoising step of some segments; it takes a
            program of its own, and the latents to this process, of several to that which has the first device.
          batch: segments denoised at once; None for as many as leave few rows idle.

        Returns:
          An iterator over uint8 [H, W, 3], in the order of time, clip by clip.

        Raises:
          UserError: an argument is of another type, a name is unknown, a number is out of range, the checkpoint reads
            no prompt or, on the way, frames are not of the size that the canvas was made for, or a network made NaN or
            infinity of them.
        """
        options = Options(
            seed=Seed(seed),
            steps=None if steps is None else Count(steps),
            sampler=sampler,
            eta=eta,
            guidance=guidance,
            prompt=None if prompt is None else Text(prompt),
            negative_prompt=None if negative_prompt is None else Text(negative_prompt),
            text_guidance=text_guidance,
            plan=plan,
            adapt=None if adapt is None else Whole(adapt),
            adapt_rate=adapt_rate,
            save_lora=save_lora,
            propagate=propagate,
            detail=detail,
            overlap=Whole(overlap),
            stabilize=stabilize,
        )
        more: dict[str, Any] = {"prompt_embeds": prompt_embeds, "on_step": on_step, "batch": batch}
        clips = _clips(reader)
        _check_kept(adapt and save_lora, len(clips))
        if len(clips) > 1 and mask is None and path is None and self.side_by_side(options) > 1:
            clips = [Together([clip_of(clip) for clip in clips])]
        jobs = [self.prepare(clip, canvas, options, mask=mask, path=path, **more) for clip in clips]
        return (frame for job in jobs for frame in job.frames(progress))

    def prepare(
        self,
        clip: Clip | np.ndarray,
        canvas: Canvas,
        options: Options,
        work: Path | None = None,
        *,
        mask: Clip | np.ndarray | str | Path | None = None,
        path: np.ndarray | str | Path | None = None,
        prompt_embeds: np.ndarray | None = None,
        on_step: OnStep | None = None,
        batch: int | None = None,
    ) -> Any:
        """A clip's way through the networks, checked; see `gp_jax.methods.method.Method`.

        Args:
          clip: that of `stream`; or several, `Together`, if `side_by_side` is more than 1.
          canvas, mask, path, prompt_embeds, on_step, batch: those of `stream`.
          options: what is asked for; its mask and path count where none are given.
          work: a folder for the journal, and for frames that memory does not hold; without one nothing is kept.

        Raises:
          UserError: as for `stream`.
        """
        check_canvas(canvas)
        reader = clip_of(clip)
        if options.plan not in tuple(PLANS):  # a list has no hash
            raise UserError(f"there is no plan {short(options.plan)}: choose one of {', '.join(PLANS)}")
        check_outcome(options)
        settings = self.checkpoint.settings
        own = {name: getattr(settings, name) for name in ("sampler", "steps", "guidance", "text_guidance")}
        own |= {"adapt_rate": ADAPT_RATE} if options.adapt else {}
        options = replace(options, **{name: own[name] for name in own if getattr(options, name) is None})
        assert options.sampler is not None and options.steps is not None
        assert options.guidance is not None and options.text_guidance is not None
        lengths = lengths_of(reader)
        plans = [PLANS[options.plan](length, settings.segment_frames) for length in lengths]
        plan = joint(plans, lengths) if len(plans) > 1 else plans[0]
        check_seed(options.seed)
        text, null_text = self._texts(options, prompt_embeds)
        sampling = programs.Sampling.of(
            self.checkpoint.schedule,
            options.sampler,
            options.steps,
            options.guidance,
            options.text_guidance,
            options.eta,
            text=text is not None,
            tokens=self.checkpoint.extractor is not None and self.checkpoint.vision is not None,
        )
        native = canvas.native(settings.native_area, self.checkpoint.vae.config.downsampling)
        shown = options.mask if mask is None else mask, options.path if path is None else path
        seen = _seen(reader, canvas, native, options, *shown)
        require(canvas.frame_bytes, f"a frame of {canvas.width}x{canvas.height} pixels")
        levels = plan.levels[len(plans) == 1 :]  # key frames of a single clip are one segment
        batch = batch_of([len(level) for level in levels], self.mesh, MOST_AT_ONCE, batch)

        def prepare(clip: Clip, canvas: Canvas, work: Path | None) -> LatentJob:
            timesteps = sampling.path.steps.timestep
            lora = self._clip_lora(clip, canvas, plan, options, timesteps, text, null_text, work)
            return OutpaintJob(
                self.checkpoint,
                self.mesh,
                clip,
                canvas,
                plan,
                sampling,
                options,
                seen,
                text,
                null_text,
                batch=batch,
                work=work,
                lora=lora,
                on_step=on_step,
            )

        return outcome(
            prepare,
            reader,
            canvas,
            work,
            detail=options.detail,
            overlap=0 if seen else options.overlap,  # what is seen fades by itself
            native=native,
            known=KNOWN,
            at_once=bool(options.adapt),
        )

    def side_by_side(self, options: Options) -> int:
        """See `gp_jax.methods.method.Method`."""
        return side_by_side(self.mesh, options)

    def _clip_lora(self, clip: Clip, canvas: Canvas, plan: Plan, options: Options, *more: Any) -> "ClipLora | None":
        """What is to be fitted to the clip; `more` are the last arguments of `ClipLora`."""
        if not options.adapt:
            for name in ("adapt_rate", "save_lora"):
                if getattr(options, name) is not None:
                    raise UserError(
                        f"{name} is of a LoRA that is fitted to the clip, and none is: ask for one by adapt"
                    )
            return None
        from gp_jax.methods.globalpaint.clip_lora import ClipLora

        return ClipLora(self.checkpoint, self.mesh, clip, canvas, plan, options, *more)

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


def side_by_side(mesh: Mesh | None, options: Options) -> int:
    """As many clips as the mesh takes rows, if nothing is known of each but its frames and tokens."""
    plain = (options.plan, options.detail, options.mask is None, options.path is None)
    more = options.adapt or options.propagate or options.overlap or options.stabilize
    return 1 if plain != ("hierarchical", "none", True, True) or more else slices_of(mesh)


def _seen(clip: Clip, canvas: Canvas, native: Canvas, options: Options, mask: Any, path: Any) -> Seen | None:
    """What is seen of each frame, faded by the overlap; None for the source alone, to which `outcome` sees.

    Raises:
      UserError: as of `seen_of`, or something else was asked for that does not go with it.
    """
    seen = seen_of(clip, canvas, mask, path, stabilize=options.stabilize, propagate=options.propagate)
    if seen is None:
        return None
    if options.detail == "tiles":
        raise UserError(
            "tiles are made around a source that stands still and is seen whole: leave mask, path, stabilize and "
            "propagate out, or choose another detail"
        )
    if options.adapt and not seen.stands:
        raise UserError("adapt learns from whole frames of a source that stands still: leave it out")
    if options.overlap:
        return Feathered.of(clip, canvas, seen, 2 * options.overlap * canvas.height / native.height)
    return seen


def _check_kept(file: Any, count: int) -> None:
    """Raises UserError where a file is to keep the LoRAs of several fits."""
    if file and count > 1:
        raise UserError(
            f"a LoRA is fitted to each clip with each seed, {count} in all, and only one can be kept: leave save_lora "
            "out, or give one clip and one seed"
        )


def _clips(given: Any) -> list[Any]:
    """The clips of a list of clips; all else is one clip, a list of frames too."""
    several = isinstance(given, list | tuple) and any(getattr(part, "ndim", 0) != 3 for part in given)
    return list(given) if several else [given]
