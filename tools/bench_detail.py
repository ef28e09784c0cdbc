"""How sharp the made sides are at the canvas' own size, and how right: `--detail none`, `source` and `tiles`.

    python tools/bench_detail.py films/a.mp4 films/b --hide 0.5 --frames 8
    python tools/bench_detail.py films/a.mp4 --detail none,source --pictures pictures

The sides of a clip's frames are hidden and made again. Printed are, of the made sides: LPIPS (alex) and PSNR against
the true ones; sharpness, the mean absolute Laplacian over that of the true sides, so that 1 is as sharp as reality;
flicker, the mean absolute change from frame to frame in levels of 255, and that of the true sides. With tiles there is
the seam as well: how much more the slope differs at the borders of tiles, across the columns, than at other borders of
cells of latents, over the latter. `--pictures` keeps the middle frames, the true one first.
"""

import argparse
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from jobs import run
from rich.console import Console
from rich.table import Table

from gp_jax.cli.arguments import HelpFormatter, count, index, share
from gp_jax.cli.progress import progress
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.methods.method import ArrayClip
from gp_jax.methods.tiled import TiledJob
from gp_jax.metrics import lpips, psnr
from gp_jax.metrics.seam import slope_difference
from gp_jax.video import VideoReader

HEADINGS = "clip", "detail", "LPIPS", "PSNR", "sharpness", "flicker", "true flicker", "seam of tiles"


def main(arguments: argparse.Namespace) -> None:
    """Makes the sides of every clip in each way, and prints the table."""
    readers = {name: VideoReader(name) for name in arguments.clips}
    for name, reader in readers.items():
        if arguments.skip >= len(reader):
            raise UserError(f"{name} has {len(reader)} frames: --skip fewer than that")
    pipe = OutpaintPipeline.from_pretrained(arguments.checkpoint)
    table = Table(*HEADINGS)
    for name, reader in readers.items():
        truth = np.stack(list(islice(reader, arguments.skip, arguments.skip + arguments.frames)))
        height, width = truth.shape[1:3]
        side = round(width * arguments.hide / 2)
        canvas = Canvas.from_pads(height, width - 2 * side, side, side, 0, 0)
        pictures = [truth[len(truth) // 2]]
        for detail in arguments.detail.split(","):
            job = pipe.prepare(ArrayClip(truth[:, *canvas.observed]), canvas, Options(detail=detail))
            with progress() as report:
                video = np.stack(list(job.frames(report)))
            seam = f"{seam_of_tiles(video, job, canvas):+.0%}" if isinstance(job, TiledJob) else ""
            table.add_row(Path(name).name, detail, *(f"{x:.4g}" for x in numbers(truth, video, canvas)), seam)
            pictures.append(video[len(video) // 2])
        if arguments.pictures:
            arguments.pictures.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(arguments.pictures / f"{Path(name).name}.png"), np.vstack(pictures)[..., ::-1])
    Console(width=120).print(table)


def numbers(truth: np.ndarray, video: np.ndarray, canvas: Canvas) -> tuple[float, float, float, float, float]:
    """Those of `HEADINGS`, of uint8 [T, H, W, 3] whose left and right sides were made."""
    (_, _), (left, right) = canvas.pads
    sides = [slice(0, left), slice(canvas.width - right, canvas.width)]
    pairs = [(truth[:, :, side], video[:, :, side]) for side in sides]
    error = np.mean([[metric(true[None], made[None]) for metric in (lpips, psnr)] for true, made in pairs], axis=0)
    sharp = [np.mean([[_laplacian(frame) for frame in part] for part in parts]) for parts in zip(*pairs)]
    flicker = [np.mean([np.abs(np.diff(part.astype(float), axis=0)).mean() for part in parts]) for parts in zip(*pairs)]
    return *error, sharp[1] / sharp[0], flicker[1], flicker[0]


def seam_of_tiles(video: np.ndarray, job: TiledJob, canvas: Canvas) -> float:
    """See above; of uint8 [T, H, W, 3] at a size that cells divide."""
    slopes = np.asarray(slope_difference(video[None] / np.float32(255))[1]).mean(axis=(0, 1, 2))
    starts = {int(x) for x in job.grid.pixels.corners[..., 1].flat}
    borders = starts | {x + job.grid.pixels.weights.shape[-1] for x in starts}
    first, last = canvas.left - 8, canvas.left + canvas.source_width + 8
    made = [x for x in range(16, canvas.width - 15, 8) if not first <= x <= last]
    at, elsewhere = ([slopes[x - 2] for x in made if (x in borders) == wanted] for wanted in (True, False))
    return float(np.mean(at) / np.mean(elsewhere) - 1) if at and elsewhere else float("nan")


def _laplacian(frame: np.ndarray) -> float:
    return float(np.abs(cv2.Laplacian(frame.astype(np.float32).mean(axis=-1), cv2.CV_32F)).mean())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("clips", nargs="+", metavar="CLIP", help="a video, a folder of images, or sample:NAME")
    parser.add_argument("--hide", type=share, default=0.5, metavar="SHARE", help="of the width; by default 0.5")
    parser.add_argument("--frames", type=count, default=8, metavar="N", help="the first ones; by default 8")
    parser.add_argument("--skip", type=index, default=0, metavar="N", help="frames before them; by default 0")
    parser.add_argument(
        "--detail", default="none,source,tiles", metavar="NAME,...", help="ways; by default none,source,tiles"
    )
    parser.add_argument("--checkpoint", default="tiny", metavar="DIR|NAME", help="a folder, or a model of this package")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="for the middle frames; by default nowhere")
    return parser.parse_args()


if __name__ == "__main__":
    run(main, parse())
