"""M3DDM as a method: a checkpoint that is loaded when it is used, and stays in memory until another one is."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from jax.sharding import Mesh
from jax.typing import DTypeLike

from gp_jax.checkpoint.folder import find_checkpoint
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.globalpaint.method import fingerprint
from gp_jax.methods.m3ddm.job import OutpaintJob
from gp_jax.methods.m3ddm.options import Options
from gp_jax.methods.m3ddm.pipeline import Model
from gp_jax.methods.method import Clip
from gp_jax.methods.options import changed
from gp_jax.seeds import check_seed


class M3DDMMethod:
    """M3DDM with public or other weights.

    Args:
      checkpoint: a folder that `gp-jax convert` made of the published one.
      mesh: the devices to spread windows over.
      dtype: see `checkpoint.folder.load_parts`.

    Raises:
      UserError: there is no such checkpoint, or none was named.
    """

    name = "m3ddm"
    outputs = None
    Options: ClassVar[type] = Options

    def __init__(
        self, checkpoint: str | Path | None = None, *, mesh: Mesh | None = None, dtype: DTypeLike | None = None
    ):
        if checkpoint is None:
            raise UserError(
                "m3ddm needs its weights: gp-jax convert M3DDM-Video-Outpainting/ m3ddm/ --vae stable-diffusion-v1-5/, "
                "then --checkpoint m3ddm/"
            )
        self.checkpoint, self.mesh, self.dtype = checkpoint, mesh, dtype
        self.folder = find_checkpoint(checkpoint)

    def settings(self, options: Options) -> Mapping[str, Any]:
        """See `Method`: the checkpoint, what its files hold, and the options."""
        known = {"checkpoint": str(self.checkpoint), "weights": self.weights, "seed": check_seed(options.seed)}
        return known | changed(options)

    @functools.cached_property
    def weights(self) -> str:
        """The checkpoint's `fingerprint`."""
        return fingerprint(self.folder)

    def prepare(self, clip: Clip, canvas: Canvas, options: Options, work: Path | None = None) -> OutpaintJob:
        """See `Method`."""
        return load(self.folder, self.mesh, self.dtype, self.weights).prepare(clip, canvas, options, work)


@functools.lru_cache(maxsize=1)
def load(folder: Path, mesh: Mesh | None, dtype: DTypeLike | None, weights: str) -> Model:
    """A model whose fingerprint is `weights`; the one that was asked for last stays in memory."""
    return Model.from_pretrained(folder, mesh=mesh, dtype=dtype)
