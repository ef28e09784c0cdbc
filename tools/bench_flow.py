"""Times flow and propagation at 480p: seconds per frame, on this machine's processors.

    python tools/bench_flow.py

A camera that pans by 6 pixels a frame over a smooth texture, 854x480, of which 570 columns are observed: what
the flow between neighbours takes, both ways; to carry it on over the canvas; and to propagate along it, by paths of 8
frames between roundings and, for comparison, by whole paths, as flow propagation went before it had chains.
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
STEP = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--frames", type=int, default=24)
    count = parser.parse_args().frames

    coarse = np.random.default_rng(0).integers(0, 256, (30, 60 + count, 3), np.uint8)
    scene = cv2.resize(coarse, (854 + STEP * count, 480), interpolation=cv2.INTER_CUBIC)
    frames = np.stack([scene[:, STEP * at :][:, :854] for at in range(count)])
    known = np.broadcast_to(pixel_mask(CANVAS) == 0, frames.shape[:3])

    timed("flow, both ways", count, lambda: flows(frames[(slice(None), *CANVAS.observed)]))
    there, back, _ = timed("the same, carried on over the canvas", count, lambda: camera_flows(frames, CANVAS))
    for name, links in ((f"propagation, {LINKS} frames between roundings", LINKS), ("by whole paths", count)):
        timed(name, count, lambda links=links: propagate(frames, known, there, back, links=links))


def timed(name, frames, work):
    """What `work` gives; its seconds per frame are printed, the better of two runs."""
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        made = work()
        seconds.append(time.perf_counter() - begin)
    print(f"{name:44} {min(seconds) / frames:.3f} s per frame", flush=True)
    return made


if __name__ == "__main__":
    main()
