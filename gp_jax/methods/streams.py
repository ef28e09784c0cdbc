"""What methods that work on latents have in common: the ends of their streams, and what keeps and reports the middle.

    native_frames   source frames -> float frames of the network's size              for a spool
    reporting       `make` of an executor -> the same, asked only for what the journal does not know
    finished        latents in the order of time, and the source -> frames of the canvas
    surroundings    what else changes a bit of the result, for the journal

Work goes by chunks and batches of one size, the last one filled up: one shape, one program.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from itertools import islice
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from gp_jax import __version__
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.jobs.journal import Journal, remembering
from gp_jax.jobs.threads import ahead
from gp_jax.methods.method import Progress
from gp_jax.methods.placement import Placement, shrink

# Frames decoded and composited at once, fewer where they are large.
CHUNK_FRAMES, CHUNK_PIXELS = 8, 2**24

Make = Callable[[int, Sequence[Any], Mapping[int, np.ndarray]], Mapping[int, np.ndarray]]


def native_frames(frames: Iterator[np.ndarray], place: Placement) -> Iterator[np.ndarray]:
    """Float [H, W, C] at the network's size, of source frames or of layers (placement.py).

    On one device of this process, whatever the mesh: threads that read run beside the work, and programs of several
    processes must begin everywhere in the same order.
    """
    while chunk := list(islice(frames, CHUNK_FRAMES)):
        yield from np.asarray(shrink(fill(chunk, CHUNK_FRAMES), place))[: len(chunk)]


def reporting(journal: Journal | None, make: Make, total: int, label: Callable[[int], str], progress: Progress) -> Make:
    """`make` of an executor, which asks the journal first and tells `progress` what of `total` segments is done.

    Args:
      journal: None for none.
      make: (number of the level, segments, completed frames by index) -> the frames that these segments make.
      total: segments of all levels.
      label: of a level.
      progress: see `gp_jax.methods.method`.
    """
    remember, done = remembering(journal, make), 0

    def report(number: int, segments: Sequence[Any], completed: Mapping[int, np.ndarray]) -> Mapping[int, np.ndarray]:
        nonlocal done
        made = remember(number, segments, completed)
        done += len(segments)
        progress(done, total, label(number))
        return made

    return report


def chunk_size(frame: Canvas) -> int:
    """Frames of this size that are finished at once."""
    return max(1, min(CHUNK_FRAMES, CHUNK_PIXELS // (frame.height * frame.width)))


def finished(
    made: Iterator[tuple[int, np.ndarray]],
    pixels: Iterable[np.ndarray],
    finish: Callable[[np.ndarray, np.ndarray], tuple[jax.Array, jax.Array]],
    size: int,
    timed: Callable[[], AbstractContextManager] = nullcontext,
) -> Iterator[np.ndarray]:
    """Frames of the canvas, what is put into them read ahead of the work.

    Args:
      made: index and latents of all frames, in the order of time.
      pixels: uint8 [Hs, Ws, 3], the source, or layers, in the order of time.
      finish: ([N, h, w, C] latents, uint8 [N, Hs, Ws, 3] pixels) -> uint8 [N, H, W, 3], and whether all is finite.
      size: N.
      timed: what a chunk is made in, once its latents are there; see `gp_jax.jobs.rates.Clock`.

    Yields:
      uint8 [H, W, 3].
    """
    with ahead(pixels, size) as source:
        while chunk := list(islice(made, size)):
            with timed():
                taken = list(islice(source, len(chunk)))
                frames, finite = finish(fill([latents for _, latents in chunk], size), fill(taken, size))
                if not finite:
                    raise not_finite("autoencoder", [index for index, _ in chunk])
                frames = np.asarray(frames)[: len(chunk)]
            yield from frames


def surroundings(batch: int, mesh: Mesh | None) -> dict[str, Any]:
    """Of a journal's mapping, what changes a bit of the result and nobody asked for."""
    several = {"processes": jax.process_count()} if jax.process_count() > 1 else {}
    return several | {
        "batch": batch,
        "mesh": None if mesh is None else dict(mesh.shape),
        "device": jax.devices()[0].device_kind,
        "gp_jax": __version__,
        "jax": version("jax"),
        "jaxlib": version("jaxlib"),
    }


def not_finite(network: str, frames: Sequence[int]) -> UserError:
    """What is told where a network made NaN of some frames."""
    return UserError(
        f"the {network} made NaN or infinity of the frames {min(frames)} to {max(frames)}: its weights are broken, or "
        "the guidance is too strong or the dtype too narrow for it"
    )


def fill(rows: Sequence[np.ndarray], size: int) -> np.ndarray:
    """A batch of `size` rows, the last one repeated."""
    return np.stack([*rows, *[rows[-1]] * (size - len(rows))])
