"""Scores a video against the true one, or a folder of videos against a folder of true ones with the same names.

Every number comes with its metric, preset, region, resolution and N; compare it with those that agree in all of them.
LPIPS and FVD need `gp-jax fetch` once.

examples:
  gp-jax metrics truth.mp4 outpainted.mp4
  gp-jax metrics truth.mp4 outpainted.mp4 --pad 64,64,0,0 --metric psnr --metric seam
  gp-jax metrics DAVIS/JPEGImages/480p outputs --protocol m3ddm-256 --json
"""

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING

import numpy as np

from gp_jax.cli import arguments as parse
from gp_jax.errors import UserError
from gp_jax.evaluation.protocols import METRICS, PROTOCOLS
from gp_jax.geometry import Canvas, pixel_mask

if TYPE_CHECKING:
    from gp_jax.metrics.score import Measurement


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what the command takes."""
    parser.add_argument("reference", metavar="REFERENCE", help="a video, a folder of images, or a folder of either")
    parser.add_argument("generated", metavar="GENERATED", help="what to score, of the same kind")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        metavar="NAME",
        help=f"scale to its size, score its regions by its metrics: {', '.join(PROTOCOLS)}",
    )
    where.add_argument(
        "--pad", type=parse.pads, metavar="L,R,T,B", help="pixels that were made on each side: scores them apart too"
    )
    parser.add_argument(
        "--metric", action="append", metavar="NAME", help=f"can be repeated; by default {', '.join(METRICS)}"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per number")


def run(arguments: argparse.Namespace) -> None:
    """Prints the numbers."""
    from gp_jax.metrics import score  # the frameworks behind it take seconds to import, and help can do without

    regions, size, metrics = score.whole, None, METRICS
    if arguments.protocol:
        protocol = PROTOCOLS[arguments.protocol]
        regions, size, metrics = protocol.regions, (protocol.height, protocol.width), protocol.metrics
    elif arguments.pad:
        left, right, top, bottom = arguments.pad

        def regions(height: int, width: int) -> dict[str, np.ndarray]:
            if left + right >= width or top + bottom >= height:
                raise UserError(
                    f"--pad {left},{right},{top},{bottom} leaves no pixel of a clip of {width}x{height}: give less"
                )
            canvas = Canvas(height, width, top, left, height - top - bottom, width - left - right)
            return score.whole(height, width) | {"unknown": pixel_mask(canvas)}

    pairs = score.pair_up(arguments.reference, arguments.generated)
    scores = score.measure(pairs, tuple(arguments.metric or metrics), regions, size)
    print("\n".join(json.dumps(dataclasses.asdict(one)) for one in scores) if arguments.json else table(scores))


def table(scores: "list[Measurement]") -> str:
    """Aligned columns, one line per number."""
    rows = [("metric", "preset", "region", "resolution", "N", "value", "")]
    for score in scores:
        value = "-" if score.value is None else f"{score.value:.5g} {'↑' if score.better == 'higher' else '↓'}"
        count = f"{score.clips} clip{'s' * (score.clips != 1)}, {score.frames} frames"
        rows.append((score.metric, score.preset, score.region, score.resolution, count, value, score.note))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
