"""M3DDM on its devices.

model = Model.from_pretrained("m3ddm/")
job = model.prepare(VideoReader("clip.mp4"), canvas, Options(seed=3))
for frame in job.frames():                               uint8 [H, W, 3], observed pixels exactly the source's
    writer.write(frame)
"""

import dataclasses
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from jax.typing import DTypeLike

from gp_jax.checkpoint.folder import Parts, load_parts
from gp_jax.diffusion.guidance import check_scales
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.jobs.compilation_cache import keep_programs
from gp_jax.memory import require
from gp_jax.methods.latent_job import LatentJob
from gp_jax.methods.m3ddm.job import OutpaintJob
from gp_jax.methods.m3ddm.options import Options
from gp_jax.methods.m3ddm.plan import hierarchy
from gp_jax.methods.method import Clip
from gp_jax.methods.options import changed, check_outcome
from gp_jax.methods.outcome import outcome
from gp_jax.methods.rows import batch_of
from gp_jax.seeds import check_seed
from gp_jax.video.clock import DEFAULT_RATE

MOST_AT_ONCE = 2  # windows, on each slice of the mesh: of full size each takes gigabytes beside the parameters
KNOWN = 1  # frames that begin a window of tiles, as they begin one of all frames
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
        cls,
        name_or_folder: str | Path,
        *,
        mesh: Mesh | None = None,
        dtype: DTypeLike | None = None,
        attention: str | None = None,
    ) -> "Model":
        """Loads a checkpoint folder of M3DDM; see `checkpoint.folder.load_parts`."""
        keep_programs()
        return cls(load_parts(name_or_folder, "m3ddm", ("m3ddm", "vae"), mesh, dtype, attention), mesh)

    def prepare(
        self, clip: Clip, canvas: Canvas, options: Options, work: Path | None = None, *, batch: int | None = None
    ) -> Any:
        """A clip's way through the networks, checked; see `gp_jax.methods.method.Method`.

        Args:
          clip: of frames of the canvas' source size; if it has an `info`, its frame rate is told to the network.
          canvas: the target frame.
          options: what is asked for.
          work: a folder for the journal, and for frames that memory does not hold; without one nothing is kept.
          batch: windows denoised at once; None for as many as leave few rows idle.

        Raises:
          UserError: an option is out of range, there are no frames, or `work` holds other work.
        """
        check_outcome(options)
        own = {name: getattr(self.parts.settings, name) for name in ("steps", "guidance", "local_guidance")}
        options = dataclasses.replace(options, **{name: x for name, x in own.items() if getattr(options, name) is None})
        assert options.steps is not None and options.guidance is not None and options.local_guidance is not None
        if options.steps < FEWEST_STEPS:
            raise UserError(f"M3DDM's sampler takes {FEWEST_STEPS} steps or more, not {options.steps}")
        self.parts.schedule.positions(options.steps)
        check_scales(local_guidance=options.local_guidance, guidance=options.guidance)
        check_seed(options.seed)
        require(canvas.frame_bytes, f"a frame of {canvas.width}x{canvas.height} pixels")
        # Windows of the first level come one by one.
        levels = [len(level.windows) for level in hierarchy(len(clip))[1:]]
        batch = batch_of(levels, self.mesh, MOST_AT_ONCE, batch)
        for name in ("detail", "overlap"):
            if options.faithful and name in changed(options):
                raise UserError(f"faithful is the published way, in a square of its own: leave it out, or {name}")
        info = getattr(clip, "info", None)
        rate = DEFAULT_RATE if info is None else float(info.frame_rate)

        def prepare(clip: Clip, canvas: Canvas, work: Path | None) -> LatentJob:
            return OutpaintJob(self.parts, self.mesh, clip, canvas, options, rate, batch=batch, work=work)

        network, vae = self.parts.networks["m3ddm"].config, self.parts.networks["vae"].config
        native = canvas.native(self.parts.settings.native_area, network.downsampling * vae.downsampling)
        return outcome(
            prepare,
            clip,
            canvas,
            work,
            detail=options.detail,
            overlap=options.overlap,
            native=native,
            known=KNOWN,
            at_once=False,
        )
