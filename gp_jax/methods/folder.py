"""What another system made, in the place of a method.

    Folder("outputs/motia")        FOLDER/CASE/CLIP, or of one case FOLDER/CLIP too: scored where it lies
    Folder("wide.mp4")             one clip: its frames, with the source's own pixels put back

An evaluation takes frames as they are, from `outputs`. A job brings back what an encoder or an autoencoder did to the
source.
"""

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.method import Clip, Estimate, Method, Progress, observed, quiet
from gp_jax.methods.options import NoOptions
from gp_jax.video import VideoReader


class Folder(Method):
    """Outputs that are there already.

    Args:
      folder: a folder, or the file of a clip.

    Raises:
      UserError: there is no such folder or file.
    """

    Options: ClassVar[type] = NoOptions

    def __init__(self, folder: str | Path):
        if not Path(folder).exists():
            raise UserError(f"there is no folder {folder} with outputs to score")
        self.outputs = self.folder = Path(folder).resolve()
        self.name = self.folder.name

    def settings(self, options: Any) -> Mapping[str, Any]:
        """Where it lies."""
        return {"folder": str(self.folder)}

    def prepare(self, clip: Clip, canvas: Canvas, options: NoOptions, work: Path | None = None) -> "FolderJob":
        """See `Method`; the outputs must be one clip, of as many frames as the source and of the canvas' size."""
        made = VideoReader(self.folder)
        size = made.info.height, made.info.width
        if size != (canvas.height, canvas.width) or len(made) != len(clip):
            raise UserError(
                f"{self.folder} has {len(made)} frames of {size[1]}x{size[0]} pixels, and {len(clip)} of "
                f"{canvas.width}x{canvas.height} are asked for: give the outputs of this clip and canvas"
            )
        return FolderJob(made, clip, canvas)


class FolderJob:
    """One clip of a `Folder`."""

    def __init__(self, made: VideoReader, clip: Clip, canvas: Canvas):
        self.made, self.clip, self.canvas = made, clip, canvas
        self.estimate = Estimate(peak_bytes=2 * canvas.frame_bytes)

    def frames(self, progress: Progress = quiet) -> Generator[np.ndarray, None, None]:
        """See `Job`."""
        total = len(self.clip)
        sources = observed(self.clip, self.canvas, range(total))
        for done, (frame, source) in enumerate(zip(self.made.frames_at(range(total)), sources), 1):
            frame = frame.copy()
            frame[self.canvas.observed] = source
            yield frame
            progress(done, total, "frames")
