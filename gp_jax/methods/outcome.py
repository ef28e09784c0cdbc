"""What becomes of what networks make, by the options that all methods on latents have alike.

What comes first lies around what follows:

    overlap    the networks are shown the source without its border                    lapped.py
    detail     none      frames as they are, enlarged
               source    with detail of the source's own                               source_detail.py
               tiles     made anew at the canvas' own size, outwards in rounds         rounds.py, tiled.py
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gp_jax.geometry import Canvas
from gp_jax.methods.lapped import lapped
from gp_jax.methods.latent_job import LatentJob
from gp_jax.methods.method import Clip
from gp_jax.methods.rounds import in_rounds, rounds
from gp_jax.methods.source_detail import with_detail
from gp_jax.methods.tiled import TiledJob, needs_tiles


def outcome(
    prepare: Callable[[Clip, Canvas, Path | None], LatentJob],
    clip: Clip,
    canvas: Canvas,
    work: Path | None,
    *,
    detail: str,
    overlap: int,
    native: Canvas,
    known: int,
    at_once: bool,
) -> Any:
    """A `Job` of the frames that are asked for.

    Args:
      prepare: (clip, canvas, folder of its journal or None) -> what makes them at the networks' size.
      clip, canvas, work: what is to be made.
      detail: none, source or tiles.
      overlap: pixels of `native` by which what is made grows into the source, and as many over which it fades.
      native: the canvas at the networks' size.
      known: frames that a window of tiles has from the one before it.
      at_once: whether there are no rounds: what is fitted to a clip would be fitted anew to what a round has made.

    Raises:
      UserError: nothing is left of the source, or as of `prepare`.
    """

    def detailed(clip: Clip, canvas: Canvas, work: Path | None) -> Any:
        job = prepare(clip, canvas, work)
        if detail == "source":
            return with_detail(job)
        return TiledJob(job, known) if detail == "tiles" and needs_tiles(job) else job

    def whole(clip: Clip, canvas: Canvas, work: Path | None) -> Any:
        return in_rounds(detailed, clip, rounds(canvas) if detail == "tiles" and not at_once else [canvas], work)

    return lapped(whole, clip, canvas, work, 2 * overlap * canvas.height / native.height)
