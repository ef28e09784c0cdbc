"""Methods whose networks lie in a checkpoint folder: loaded when they are used, and in memory until others are.

class GlobalPaint(OfCheckpoint):
    name, Options, Pipeline, default = "globalpaint", Options, OutpaintPipeline, "tiny"
"""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from jax.sharding import Mesh
from jax.typing import DTypeLike

from gp_jax.checkpoint.components import read_configs
from gp_jax.checkpoint.folder import find_checkpoint
from gp_jax.convert.lora import Chosen, Lora, named, open_lora, shown
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.method import Clip, Job, Method
from gp_jax.methods.options import changed
from gp_jax.seeds import check_seed


class Pipeline(Protocol):
    """The networks of a checkpoint, in memory and ready for clips."""

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | Path, *, mesh: Mesh | None, dtype: DTypeLike | None, attention: str | None
    ) -> "Pipeline":
        """Loads a folder; see `checkpoint.folder.load_parts`."""
        ...

    def prepare(self, clip: Clip, canvas: Canvas, options: Any, work: Path | None) -> Job:
        """See `Method`."""
        ...


class OfCheckpoint(Method):
    """A method with a checkpoint.

    Args:
      checkpoint: a folder, or a model of this package; None for `default`.
      mesh: the devices to spread segments over.
      dtype, attention: see `checkpoint.folder.load_parts`.
      lora: what is added to the networks; see `convert.lora.named`.

    Attributes:
      Options: what can be asked for; `seed` is among it.
      Pipeline: the networks.
      adaptable: whether there are LoRAs for them; then `Pipeline.from_pretrained` takes `lora`.
      default: the checkpoint where none is named; None where one has to be, and then `source` says where from.

    Raises:
      UserError: there is no such checkpoint or LoRA, none was named, or the networks take no LoRA.
    """

    Pipeline: ClassVar[type[Pipeline]]
    default: ClassVar[str | None] = None
    source: ClassVar[str] = ""
    adaptable: ClassVar[bool] = False

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        *,
        mesh: Mesh | None = None,
        dtype: DTypeLike | None = None,
        attention: str | None = None,
        lora: Lora | None = None,
    ):
        self.checkpoint = checkpoint or self.default
        if self.checkpoint is None:
            raise UserError(f"{self.name} needs its weights: {self.source}")
        self.folder = find_checkpoint(self.checkpoint)
        self.mesh, self.dtype, self.attention = mesh, dtype, attention
        self.lora = named(lora)
        if self.lora and not self.adaptable:
            raise UserError(f"{self.name} takes no LoRA, which change networks of Stable Diffusion: leave it out")
        for path, _ in self.lora:  # what does not fit is refused here, before any work begins
            open_lora(path, read_configs(self.folder))

    def settings(self, options: Any) -> Mapping[str, Any]:
        """See `Method`: the checkpoint, what its files hold, type and kernel where chosen, and the options."""
        chosen = {"dtype": self.dtype and str(self.dtype), "attention": self.attention}
        known = {"checkpoint": str(self.checkpoint), "weights": self.weights, "seed": check_seed(options.seed)}
        if self.lora:
            known |= {"lora": shown(self.lora), "lora_weights": [sha256(path) for path, _ in self.lora]}
        return known | {name: value for name, value in chosen.items() if value} | changed(options)

    @functools.cached_property
    def weights(self) -> str:
        """The checkpoint's `fingerprint`."""
        return fingerprint(self.folder)

    def prepare(self, clip: Clip, canvas: Canvas, options: Any, work: Path | None = None) -> Job:
        """See `Method`."""
        pipeline = load(self.Pipeline, self.folder, self.mesh, self.dtype, self.attention, self.weights, self.lora)
        return pipeline.prepare(clip, canvas, options, work)


@functools.lru_cache(maxsize=1)
def load(
    kind: type[Pipeline],
    folder: Path,
    mesh: Mesh | None,
    dtype: DTypeLike | None,
    attention: str | None,
    weights: str,
    lora: Chosen,
) -> Pipeline:
    """Networks whose fingerprint is `weights`; those that were asked for last stay in memory."""
    adapted = {"lora": lora} if lora else {}
    return kind.from_pretrained(folder, mesh=mesh, dtype=dtype, attention=attention, **adapted)


def fingerprint(folder: Path) -> str:
    """sha256 over the names and contents of a folder's files: other weights under an old name are another method."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors")):
        total.update(f"{path.relative_to(folder)} {sha256(path)}\n".encode())
    return total.hexdigest()


def sha256(path: Path) -> str:
    """Of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
