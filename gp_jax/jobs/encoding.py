"""Frames on their way into a file, encoded while the next ones are made; and what that takes.

encoding = Encoding(target, canvas, len(reader))
encoding.seconds, encoding.peak_bytes             beside those of the job
encoding.write(writer, job.frames(progress))
"""

import contextlib
import time
from collections.abc import Generator
from pathlib import Path

import numpy as np

from gp_jax.geometry import Canvas
from gp_jax.jobs.rates import Clock, Rates
from gp_jax.jobs.threads import behind
from gp_jax.video import VideoWriter
from gp_jax.video.codecs import PLAIN, Coding

AHEAD = 8  # frames that wait for the encoder, which works beside the networks
UNKNOWN = 15e-9  # seconds a pixel that the work waits for an encoder of which nothing is known yet
BYTES = 120  # a pixel: the frames between which x264 looks back and forth


class Encoding:
    """The writing of one clip.

    Args:
      target: the file or folder.
      canvas: of its frames.
      frames: how many there are.
      coding: what is wished.
    """

    def __init__(self, target: Path, canvas: Canvas, frames: int, coding: Coding = PLAIN):
        self.frames, self.pixels = frames, canvas.height * canvas.width
        wished = "".join(f" {wish}" for wish in (coding.codec, coding.pixels) if wish)
        self._stage, self._rates = f"encode {target.suffix.lower() or 'folder'}{wished}", Rates("encoder")

    @property
    def seconds(self) -> float:
        """That the work waits for it, as far as is known."""
        return self.frames * (self._rates.seconds(self._stage, self.pixels) or UNKNOWN * self.pixels)

    @property
    def peak_bytes(self) -> int:
        """Memory that it takes at once."""
        return BYTES * self.pixels

    def write(self, writer: VideoWriter, frames: Generator[np.ndarray, None, None]) -> None:
        """Writes all frames, uint8 [H, W, 3], and closes what makes them; nothing is left of a clip that ends early."""
        clock = Clock()
        with writer, behind(writer.write, AHEAD) as write, contextlib.closing(frames):
            for frame in frames:
                with clock(self._stage, self.pixels):
                    write(frame)
            end = time.monotonic()
        clock.add(self._stage, self.pixels, time.monotonic() - end, calls=0)
        self._rates.learn(clock)
