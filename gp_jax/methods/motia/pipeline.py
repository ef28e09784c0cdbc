"""MOTIA on its devices.

model = Model.from_pretrained("motia/")
job = model.prepare(VideoReader("clip.mp4"), canvas, Options(prompt="a harbour at dawn"))
for frame in job.frames():                               uint8 [H, W, 3], observed pixels exactly the source's
    writer.write(frame)
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike

from gp_jax.checkpoint.components import read_configs
from gp_jax.checkpoint.folder import Parts, find_checkpoint, load_parts
from gp_jax.checkpoint.text import embed_text
from gp_jax.convert.lora import Lora, named, read_adapters
from gp_jax.diffusion.guidance import check_scales
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.jobs.compilation_cache import keep_programs
from gp_jax.memory import require
from gp_jax.methods.latent_job import LatentJob
from gp_jax.methods.method import Clip
from gp_jax.methods.motia.clip_lora import ClipLora, has_updates
from gp_jax.methods.motia.job import OutpaintJob
from gp_jax.methods.motia.options import Options
from gp_jax.methods.motia.plan import windows
from gp_jax.methods.motia.schedule import rows
from gp_jax.methods.options import Whole, check_outcome
from gp_jax.methods.outcome import outcome
from gp_jax.methods.rows import batch_of
from gp_jax.seeds import check_seed

MOST_AT_ONCE = 2  # windows, on each slice of the mesh: of full size each takes gigabytes beside the parameters
KNOWN = 4  # frames that begin a window of tiles
NEEDED = "unet", "controlnet", "vae", "text"


@dataclasses.dataclass(frozen=True)
class Model:
    """A checkpoint on its devices, ready for clips.

    Attributes:
      parts: `unet`, `controlnet`, `vae`, `text`, settings and schedule.
      mesh: the devices, None for a single one. Windows lie along its data axes.
    """

    parts: Parts
    mesh: Mesh | None = None

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        mesh: Mesh | None = None,
        dtype: DTypeLike | None = None,
        attention: str | None = None,
        lora: Lora | None = None,
    ) -> "Model":
        """Loads a checkpoint folder of MOTIA; see `checkpoint.folder.load_parts`.

        `lora`: files whose updates stay beside the weights, for those of the motion modules count differently from
        place to place (insertion.py).
        """
        keep_programs()
        chosen = named(lora)
        adapters = read_adapters(chosen, read_configs(find_checkpoint(name_or_folder))) if chosen else {}
        parts = load_parts(name_or_folder, "motia", NEEDED, mesh, dtype, attention, adapters=adapters, fuse=False)
        return cls(parts, mesh)

    def prepare(
        self, clip: Clip, canvas: Canvas, options: Options, work: Path | None = None, *, batch: int | None = None
    ) -> Any:
        """A clip's way through the networks, checked; see `gp_jax.methods.method.Method`.

        Args:
          clip: of frames of the canvas' source size.
          canvas: the target frame.
          options: what is asked for.
          work: a folder for the journal, and for frames that memory does not hold; without one nothing is kept.
          batch: windows denoised at once; None for as many as leave few rows idle.

        Raises:
          UserError: an option is out of range, there are no frames, or `work` holds other work.
        """
        check_outcome(options)
        unet = self.parts.networks["unet"]
        if options.adapt is None:
            fitted = has_updates(unet) or canvas.is_complete
            options = dataclasses.replace(options, adapt=Whole(0 if fitted else options.published.adapt))
        options = options.filled()
        assert options.steps is not None and options.text_guidance is not None
        assert options.regret is not None and options.adapt is not None
        check_scales(text_guidance=options.text_guidance, insertion=options.insertion)
        if options.insertion <= 0:
            raise UserError(f"insertion is above 0, such as 0.5, not {options.insertion}")
        check_seed(options.seed)
        require(canvas.frame_bytes, f"a frame of {canvas.width}x{canvas.height} pixels")
        self.parts.schedule.check_steps(options.steps)
        guided = int(options.published.guided * options.steps)
        way = rows(self.parts.schedule, options.steps, options.text_guidance, guided, options.regret)
        # Without any prompt both branches of guidance are the same, and one is enough.
        prompts = [text or "" for text in (options.negative_prompt, options.prompt)]
        null_text, text = (self._embedded(prompt) for prompt in prompts)
        if options.save_lora and not options.adapt:
            raise UserError("save_lora is of a LoRA that is fitted to the clip, and none is: ask for one by adapt")
        batch = batch_of([len(windows(len(clip)))], self.mesh, MOST_AT_ONCE, batch)

        def prepare(clip: Clip, canvas: Canvas, work: Path | None) -> LatentJob:
            native = self._native(canvas)
            fitted = ClipLora(self.parts, self.mesh, clip, canvas, native, text, options) if options.adapt else None
            return OutpaintJob(
                self.parts,
                self.mesh,
                clip,
                canvas,
                native,
                way,
                options,
                text if any(prompts) else None,
                null_text,
                batch=batch,
                work=work,
                lora=fitted,
            )

        return outcome(
            prepare,
            clip,
            canvas,
            work,
            detail=options.detail,
            overlap=options.overlap,
            native=self._native(canvas),
            known=KNOWN,
            at_once=options.adapt > 0,
        )

    def _native(self, canvas: Canvas) -> Canvas:
        return canvas.native(self.parts.settings.native_area, self.parts.networks["vae"].config.downsampling)

    def _embedded(self, prompt: str) -> np.ndarray:
        return embed_text(self.parts.networks["text"], self.parts.tokenizer, prompt)
