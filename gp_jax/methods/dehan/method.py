"""Dehan's method on clips of any length.

A clip is cut into parts of at most 75 frames, as published, fewer where frames are large, so memory is bounded. A part
is outpainted together (stages.py); of all but the last, the last fifth is not kept: those frames saw too little of what
comes after them, and the next part makes them again. It begins with the last frame that was kept, whose sides are known
by then, so that what was made is carried on:

    frames      0 ........ 59 60 .. 74                     part 0: keeps 0 to 59
                           59 60 ........ 118 119 .. 133   part 1: knows 59, keeps 60 to 118

The shorter side is at most 512 pixels while the work is done, as published of the height; beyond, sides are enlarged
around the source's own pixels. Flow of larger frames takes longer, and does not become better in proportion.
"""

import dataclasses
import functools
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np

from gp_jax.flow.estimate import check, flows
from gp_jax.flow.warp import check_size
from gp_jax.geometry import Canvas, pixel_mask
from gp_jax.jobs.journal import Journal
from gp_jax.jobs.rates import Clock, Rates
from gp_jax.jobs.source import identity
from gp_jax.memory import require
from gp_jax.methods.dehan.options import Options
from gp_jax.methods.dehan.plugs import Plugs, completion_of, segmentation_of
from gp_jax.methods.dehan.stages import STAGES, outpaint
from gp_jax.methods.method import STAND_INS, Clip, Estimate, Method, Progress, observed, quiet
from gp_jax.methods.streams import surroundings

FLOW = "dis"
LONGEST, SHORTEST = 75, 16  # frames of a part
PIXELS = 2**25  # of all frames of a part, unless it is the shortest
AHEAD = 5  # one of so many frames of a part is made again by the next one
SIDE = 512  # pixels of the shorter side
SMOOTH = 2  # pixels, of the Gaussian
BYTES_PER_PIXEL = 80  # of a part
SECONDS_PER_PIXEL = 2e-6  # where nothing was measured yet
STAGE = "dehan"


class Dehan(Method):
    """Completed by flow, what no frame shows by a plug."""

    name = "dehan"
    Options: ClassVar[type] = Options

    def settings(self, options: Any) -> Mapping[str, Any]:
        """See `Method`: the plugs, by default or not, since numbers mean nothing without them."""
        of = {"RAFT": options.flow, "COSNet": options.segmentation, "CoModGAN": options.completion}
        return {
            **dataclasses.asdict(options),
            "completion_settings": dict(completion_of(options.completion).settings),
            STAND_INS: ", ".join(f"{here} in the place of {there}" for there, here in of.items()),
        }

    def prepare(self, clip: Clip, canvas: Canvas, options: Any, work: Path | None = None) -> "DehanJob":
        """See `Method`."""
        return DehanJob(clip, canvas, options, self.settings(options), work)


class Part(NamedTuple):
    """Frames `first` to `stop` that are made together, of which those from `kept` to `end` are kept."""

    first: int
    kept: int
    end: int
    stop: int


def parts(total: int, length: int) -> list[Part]:
    """Of a clip of `total` frames, each at most `length` frames long: every frame is kept once."""
    found, end = [], 0
    while end < total:
        first = max(end - 1, 0)
        stop = min(first + length, total)
        found.append(Part(first, end, stop if stop == total else stop - length // AHEAD, stop))
        end = found[-1].end
    return found


class DehanJob:
    """A clip on its way through Dehan's method; arguments as of `Method.prepare`, and its settings."""

    def __init__(self, clip: Clip, canvas: Canvas, options: Options, settings: Mapping[str, Any], work: Path | None):
        self.clip, self.canvas, self.options = clip, canvas, options
        check(options.flow)
        estimate = functools.partial(flows, estimator=options.flow)
        self.plugs = Plugs(estimate, segmentation_of(options.segmentation), completion_of(options.completion))
        scale = min(1.0, SIDE / min(canvas.height, canvas.width))
        self.native = canvas.resize(round(scale * canvas.height), round(scale * canvas.width))
        check_size(self.native.height, self.native.width)
        pixels = self.native.height * self.native.width
        length = max(SHORTEST, min(LONGEST, PIXELS // pixels))
        self.parts = parts(len(clip), length)
        self.bytes = BYTES_PER_PIXEL * pixels * min(length, len(clip)) + 3 * canvas.frame_bytes
        require(self.bytes, f"{min(length, len(clip))} frames of {self.native.width}x{self.native.height} at once")
        self.journal = None
        if work is not None and not canvas.is_complete:
            self.journal = Journal(work, self._identity(settings))

    @property
    def estimate(self) -> Estimate:
        """See `Job`."""
        if self.canvas.is_complete:
            return Estimate()
        left = [part for number, part in enumerate(self.parts) if not self._is_made(number)]
        known = Rates(STAGE).seconds(self._stage, self._pixels)
        each = self._pixels * SECONDS_PER_PIXEL if known is None else known
        return Estimate(seconds=each * sum(part.stop - part.first for part in left), peak_bytes=self.bytes)

    def frames(self, progress: Progress = quiet) -> Generator[np.ndarray, None, None]:
        """See `Job`."""
        source = observed(self.clip, self.canvas, range(len(self.clip)))
        if self.canvas.is_complete:
            yield from source
            return
        clock = Clock()
        with ExitStack() as stack:
            if self.journal is not None:
                stack.enter_context(self.journal)
            for sides in self._sides(progress, clock):
                yield self._joined(sides, next(source))
        Rates(STAGE).learn(clock)

    def _sides(self, progress: Progress, clock: Clock) -> Iterator[np.ndarray]:
        """uint8 [M, 3] of each frame, the M unknown pixels of the working frame."""
        total, last = len(STAGES) * len(self.parts), None
        for number, part in enumerate(self.parts):

            def at(stage: str, done: int = len(STAGES) * number) -> None:
                progress(done + STAGES.index(stage), total, stage)

            def made(part: Part = part, last: np.ndarray | None = last, at: Any = at) -> dict[str, np.ndarray]:
                with clock(self._stage, self._pixels, part.stop - part.first):
                    return {"sides": self._made(part, last, at)}

            sides = (self.journal.piece(_name(number), made) if self.journal else made())["sides"]
            yield from sides
            last = sides[-1]
        progress(total, total, STAGES[-1])

    def _made(self, part: Part, last: np.ndarray | None, at: Any) -> np.ndarray:
        """uint8 [N, M, 3], the new pixels of the frames that a part keeps; `last` [M, 3] are those before."""
        unknown, before = pixel_mask(self.native) > 0, None
        if last is not None:
            before = np.zeros((*unknown.shape, 3), np.uint8)
            before[unknown] = last
        source = observed(self.clip, self.canvas, range(part.first, part.stop))
        frames = np.stack([self._shrunk(frame)[self.native.observed] for frame in source])
        wide = outpaint(frames, self.native, self.plugs, before, at)
        return wide[part.kept - part.first : part.end - part.first, unknown]

    def _shrunk(self, source: np.ndarray) -> np.ndarray:
        """A frame of the source in the working frame, uint8 [h, w, 3]; what is not observed there means nothing."""
        wide = np.pad(source, (*self.canvas.pads, (0, 0)), mode="edge")
        return cv2.resize(wide, (self.native.width, self.native.height), interpolation=cv2.INTER_AREA)

    def _joined(self, sides: np.ndarray, source: np.ndarray) -> np.ndarray:
        """Stage 7: uint8 [H, W, 3] of the sides of a frame, [M, 3], and its source."""
        frame = self._shrunk(source)
        frame[pixel_mask(self.native) > 0] = sides
        if self.options.smooth:
            frame = cv2.GaussianBlur(frame, (0, 0), SMOOTH)
        if self.native != self.canvas:
            frame = cv2.resize(frame, (self.canvas.width, self.canvas.height), interpolation=cv2.INTER_CUBIC)
        frame[self.canvas.observed] = source
        return frame

    @property
    def _pixels(self) -> int:
        return self.native.height * self.native.width

    @property
    def _stage(self) -> str:
        """The name under which the speed is remembered: plugs take their time."""
        return f"{self.options.flow}, {self.options.segmentation}, {self.options.completion}"

    def _is_made(self, number: int) -> bool:
        return self.journal is not None and self.journal.has(_name(number))

    def _identity(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "method": Dehan.name,
            "source": identity(self.clip, self.canvas),
            "canvas": dataclasses.asdict(self.canvas),
            **settings,
            **surroundings(1, None),
            "opencv": cv2.__version__,
        }


def _name(number: int) -> str:
    return f"part-{number}"
