"""Protocols: what two papers have to agree on before their numbers can be compared.

A protocol is data: the size that clips are scaled to, which part of them is made (one or more cases, reported apart and
as their mean), and the metrics with their presets.

    protocol = PROTOCOLS["m3ddm-256"]
    protocol.cases["0.25"]      -> Canvas(height=256, width=256, top=0, left=32, source_height=256, source_width=192)

Whether the field measures the whole frame or the unknown region alone is not settled (M3DDM-Video-Outpainting issue 6),
so both are reported, under their names.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gp_jax.geometry import Canvas, pixel_mask

METRICS = ("psnr", "ssim", "lpips", "fvd-videogpt", "warping-error", "flicker", "pulse", "seam")


@dataclass(frozen=True)
class Protocol:
    """How to measure.

    Attributes:
      height, width: pixels that every clip is scaled to.
      cases: by name, the rectangle that a method is given of each frame.
      metrics: names of `gp_jax.metrics.METRICS`.
    """

    height: int
    width: int
    cases: Mapping[str, Canvas]
    metrics: tuple[str, ...] = METRICS

    def regions(self, height: int, width: int) -> dict[str, np.ndarray]:
        """The whole frame and each case's unknown region, as masks [height, width]."""
        unknown = {
            f"unknown {name}" if len(self.cases) > 1 else "unknown": pixel_mask(canvas.resize(height, width))
            for name, canvas in self.cases.items()
        }
        return {"whole": np.ones((height, width), np.float32)} | unknown


def _shares(height: int, width: int, *, sides: float = 0, ends: float = 0) -> Canvas:
    """A canvas of which the share `sides` is unknown left and right each, and `ends` above and below each."""
    left, top = round(width * sides), round(height * ends)
    return Canvas(height, width, top, left, height - 2 * top, width - 2 * left)


PROTOCOLS = {
    # Fan et al. 2023 (M3DDM) and Wang et al. 2024 (MOTIA): DAVIS and YouTube-VOS, horizontal
    "m3ddm-256": Protocol(256, 256, {"0.25": _shares(256, 256, sides=0.125), "0.66": _shares(256, 256, sides=0.33)}),
    # ours: the same at the size that the embedded model works at
    "m3ddm-96": Protocol(96, 96, {"0.25": _shares(96, 96, sides=0.125), "0.66": _shares(96, 96, sides=0.33)}),
    # ours: what the first leaves out
    "vertical-256": Protocol(256, 256, {"0.25": _shares(256, 256, ends=0.125), "0.66": _shares(256, 256, ends=0.33)}),
    "four-sides-256": Protocol(256, 256, {"0.44": _shares(256, 256, sides=0.125, ends=0.125)}),
    "wide-720p": Protocol(720, 1280, {"0.25": _shares(720, 1280, sides=0.125), "0.66": _shares(720, 1280, sides=0.33)}),
}
