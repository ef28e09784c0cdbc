"""Methods: what makes a wide clip of a narrow one, from copied borders to a trained model.

    method = METHODS["telea"]()
    method.outpaint(source, canvas)          # uint8 [T, Hs, Ws, 3] -> uint8 [T, H, W, 3]
    method.settings                          # what its result depends on, as it goes into a manifest

A new method is a function here and a line in `METHODS`. Outputs of other systems need none: see `from_folder`.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jax.sharding import Mesh

from gp_jax.checkpoint.folder import find_checkpoint
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas, pixel_mask
from gp_jax.methods.flow_propagation import propagate
from gp_jax.methods.globalpaint import OutpaintPipeline
from gp_jax.methods.globalpaint.pipeline import ArrayReader
from gp_jax.seeds import check_seed

# Raises UserError where a clip of so many frames can't be outpainted to a canvas.
Check = Callable[[int, Canvas], None]

# From the observed rectangle uint8 [T, Hs, Ws, 3] to the frame uint8 [T, H, W, 3], the observed pixels as they are.
Outpaint = Callable[[np.ndarray, Canvas], np.ndarray]

RADIUS = 3  # of OpenCV's inpainting, in pixels


@dataclass(frozen=True)
class Method:
    """A way to outpaint, or a folder of what another system made.

    Attributes:
      outpaint: None where another system did.
      settings: what the result depends on.
      check: called before anything is made.
    """

    outpaint: Outpaint | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    check: Check = lambda frames, canvas: None


def globalpaint(checkpoint: str | Path = "tiny", mesh: Mesh | None = None, seed: int = 0, **options: Any) -> Method:
    """This package's model; it is loaded when it is used, and stays in memory until another one is.

    Args:
      checkpoint: a folder, or a model of this package.
      mesh: the devices to spread segments over.
      seed: of all clips, from 0 to 2^64 - 1.
      **options: of `OutpaintPipeline.stream`, such as steps=8 or plan="sequential".

    Raises:
      UserError: there is no such checkpoint or seed.
    """
    check_seed(seed)
    folder = find_checkpoint(checkpoint)
    files = fingerprint(folder)

    def outpaint(source: np.ndarray, canvas: Canvas) -> np.ndarray:
        return load(folder, mesh, files)(source, canvas, seed=seed, **options)

    def check(frames: int, canvas: Canvas) -> None:
        source = np.broadcast_to(np.uint8(0), (frames, canvas.source_height, canvas.source_width, 3))
        load(folder, mesh, files).stream(ArrayReader(source), canvas, seed=seed, **options)

    settings = {"checkpoint": str(checkpoint), "weights": files, "seed": seed, **options}
    return Method(outpaint, settings, check)


@functools.lru_cache(maxsize=1)
def load(folder: Path, mesh: Mesh | None, files: str) -> OutpaintPipeline:
    """A model whose fingerprint is `files`; the one that was asked for last stays in memory."""
    return OutpaintPipeline.from_pretrained(folder, mesh=mesh)


def from_folder(folder: str | Path) -> Method:
    """Outputs of another system, scored where they lie: FOLDER/CASE/CLIP, or FOLDER/CLIP if there is only one case.

    Raises:
      UserError: there is no such folder.
    """
    if not Path(folder).is_dir():
        raise UserError(f"there is no folder {folder} with outputs to score")
    return Method(None, {"folder": str(Path(folder).resolve())})


def replicate(source: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Copies the border pixels outwards."""
    return np.pad(source, ((0, 0), *canvas.pads, (0, 0)), mode="edge")


def mirror(source: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Folds the source over at its borders, again and again where it is narrow."""
    return np.pad(source, ((0, 0), *canvas.pads, (0, 0)), mode="symmetric")


def inpaint(source: np.ndarray, canvas: Canvas, *, flag: int) -> np.ndarray:
    """OpenCV's inpainting of each frame by itself.

    Args:
      source, canvas: as for `Outpaint`.
      flag: `cv2.INPAINT_TELEA` (Telea 2004, fast marching) or `cv2.INPAINT_NS` (Bertalmio et al. 2001, fluid dynamics).
    """
    mask = pixel_mask(canvas).astype(np.uint8)
    return np.stack([cv2.inpaint(frame, mask, RADIUS, flag) for frame in replicate(source, canvas)])


def fingerprint(folder: Path) -> str:
    """sha256 over the names and contents of a folder's files: other weights under an old name are another method."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors")):
        with path.open("rb") as file:
            total.update(f"{path.relative_to(folder)} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


METHODS: dict[str, Callable[..., Method]] = {
    "globalpaint": globalpaint,
    "edge": functools.partial(Method, replicate),
    "mirror": functools.partial(Method, mirror),
    "telea": functools.partial(Method, functools.partial(inpaint, flag=cv2.INPAINT_TELEA)),
    "navier-stokes": functools.partial(Method, functools.partial(inpaint, flag=cv2.INPAINT_NS)),
    "flow": functools.partial(Method, propagate),
}
