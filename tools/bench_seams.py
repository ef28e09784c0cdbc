"""How visible the border of the source is, beside what is within true frames.

    python tools/bench_seams.py ~/gp_test_data/davis --overlap 2 --pictures borders

The clips of a folder as DAVIS has it are scaled to 96 x 96 pixels; sides of a third of their width are hidden and made
again. Measured is the difference of slope (gp_jax/metrics/seam.py), its mean over frames and rows, at the two borders,
and at every column of the true frames: a clip's border is within reality where it is not above the 95th percentile of
those. That is told for what comes out of the networks, put around the source as it is, for the blend of compositing.py,
and for an `--overlap`. Pictures show what lies 16 pixels to either side of the left border, 2 times over, in a row each
for the truth and these three.
"""

import argparse
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jobs import run
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from gp_jax.cli.arguments import HelpFormatter, index
from gp_jax.geometry import Canvas
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.methods.method import ArrayClip
from gp_jax.metrics.metric import unit
from gp_jax.metrics.seam import slope_difference
from gp_jax.video import VideoReader
from gp_jax.video.clips import clips_in, scale

SIDE, HIDDEN, FRAMES, REACH = 96, 32, 16, 16
WAYS = "as it is made", "blended", "overlap"


def columns(video: np.ndarray) -> np.ndarray:
    """[T, H, W, 3] uint8 -> [W - 3]: the mean difference of slope from each column, the second and on, to the next."""
    across = slope_difference(jnp.asarray(unit(video[None])))[1]
    return np.asarray(across.mean(axis=(0, 1, 2)))


def border(video: np.ndarray, canvas: Canvas) -> float:
    """The mean of that at the left and the right border of the source."""
    there = columns(video)
    return float((there[canvas.left - 2] + there[canvas.left + canvas.source_width - 2]) / 2)


def ways(pipe: OutpaintPipeline, source: np.ndarray, canvas: Canvas, overlap: int) -> list[np.ndarray]:
    """A clip by each of `WAYS`, uint8 [T, H, W, 3]."""
    decoded: list[np.ndarray] = []
    job = pipe.prepare(ArrayClip(source), canvas, Options())
    finish = job._finish

    def kept(latents: np.ndarray, pixels: np.ndarray) -> tuple[jax.Array, jax.Array]:
        decoded.extend(np.asarray(_decode(pipe.checkpoint.vae, latents)))
        return finish(latents, pixels)

    job._finish = kept
    blended = np.stack(list(job.frames()))
    size = SIDE, SIDE
    plain = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in decoded[: len(source)]])
    plain[:, *canvas.observed] = source
    lapped = pipe.prepare(ArrayClip(source), canvas, Options(overlap=overlap)).frames()
    return [plain, blended, np.stack(list(lapped))]


@jax.jit
def _decode(vae, latents):
    frames = vae.decode(latents / vae.config.scaling_factor)
    return jnp.round((jnp.clip(frames, -1.0, 1.0) + 1.0) * 127.5).astype(jnp.uint8)


def main(arguments: argparse.Namespace) -> None:
    """Prints the table."""
    clips = clips_in(arguments.data / "JPEGImages" / "480p")
    pipe = OutpaintPipeline.from_pretrained(arguments.checkpoint)
    canvas = Canvas.from_pads(SIDE, SIDE - 2 * HIDDEN, HIDDEN, HIDDEN, 0, 0)
    rows = []
    for name, path in track(clips.items(), console=Console(stderr=True)):
        reader = VideoReader(path)
        frames = reader.frames_at(range(min(len(reader), FRAMES)))
        truth = np.stack([scale(frame, SIDE, SIDE) for frame in frames])
        made = ways(pipe, np.ascontiguousarray(truth[:, *canvas.observed]), canvas, arguments.overlap)
        there = columns(truth)
        rows.append([border(truth, canvas), *(border(video, canvas) for video in made), np.percentile(there, 95)])
        if arguments.pictures:
            arguments.pictures.mkdir(parents=True, exist_ok=True)
            seen = slice(HIDDEN - REACH, HIDDEN + REACH)
            shown = np.concatenate([video[len(video) // 2, :, seen] for video in (truth, *made)], axis=1)
            doubled = shown.repeat(2, axis=0).repeat(2, axis=1)
            Image.fromarray(doubled).save(arguments.pictures / f"{name}.png")
    table = Table("border", "mean", "over the 95th percentile at most", "clips within")
    values = np.array(rows)
    for way, column in zip(("the truth", *WAYS), values.T):
        share = column / values[:, -1]
        table.add_row(way, f"{column.mean():.4f}", f"{share.max():.2f} of it", f"{(share <= 1).sum()} of {len(rows)}")
    Console().print(table)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("data", type=Path, help="a folder as DAVIS has it")
    parser.add_argument("--overlap", type=index, default=2, metavar="N", help="pixels of the network's frame")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="where pictures of borders go; by default nowhere")
    parser.add_argument("--checkpoint", default="tiny", metavar="DIR|NAME", help="a folder, or a model of this package")
    return parser.parse_args()


if __name__ == "__main__":
    run(main, parse())
