"""Whether training learns at all: one clip, again and again, until its hidden sides come back.

    python tools/bench_overfit.py --workdir W --steps 300
    python tools/bench_overfit.py --workdir W --steps 300 --init-from W1/checkpoint --clip film.mp4

Eight frames of the clip are brought to 96 x 96 pixels, and the key-frame stage of configs/tiny.py sees nothing else, a
fifth of their width hidden on either side. Printed are errors of the hidden sides before and after,
beside those of a guess that repeats the border pixels.
"""

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from gp_jax.cli.arguments import HelpFormatter
from gp_jax.data.clips import pack_clip
from gp_jax.data.shards import begin, finish, shard_names, write_shard
from gp_jax.data.videos import cover
from gp_jax.geometry import Canvas
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.training.config import load_config
from gp_jax.training.log import read_log
from gp_jax.training.loop import train
from gp_jax.video import VideoReader

SIZE, FRAMES, HIDDEN = 96, 8, 19
CONFIG = Path(__file__).parent.parent / "configs" / "tiny.py"


def main() -> None:
    """Trains, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the run")
    parser.add_argument("--clip", default="sample:carphone", help="a video")
    parser.add_argument("--stride", type=int, default=4, help="distance of the eight frames in the clip")
    parser.add_argument("--steps", type=int, default=300, help="of training")
    parser.add_argument("--batch", type=int, default=2, help="segments a step, of different canvases")
    parser.add_argument("--init-from", default="tiny", help="a checkpoint, trained or not")
    arguments = parser.parse_args()

    reader = VideoReader(arguments.clip)
    indices = range(0, FRAMES * arguments.stride, arguments.stride)
    truth = np.stack([cover(frame, (SIZE, SIZE)) for frame in reader.frames_at(indices)])
    config = load_config(f"{CONFIG}:keyframes")
    with config.unlocked():
        config.init_from = str(arguments.init_from)
        config.steps, config.batch_size, config.mesh = arguments.steps, arguments.batch, "data=-1"
        config.log_interval = config.checkpoints.interval = max(1, arguments.steps // 10)
        config.validation.interval = 0
        config.data.update({"records": (str(_records(arguments.workdir / "records", truth)),), "flip": False})
        config.data.update({"strides": (1,), "paces": (1,), "directions": ("horizontal",)})
        config.data.ratio_range = (2 * HIDDEN / SIZE, 2 * HIDDEN / SIZE)
        config.optimizer.warmup = min(20, arguments.steps // 5)

    table = Table("checkpoint", "PSNR of the hidden sides", "mean absolute error")
    table.add_row("repeated border pixels", *_errors(truth, _repeated(truth)))
    table.add_row("before", *_errors(truth, _outpainted(arguments.init_from, truth)))
    with Progress(transient=True) as progress:
        bar = progress.add_task("training", total=arguments.steps)
        train(config, arguments.workdir, progress=lambda done, *_: progress.update(bar, completed=done))
    made = _outpainted(arguments.workdir / "checkpoint", truth)
    table.add_row(f"after {arguments.steps} steps", *_errors(truth, made))
    losses = [line["loss"] for line in read_log(arguments.workdir)]
    console = Console()
    console.print(table)
    console.print(f"training loss: {losses[0]:.4f} -> {losses[-1]:.4f}")


def _records(folder: Path, frames: np.ndarray) -> Path:
    shards = shard_names("train", 1)
    begin(folder, {})
    write_shard(folder / shards[0], [pack_clip(frames, {"key": "0"}, "png")], {})
    finish(folder, {"train": shards}, {"size": (SIZE, SIZE)})
    return folder


def _outpainted(checkpoint: str | Path, truth: np.ndarray) -> np.ndarray:
    canvas = Canvas.from_pads(SIZE, SIZE - 2 * HIDDEN, HIDDEN, HIDDEN, 0, 0)
    return OutpaintPipeline.from_pretrained(checkpoint)(truth[:, :, HIDDEN:-HIDDEN], canvas)


def _repeated(truth: np.ndarray) -> np.ndarray:
    return np.pad(truth[:, :, HIDDEN:-HIDDEN], ((0, 0), (0, 0), (HIDDEN, HIDDEN), (0, 0)), mode="edge")


def _errors(truth: np.ndarray, made: np.ndarray) -> tuple[str, str]:
    difference = (truth.astype(float) - made)[:, :, np.r_[:HIDDEN, SIZE - HIDDEN : SIZE]] / 255
    return f"{-10 * np.log10(np.mean(difference**2)):.2f} dB", f"{np.abs(difference).mean():.4f}"


if __name__ == "__main__":
    main()
