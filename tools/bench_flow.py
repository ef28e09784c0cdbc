"""Times flow and propagation at 480p: seconds of processor time per frame.

    python tools/bench_flow.py

A camera that pans by some pixels a frame, or stands still, over a smooth texture, 854x480, of which 570 columns are
observed: what the flow between neighbours takes, both ways; the same and what the camera makes of it on the whole
canvas; and to propagate along it, by paths of 8 frames between roundings and, as flow propagation went before, by whole
paths. What came out:

                                             6 pixels    0 pixels a frame
    flow, both ways                          0.103       0.086
    the same, carried on over the canvas     0.339       0.229
    propagation, 8 frames between roundings  0.289       0.232
    by whole paths                           0.326       0.274

That is for `--frames 16` on two CPU cores that had other work; no more than 15 frames can be looked at there.
"""

import argparse
import time

import cv2
import numpy as np

from gp_jax.cli.arguments import HelpFormatter
from gp_jax.flow.estimate import flows
from gp_jax.flow.propagation import LINKS, propagate
from gp_jax.geometry import Canvas, pixel_mask
from gp_jax.methods.flow_propagation import camera_flows

CANVAS = Canvas(480, 854, 0, 142, 480, 570)
STEPS = 6, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--frames", type=int, default=24, metavar="N", help="of the clip that is made up")
    count = parser.parse_args().frames

    for step in STEPS:
        measure(step, count)


def measure(step: int, count: int) -> None:
    """Prints the four numbers for a clip of `count` frames."""
    print(f"{step} pixels a frame")
    coarse = np.random.default_rng(0).integers(0, 256, (30, 60 + count, 3), np.uint8)
    scene = cv2.resize(coarse, (854 + step * count, 480), interpolation=cv2.INTER_CUBIC)
    frames = np.stack([scene[:, step * at :][:, :854] for at in range(count)])
    known = np.broadcast_to(pixel_mask(CANVAS) == 0, frames.shape[:3])

    timed("flow, both ways", count, lambda: flows(frames[(slice(None), *CANVAS.observed)]))
    there, back, _ = timed("the same, carried on over the canvas", count, lambda: camera_flows(frames, CANVAS))
    for name, links in ((f"propagation, {LINKS} frames between roundings", LINKS), ("by whole paths", count)):
        timed(name, count, lambda links=links: propagate(frames, known, there, back, links=links))


def timed(name, frames, work):
    """What `work` gives; its processor time per frame is printed, the better of two runs."""
    seconds = []
    for _ in range(2):
        begin = time.process_time()
        made = work()
        seconds.append(time.process_time() - begin)
    print(f"{name:44} {min(seconds) / frames:.3f} s per frame", flush=True)
    return made


if __name__ == "__main__":
    main()
