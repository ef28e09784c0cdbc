"""What is known of a clip, whatever it lies in."""

import dataclasses
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from gp_jax.video.colours import NO_TAGS, Colours


class Orientation(NamedTuple):
    """How stored pictures become upright: rows and columns swapped first, then either axis reversed; eight ways."""

    swap: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @classmethod
    def of_matrix(cls, matrix: np.ndarray) -> "Orientation":
        """Of a file's display matrix, 9 numbers: (x, y) is shown at (a x + c y, b x + d y) for (a, b, _, c, d, ...)."""
        a, b, _, c, d = matrix[:5]
        if abs(int(a)) >= abs(int(c)):
            return cls(False, flip_rows=bool(d < 0), flip_columns=bool(a < 0))
        return cls(True, flip_rows=bool(b < 0), flip_columns=bool(c < 0))

    def upright(self, picture: np.ndarray) -> np.ndarray:
        """[H, W, 3] as stored to [H, W, 3] or [W, H, 3] as seen."""
        picture = picture.swapaxes(0, 1) if self.swap else picture
        picture = picture[::-1] if self.flip_rows else picture
        return np.ascontiguousarray(picture[:, ::-1] if self.flip_columns else picture)


AS_STORED = Orientation()


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a clip.

    Attributes:
      width, height: pixels of a frame as it is read, upright.
      frame_rate: frames per second; the mean where it varies.
      times: when each frame is shown, in seconds since the first.
      duration: seconds from the first frame until the last one ends.
      start: seconds by which the file's own clock is ahead of the first frame; its sound follows that clock.
      leaps: seconds to add to the file's clock after its first restart, after its second, and so on.
      orientation: how the stored pictures were turned and mirrored; already applied on reading.
      pixel_aspect: width / height of one pixel; 1 almost always.
      colours: what the numbers of a pixel mean.
      plays: how often an animation is shown, 0 for ever; None for what is no animation.
      has_audio: whether there is sound.
      notes: what reading changed, as clauses: "its transparent parts are shown over black".
      unkept: names of what lies beside the pictures and is read by nobody here, such as closed captions.
      damage: empty, or a sentence on what is missing of a truncated or damaged file.
      first: which frame of the file is the first one here; None where the clip is the whole file.
    """

    width: int
    height: int
    frame_rate: Fraction
    times: tuple[Fraction, ...]
    duration: Fraction
    start: Fraction = Fraction(0)
    leaps: tuple[Fraction, ...] = ()
    orientation: Orientation = AS_STORED
    pixel_aspect: Fraction = Fraction(1)
    colours: Colours = NO_TAGS
    plays: int | None = None
    has_audio: bool = False
    notes: tuple[str, ...] = ()
    unkept: tuple[str, ...] = ()
    damage: str = ""
    first: int | None = None

    @property
    def num_frames(self) -> int:
        return len(self.times)

    @property
    def is_steady(self) -> bool:
        """Whether all frames are shown for the same time."""
        ends = (*self.times[1:], self.duration)
        return all(end == index / self.frame_rate for index, end in enumerate(ends, 1))

    def part(self, start: int, stop: int) -> "VideoInfo":
        """Of the frames [start, stop), the first of which is then shown at 0."""
        begin, end = self.times[start], (*self.times, self.duration)[stop]
        times = tuple(time - begin for time in self.times[start:stop])
        rate = self.frame_rate if self.is_steady else len(times) / (end - begin)
        first = (self.first or 0) + start
        return dataclasses.replace(
            self, frame_rate=rate, times=times, duration=end - begin, start=self.start + begin, first=first
        )
