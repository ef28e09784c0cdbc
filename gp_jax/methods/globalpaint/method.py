"""GlobalPaint as a method: a checkpoint that is loaded when it is used, and stays in memory until another one is."""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from jax.sharding import Mesh
from jax.typing import DTypeLike

from gp_jax.checkpoint.folder import find_checkpoint
from gp_jax.geometry import Canvas
from gp_jax.methods.globalpaint.job import OutpaintJob
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.methods.method import Clip, Method
from gp_jax.methods.options import changed
from gp_jax.seeds import check_seed


class GlobalPaint(Method):
    """This package's model.

    Args:
      checkpoint: a folder, or a model of this package; None for `tiny`.
      mesh: the devices to spread segments over.
      dtype, attention: see `load_checkpoint`.

    Raises:
      UserError: there is no such checkpoint.
    """

    name = "globalpaint"
    Options: ClassVar[type] = Options

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        *,
        mesh: Mesh | None = None,
        dtype: DTypeLike | None = None,
        attention: str | None = None,
    ):
        self.checkpoint, self.mesh, self.dtype, self.attention = checkpoint or "tiny", mesh, dtype, attention
        self.folder = find_checkpoint(self.checkpoint)

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
        return load(self.folder, self.mesh, self.dtype, self.attention, self.weights).prepare(
            clip, canvas, options, work
        )


@functools.lru_cache(maxsize=1)
def load(
    folder: Path, mesh: Mesh | None, dtype: DTypeLike | None, attention: str | None, weights: str
) -> OutpaintPipeline:
    """A model whose fingerprint is `weights`; the one that was asked for last stays in memory."""
    return OutpaintPipeline.from_pretrained(folder, mesh=mesh, dtype=dtype, attention=attention)


def fingerprint(folder: Path) -> str:
    """sha256 over the names and contents of a folder's files: other weights under an old name are another method."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors")):
        with path.open("rb") as file:
            total.update(f"{path.relative_to(folder)} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()
