"""Whether memory and time grow as they should with the length of a clip: the command, from file to file.

    python tools/bench_length.py --frames 200 1000 5000
    python tools/bench_length.py --frames 200 --kept 0 --stop 0.5

Clips of 96 x 72 pixels, which drift over a picture of noise, become 128 x 72. Printed are the seconds of each run, the
peak of its memory, also over that of the first, and what lay in its work folder at most, but for frames in files
without a name; with `--stop`, whether a run of the last clip that was killed there and went on makes the same frames.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from gp_jax.cli.arguments import HelpFormatter
from gp_jax.jobs import spool
from gp_jax.video import VideoReader, VideoWriter

HEIGHT, WIDTH, WIDE = 72, 96, 128
# The command, with another bound for frames that are kept.
CODE = """
import sys
from gp_jax.cli.main import main
from gp_jax.jobs import spool
spool.MOST = int(sys.argv[1])
sys.exit(main(sys.argv[2:]))
"""


class Run(NamedTuple):
    """What a run took: seconds, the peak of its memory in bytes, and bytes in its work folder at most."""

    seconds: float
    memory: int
    disk: int


def write_clip(path: Path, count: int) -> None:
    """A clip whose window drifts over smooth noise, back and forth."""
    rng = np.random.default_rng(0)
    noise = rng.uniform(0, 255, (HEIGHT // 8 + 1, WIDTH, 3)).astype(np.float32)
    picture = cv2.resize(noise, (8 * WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    with VideoWriter(path, 25) as writer:
        for index in range(count):
            place = abs(index % (12 * WIDTH) - 6 * WIDTH)
            writer.write(np.ascontiguousarray(picture[:, place : place + WIDTH]))


def run(source: Path, target: Path, checkpoint: str, kept: int, killed_at: float | None = None) -> Run:
    """Outpaints a clip, or goes on with it.

    Args:
      source, target: files; the work folder lies beside the target.
      checkpoint: a folder, or a model of this package.
      kept: bytes of native frames that are kept at most.
      killed_at: seconds after which the run is killed; None for never.
    """
    work = target.with_suffix(".work")
    words = [str(source), str(target), "--size", f"{WIDE}x{HEIGHT}", "--no-shots", "--overwrite"]
    words += ["--checkpoint", checkpoint, "--work-folder", str(work), "--resume"]
    command = [sys.executable, "-c", CODE, str(kept), "outpaint", *words]
    begin, disk, status = time.monotonic(), 0, 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not status:
        time.sleep(0.2)
        if work.is_dir():
            files = (path for path in work.iterdir() if not path.name.startswith("."))
            disk = max(disk, sum(path.stat().st_size for path in files if path.exists()))
        if killed_at is not None and time.monotonic() - begin > killed_at:
            os.kill(process.pid, signal.SIGKILL)  # Popen's own would take the status away
        status, code, usage = os.wait4(process.pid, os.WNOHANG)
    if code and killed_at is None:
        raise SystemExit(f"{shlex.join(command)} failed")
    return Run(time.monotonic() - begin, 1024 * usage.ru_maxrss, disk)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=(200, 1000), help="lengths of the clips")
    parser.add_argument("--kept", type=int, default=spool.MOST, help="bytes of native frames that are kept at most")
    parser.add_argument("--stop", type=float, metavar="SHARE", help="kill a second run of the longest there")
    parser.add_argument("--checkpoint", default="tiny", metavar="DIR|NAME", help="a folder, or a model of this package")
    arguments = parser.parse_args()
    how = arguments.checkpoint, arguments.kept
    table = Table("frames", "seconds", "a frame", "memory", "of the first", "work folder")
    with tempfile.TemporaryDirectory() as folder:
        runs: list[Run] = []
        write_clip(Path(folder, "first.mkv"), 40)
        run(Path(folder, "first.mkv"), Path(folder, "wide-first.mkv"), *how)  # compiles, which takes memory of its own
        for count in arguments.frames:
            write_clip(Path(folder, f"{count}.mkv"), count)
            runs.append(run(Path(folder, f"{count}.mkv"), Path(folder, f"wide-{count}.mkv"), *how))
            seconds, memory, disk = runs[-1]
            table.add_row(
                str(count),
                f"{seconds:.0f}",
                f"{1000 * seconds / count:.0f} ms",
                f"{memory / 1e6:.0f} MB",
                f"{memory / runs[0].memory:.3f}",
                f"{disk / 1e6:.1f} MB",
            )
        if arguments.stop:
            source, target = Path(folder, f"{count}.mkv"), Path(folder, "again.mkv")
            killed = run(source, target, *how, killed_at=arguments.stop * runs[-1].seconds)
            on = run(source, target, *how)
            whole = VideoReader(Path(folder, f"wide-{count}.mkv"))  # Matroska files have names of their own in them
            made = "the same" if all(map(np.array_equal, whole, VideoReader(target))) else "other"
            table.caption = f"killed after {killed.seconds:.0f} s, then {on.seconds:.0f} s more: {made} frames"
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
