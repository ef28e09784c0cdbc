"""The frames of an evaluation: the true ones at the protocol's size, and what methods make of a part of them.

Both are folders of PNGs that appear whole, so that what is there is done and is not made again.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np

from gp_jax.data.sources import Frames
from gp_jax.evaluation.cost import measured
from gp_jax.evaluation.results import Results, Timing
from gp_jax.files import write_json
from gp_jax.geometry import Canvas
from gp_jax.video import VideoWriter
from gp_jax.video.clips import read_clip, scale

FRAME_RATE = 24  # of folders, which have none

# From the observed rectangle of clips, uint8 [T, Hs, Ws, 3] each, to the frame uint8 [T, H, W, 3], the observed pixels
# as they are.
Outpaint = Callable[[Sequence[np.ndarray], Canvas], Sequence[np.ndarray]]


def store_reference(results: Results, clip: str, reader: Frames) -> None:
    """The frames of a clip that the manifest counts, scaled to the protocol's size; nothing where they lie there."""
    protocol, target, frames = results.protocol, results.reference(clip), results.manifest.clips[clip]
    if not target.is_dir():
        _write(target, (scale(frame, protocol.height, protocol.width) for frame in islice(reader, frames)))


def is_made(results: Results, method: str, case: str, clip: str) -> bool:
    """Whether the frames of a method that works here lie there."""
    target = results.generated(method, case, clip)
    return target is not None and target.is_dir()


def generate(results: Results, method: str, outpaint: Outpaint, case: str, clips: Sequence[str], first: bool) -> None:
    """Outpaints clips, together where they are several, and notes what each cost: its share of their seconds.

    Args:
      results: holds the references.
      method, case, clips: names.
      outpaint: the method.
      first: whether the method has not made so many clips of this case together before, in this process.

    Raises:
      ValueError: the method's frames have another size or number, or changed observed pixels.
    """
    canvas = results.protocol.cases[case]
    truths = (read_clip(results.reference(clip)) for clip in clips)
    sources = [np.ascontiguousarray(truth[(slice(None), *canvas.observed)]) for truth in truths]
    videos, cost = measured(lambda: outpaint(sources, canvas))
    frames = sum(map(len, sources))
    for clip, source, made in zip(clips, sources, videos, strict=True):
        _check(made, source, canvas, method)
        # The timing first: it counts only beside its frames.
        seconds = cost.seconds * len(source) / frames
        timing = Timing(method, case, clip, len(made), seconds, cost.peak_memory, cost.memory_of, first)
        write_json(results.part("timing", method, case, clip), asdict(timing))
        target = results.generated(method, case, clip)
        assert target is not None  # of what is made here it has a place
        _write(target, made)


def _check(made: np.ndarray, source: np.ndarray, canvas: Canvas, method: str) -> None:
    if made.shape != (len(source), canvas.height, canvas.width, 3):
        raise ValueError(f"{method} made {made.shape} of {len(source)} frames for {canvas}")
    if not np.array_equal(made[(slice(None), *canvas.observed)], source):
        raise ValueError(f"{method} changed observed pixels")


def _write(folder: Path, frames: Iterable[np.ndarray]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(folder, FRAME_RATE) as writer:
        for frame in frames:
            writer.write(frame)
