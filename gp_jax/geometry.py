"""Where the source sits in the target frame.

Outpainting starts from one question: which pixels of the frame are given, and which are to be made? A `Canvas` answers
it for a whole clip. It is the target frame with the rectangle in it that the source covers:

    canvas = Canvas.from_aspect(144, 176, aspect=16 / 9)       # a 176x144 clip to 16:9
    canvas                  -> Canvas(height=144, width=256, top=0, left=40, source_height=144, source_width=176)
    frame[canvas.observed]  -> the source's own pixels in a [144, 256, 3] frame
    pixel_mask(canvas)      -> [144, 256], 1 where a pixel is unknown
    canvas.native(128 * 128, multiple=8)  -> the same picture at the size the model works at, 96x168

What is larger than a network's frame is cut into overlapping tiles, space as a plan cuts time:

    tiles((18, 32), (9, 16))    -> 3 x 3 tiles of 9 x 16 at the corners (0, 0), (0, 8), ..., (9, 16), and their weights

Masks of pixels, of latents and the positions of patches all derive from the same rectangle, and all err on one side:
nothing counts as observed that is not observed wholly. Only numpy is needed here, so that data workers stay light.
"""

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from gp_jax.errors import UserError

# Where the source sits in a larger canvas: the share of the new rows above it and of the new columns left of it.
ANCHORS = {
    "center": (0.5, 0.5),
    "top": (0.0, 0.5),
    "bottom": (1.0, 0.5),
    "left": (0.5, 0.0),
    "right": (0.5, 1.0),
    "top-left": (0.0, 0.0),
    "top-right": (0.0, 1.0),
    "bottom-left": (1.0, 0.0),
    "bottom-right": (1.0, 1.0),
}


MAX_SIDE = 65_535  # pixels: no container of pictures or video that this package writes counts further


@dataclass(frozen=True)
class Canvas:
    """A target frame of `height` x `width` pixels whose rectangle at (`top`, `left`) is the source.

    Raises:
      UserError: a number is not whole, the rectangle is empty or does not lie within the frame, or a side is longer
        than `MAX_SIDE`.
    """

    height: int
    width: int
    top: int
    left: int
    source_height: int
    source_width: int

    def __post_init__(self):
        for name, value in ((field.name, getattr(self, field.name)) for field in fields(self)):
            if not isinstance(value, numbers.Integral):
                raise UserError(f"the {name} of a canvas is a whole number of pixels, not {value!r}")
        if max(self.height, self.width) > MAX_SIDE:
            raise UserError(
                f"a canvas of {self.width}x{self.height} pixels is too large: {MAX_SIDE} a side are the most"
            )
        fits_down = self.top >= 0 and self.top + self.source_height <= self.height
        fits_across = self.left >= 0 and self.left + self.source_width <= self.width
        if self.source_height < 1 or self.source_width < 1:
            raise UserError(f"a source of {self.source_width}x{self.source_height} pixels has nothing to continue from")
        if not (fits_down and fits_across):
            raise UserError(
                f"a canvas of {self.width}x{self.height} pixels does not hold a source of {self.source_width}x"
                f"{self.source_height} at ({self.left}, {self.top}): ask for a larger canvas or a smaller source"
            )

    @classmethod
    def from_aspect(cls, source_height: int, source_width: int, aspect: float, anchor: str = "center") -> "Canvas":
        """The smallest canvas of the aspect `width / height` that holds the source: one side grows, none is cropped.

        The side that grows gets the nearest even length, because video encoders store colour at half the resolution;
        the other keeps the source's length, be it odd.

        Raises:
          UserError: the aspect is not a positive number, or the anchor has no such name.
        """
        if not isinstance(aspect, numbers.Real) or not 0 < aspect < math.inf:
            raise UserError(f"an aspect ratio must be a positive number such as 16 / 9, not {aspect!r}")
        if aspect * source_height >= source_width:
            return cls.from_size(
                source_height, source_width, source_height, _even(aspect * source_height, source_width), anchor
            )
        return cls.from_size(
            source_height, source_width, _even(source_width / aspect, source_height), source_width, anchor
        )

    @classmethod
    def from_size(
        cls, source_height: int, source_width: int, height: int, width: int, anchor: str = "center"
    ) -> "Canvas":
        """A canvas of exactly `height` x `width` pixels.

        Raises:
          UserError: the source is larger than that, or the anchor has no such name.
        """
        if anchor not in ANCHORS:
            raise UserError(f"there is no anchor '{anchor}': choose one of {', '.join(ANCHORS)}")
        if height < source_height or width < source_width:
            raise UserError(
                f"a canvas of {width}x{height} pixels is smaller than the source of {source_width}x{source_height}: "
                "ask for at least the source's size, or have the source scaled down by --fit"
            )
        above, before = ANCHORS[anchor]
        top, left = int(above * (height - source_height)), int(before * (width - source_width))
        return cls(height, width, top, left, source_height, source_width)

    @classmethod
    def from_pads(cls, source_height: int, source_width: int, left: int, right: int, top: int, bottom: int) -> "Canvas":
        """A canvas that adds so many pixels on each side of the source.

        Raises:
          UserError: a pad is negative.
        """
        if min(left, right, top, bottom) < 0:
            raise UserError(f"pads of {left},{right},{top},{bottom} pixels would crop the source: none may be negative")
        return cls(source_height + top + bottom, source_width + left + right, top, left, source_height, source_width)

    @property
    def observed(self) -> tuple[slice, slice]:
        """Rows and columns that the source covers: `frame[canvas.observed]`."""
        return slice(self.top, self.top + self.source_height), slice(self.left, self.left + self.source_width)

    @property
    def pads(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Unknown pixels (above, below) and (left, right) of the source, in the form that `np.pad` takes."""
        below, beside = self.height - self.top - self.source_height, self.width - self.left - self.source_width
        return (self.top, below), (self.left, beside)

    @property
    def frame_bytes(self) -> int:
        """Memory that making one frame takes at the least: its colours as float32 and as bytes."""
        return 3 * (4 + 1) * self.height * self.width

    @property
    def is_complete(self) -> bool:
        """Whether the source covers the whole canvas: nothing is unknown."""
        return (self.height, self.width) == (self.source_height, self.source_width)

    def resize(self, height: int, width: int) -> "Canvas":
        """The same picture at `height` x `width` pixels.

        The observed rectangle shrinks to whole pixels: a new pixel is observed only if all it stands for is.

        Raises:
          UserError: no whole pixel of the source is left.
        """
        top, bottom = _scale_inward(self.top, self.top + self.source_height, height, self.height)
        left, right = _scale_inward(self.left, self.left + self.source_width, width, self.width)
        if bottom <= top or right <= left:
            raise UserError(
                f"the source of {self.source_width}x{self.source_height} pixels vanishes in its canvas of {self.width}x"
                f"{self.height} at the model's {width}x{height}: ask for a smaller canvas"
            )
        return Canvas(height, width, top, left, bottom - top, right - left)

    def shrunk_to(self, longest: int) -> "Canvas":
        """The same picture, its longer side `longest` if it is longer, both sides even.

        Unlike with `resize` the source is scaled as a whole, and lies where its borders are nearest to.
        """
        share = longest / max(self.height, self.width)
        if share >= 1:
            return self
        height, width = (max(2, 2 * round(side * share / 2)) for side in (self.height, self.width))
        down, across = height / self.height, width / self.width
        top, left = round(self.top * down), round(self.left * across)
        bottom, right = round((self.top + self.source_height) * down), round((self.left + self.source_width) * across)
        return Canvas(height, width, top, left, max(1, bottom - top), max(1, right - left))

    def native(self, area: int, multiple: int = 8) -> "Canvas":
        """The same picture at the size the model works at.

        Args:
          area: pixels that the model saw in training, e.g. 128 * 128.
          multiple: both sides must be multiples of it.

        Returns:
          A canvas whose sides give an area near `area` and an aspect near this one's. Both errors are weighed as
          ratios; the aspect counts double, since it distorts the picture where the area only changes the work.
        """

        def error(height: int, width: int) -> float:
            stretch = math.log(width * self.height / (height * self.width))
            return 2 * abs(stretch) + abs(math.log(height * width / area))

        ideal = math.sqrt(area * self.height / self.width)
        first = max(1, int(0.7 * ideal / multiple))
        heights = [multiple * count for count in range(first, math.ceil(1.4 * ideal / multiple) + 1)]
        sizes = [(h, max(multiple, _round(h * self.width / self.height, multiple))) for h in heights]
        return self.resize(*min(sizes, key=lambda size: error(*size)))


def shrunk(height: int, width: int, max_height: int, max_width: int) -> tuple[int, int]:
    """The largest (height, width) of this shape within bounds; the same where it lies within."""
    scale = min(1.0, max_height / height, max_width / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def frame_of(aspect: float, max_side: int) -> tuple[int, int]:
    """(height, width) of the largest frame of an aspect `width / height` with even sides of at most `max_side`."""
    longest = max(2, max_side - max_side % 2)
    return (_even(longest / aspect, 2), longest) if aspect >= 1 else (longest, _even(longest * aspect, 2))


def pixel_mask(canvas: Canvas) -> np.ndarray:
    """[H, W] float32: 1 where a pixel is unknown, 0 where the source covers it."""
    mask = np.ones((canvas.height, canvas.width), np.float32)
    mask[canvas.observed] = 0
    return mask


def latent_mask(canvas: Canvas, downsampling: int) -> np.ndarray:
    """[H / downsampling, W / downsampling] float32: 0 where all pixels of a latent cell are observed, else 1.

    Raises:
      ValueError: the canvas does not divide into whole cells.
    """
    if canvas.height % downsampling or canvas.width % downsampling:
        raise ValueError(f"{canvas.width}x{canvas.height} pixels do not divide into cells of {downsampling}")
    rows, columns = canvas.height // downsampling, canvas.width // downsampling
    return pixel_mask(canvas).reshape(rows, downsampling, columns, downsampling).max(axis=(1, 3))


class Tiles(NamedTuple):
    """Overlapping tiles of one size in a frame: numbers, not shapes, so that a program serves all of their places.

    A picture is the sum of its tiles times their weights: these sum to 1 wherever a tile lies.
    """

    corners: Any  # [N, 2] int32, first row and column of each
    weights: Any  # [N, h, w] float32


def tiles(
    frame: tuple[int, int], tile: tuple[int, int], overlap: float = 0.25, wanted: np.ndarray | None = None
) -> Tiles:
    """As few tiles as cover a frame, evenly spread, row by row.

    Args:
      frame: rows and columns of the frame, any numbers.
      tile: those of a tile; a frame that is smaller has smaller tiles.
      overlap: the least share of a tile's side that it has in common with the next one, from 0 on and below 1.
      wanted: [H, W], tiles without anything but 0 are left out; by default none are.
    """
    tile = min(tile[0], frame[0]), min(tile[1], frame[1])
    rows, columns = (_starts(length, side, overlap) for length, side in zip(frame, tile))
    corners = [(row, column) for row in rows for column in columns]
    if wanted is not None:
        corners = [(y, x) for y, x in corners if wanted[y : y + tile[0], x : x + tile[1]].any()]
    return weighed(np.array(corners, np.int32).reshape(-1, 2), tile, frame)


def weighed(corners: np.ndarray, tile: tuple[int, int], frame: tuple[int, int]) -> Tiles:
    """Tiles at `corners`: each counts most in its middle and, by a sine's square, next to nothing at its edges, but for
    those that the frame ends with."""
    weights, total = np.empty((len(corners), *tile)), np.zeros(frame)
    for number, corner in enumerate(corners):
        weights[number] = np.multiply.outer(*map(_bell, corner, tile, frame))
        total[tuple(slice(at, at + side) for at, side in zip(corner, tile))] += weights[number]
    for number, corner in enumerate(corners):
        weights[number] /= total[tuple(slice(at, at + side) for at, side in zip(corner, tile))]
    return Tiles(np.asarray(corners, np.int32), weights.astype(np.float32))


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Where tiles of `side` begin, the first at 0 and the last one at the end."""
    if length <= side:
        return [0]
    common = min(side - 1, math.ceil(overlap * side))
    count = -(-(length - common) // (side - common))
    return [i * (length - side) // (count - 1) for i in range(count)]


def _bell(start: int, side: int, length: int) -> np.ndarray:
    """[side], never 0; at an end of the frame nothing falls."""
    way = (np.arange(side) + 0.5) / side
    if start == 0:
        way = np.maximum(way, 0.5)
    if start + side == length:
        way = np.minimum(way, 0.5)
    return np.sin(np.pi * way) ** 2


def patch_positions(canvas: Canvas, grid: int) -> np.ndarray:
    """Centres of the patches that a vision tower cuts the observed rectangle into.

    Args:
      grid: patches per side; the tower sees the rectangle alone, squeezed to a square.

    Returns:
      [grid * grid, 2] float32, row by row: (y, x) as a share of the canvas' height and width, in [0, 1].
    """
    centres = (np.arange(grid) + 0.5) / grid
    y = (canvas.top + centres * canvas.source_height) / canvas.height
    x = (canvas.left + centres * canvas.source_width) / canvas.width
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(grid * grid, 2).astype(np.float32)


def check_ratio_range(ratio_range: tuple[float, float]) -> None:
    """Raises UserError where `sample_canvas` could draw of it no canvas, or one with nothing to make or to see."""
    low, high = ratio_range
    if not 0 < low <= high < 1:
        raise UserError(f"ratio_range lies within 0 and 1, the smaller number first, not {low} to {high}")


def sample_canvas(
    rng: np.random.Generator,
    height: int,
    width: int,
    ratio_range: tuple[float, float],
    directions: Sequence[str] | None = None,
) -> Canvas:
    """A random canvas for training: the clip is the target, and a part of it plays the source.

    Args:
      height, width: size of the clip in pixels.
      ratio_range: bounds of the unknown share of the clip, within (0, 1).
      directions: names of `MASK_RULES` to draw from with equal chance; those of `DIRECTIONS` by default.

    Raises:
      KeyError: a direction has no rule.
    """
    directions = directions or DIRECTIONS
    rule = MASK_RULES[directions[int(rng.integers(len(directions)))]]
    pads = rule(rng, rng.uniform(*ratio_range))
    top, bottom = (round(share * height) for share in pads[:2])
    left, right = (round(share * width) for share in pads[2:])
    # A source of no pixels teaches nothing: rounding may not eat the last row or column.
    source_height, source_width = max(1, height - top - bottom), max(1, width - left - right)
    return Canvas(height, width, min(top, height - 1), min(left, width - 1), source_height, source_width)


def _horizontal(rng: np.random.Generator, ratio: float) -> tuple[float, float, float, float]:
    return 0, 0, ratio / 2, ratio / 2


def _vertical(rng: np.random.Generator, ratio: float) -> tuple[float, float, float, float]:
    return ratio / 2, ratio / 2, 0, 0


def _one_side(rng: np.random.Generator, ratio: float) -> tuple[float, float, float, float]:
    return tuple(ratio * side for side in np.eye(4)[rng.integers(4)])


def _four_sides(rng: np.random.Generator, ratio: float) -> tuple[float, float, float, float]:
    split = rng.uniform(0.25, 0.75)  # how the shrinking is shared between the two axes
    new_rows, new_columns = 1 - (1 - ratio) ** split, 1 - (1 - ratio) ** (1 - split)
    above, before = rng.uniform(0.2, 0.8, size=2)
    return above * new_rows, (1 - above) * new_rows, before * new_columns, (1 - before) * new_columns


def _m3ddm(rng: np.random.Generator, ratio: float) -> tuple[float, float, float, float]:
    """M3DDM+'s mixture: half the ratio on each side that is cut, of which there are 1, 2 that face each other, or 4.

    Source: https://github.com/tamaki-lab/M3DDM-Plus (20b4495).
    """
    count = rng.choice((1, 2, 4), p=(0.3, 0.55, 0.15))
    first, pair = rng.integers(4), rng.integers(2)
    sides = {1: np.eye(4)[first], 2: np.repeat(np.eye(2)[pair], 2), 4: np.ones(4)}[int(count)]
    return tuple(ratio / 2 * sides)


# Each rule turns the unknown share of the clip into shares of (height above, height below, width left, width right).
MASK_RULES = {
    "horizontal": _horizontal,
    "vertical": _vertical,
    "one_side": _one_side,
    "four_sides": _four_sides,
    "m3ddm": _m3ddm,  # its ratio is that of two sides together, not of the area
}
# Drawn from where nothing is chosen.
DIRECTIONS = ("horizontal", "vertical", "one_side", "four_sides")


def _even(length: float, at_least: int) -> int:
    even = 2 * round(length / 2)
    return even if even >= at_least else at_least


def _round(length: float, multiple: int) -> int:
    return multiple * round(length / multiple)


def _scale_inward(start: int, stop: int, new_length: int, length: int) -> tuple[int, int]:
    """Scales [start, stop) of `length` to `new_length`, start rounded up and stop rounded down; exact, in integers."""
    return -(-start * new_length // length), stop * new_length // length
