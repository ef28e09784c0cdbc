"""Whether frames flash where segments meet: how the made sides change there, with the plan's last level and without.

    python tools/bench_flashes.py sample:carphone --aspect 16:9
    python tools/bench_flashes.py films/a.mp4 films/b --hide 0.5 --size 176x96

A clip is widened as it is, or the sides of its frames are hidden and made again. A change is the mean absolute
difference between a frame and the next, in levels of 255, of the made sides. Printed are its mean at the frames where
segments of the level before the last met, and at the ends of the last level's own, both over its mean elsewhere; the
largest change, and the median.
"""

import argparse
from pathlib import Path

import numpy as np
from jobs import run
from rich.console import Console
from rich.table import Table

from gp_jax.cli.arguments import HelpFormatter, aspect, share, size
from gp_jax.cli.progress import progress
from gp_jax.data.videos import cover
from gp_jax.geometry import Canvas, pixel_mask
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.methods.globalpaint.plan import PLANS, plan
from gp_jax.methods.segments import Plan
from gp_jax.video import VideoReader

HEADINGS = "clip", "plan", "where segments met", "ends of the last level", "largest", "median"


def main(arguments: argparse.Namespace) -> None:
    """Outpaints every clip twice, and prints the table."""
    readers = {name: VideoReader(name) for name in arguments.clips}
    pipe = OutpaintPipeline.from_pretrained(arguments.checkpoint)
    PLANS["without"] = lambda frames, length: Plan(plan(frames, length).levels[:-1])
    table = Table(*HEADINGS)
    for name, reader in readers.items():
        frames = np.stack([cover(x, arguments.size) if arguments.size else x for x in reader])
        height, width = frames.shape[1:3]
        if arguments.hide:
            side = round(width * arguments.hide / 2)
            canvas = Canvas.from_pads(height, width - 2 * side, side, side, 0, 0)
            frames = frames[:, :, side : width - side]
        else:
            canvas = Canvas.from_aspect(height, width, arguments.aspect)
        levels = plan(len(frames), pipe.checkpoint.settings.segment_frames).levels
        for label, name_of_plan in (("without", "without"), ("with", "hierarchical")):
            with progress() as report:
                video = pipe(frames, canvas, plan=name_of_plan, progress=report)
            table.add_row(Path(name).name, label, *(f"{x:.2f}" for x in flashes(video, canvas, levels)))
    Console(width=120).print(table)


def flashes(video: np.ndarray, canvas: Canvas, levels: tuple) -> tuple[float, float, float, float]:
    """The numbers of `HEADINGS`.

    Args:
      video: uint8 [T, H, W, 3].
      canvas: its made sides.
      levels: of the whole plan.
    """
    made = video[:, pixel_mask(canvas) == 1].astype(np.int16)
    change = np.abs(np.diff(made, axis=0)).mean(axis=(1, 2))

    def ratio(level: tuple) -> float:
        times = {time + step for segment in level for time in segment.boundary for step in (-1, 0)}
        there = sorted(time for time in times if 0 <= time < len(change))
        return change[there].mean() / np.delete(change, there).mean()

    return ratio(levels[-2]), ratio(levels[-1]), change.max(), float(np.median(change))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("clips", nargs="+", metavar="CLIP", help="a video, a folder of images, or sample:NAME")
    parser.add_argument("--aspect", type=aspect, default=16 / 9, metavar="W:H", help="where nothing is hidden")
    parser.add_argument("--hide", type=share, default=0.0, metavar="SHARE", help="of the width, to be made again")
    parser.add_argument("--size", type=size, metavar="WxH", help="to which frames are brought first")
    parser.add_argument("--checkpoint", default="tiny", metavar="DIR|NAME", help="a folder, or a model of this package")
    return parser.parse_args()


if __name__ == "__main__":
    run(main, parse())
