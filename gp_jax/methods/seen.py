"""What is seen of each frame of the canvas, where that is no rectangle, or lies elsewhere in each frame.

    Carried(clip, canvas)               the source, and what other frames show around it      --propagate
    Masked(clip, canvas, mask)          the source but for what a mask hides                  --mask FILE
    Moving(clip, canvas, path)          the source at a place of its own in each frame        --path FILE
    Steadied(clip, canvas)              the same, on a path that a smooth camera takes        --stabilize
    Feathered(clip, canvas, of, width)  any of these, fading at its borders                   --overlap N

Each gives layers (placement.py), uint8 [H, W, 4] of the canvas, as often as they are asked for: colours, and 255 where
they are the source's, 0 where nothing is known. Networks make the rest, and what is trusted wholly comes back as it is.

A mask is a clip of the source's size, or a picture for all frames: white is made. A path is a file of whole numbers of
pixels, from the canvas' upper left corner to the source's, right and down, a line for each frame; parts of pixels are
rounded, since only so the source's own pixels stay what they are:

    x,y            or as JSON:   [[0, 0], [2, -1], ...]
    0,0
    2,-1
"""

import csv
import dataclasses
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from gp_jax.errors import UserError
from gp_jax.flow.camera import drift, looked_at, steadying
from gp_jax.flow.warp import check_size
from gp_jax.geometry import Canvas
from gp_jax.methods.flow_propagation import carried, held
from gp_jax.methods.lapped import check_left
from gp_jax.methods.method import ArrayClip, Clip, observed
from gp_jax.methods.placement import ENOUGH
from gp_jax.video import VideoReader
from gp_jax.video.images import IMAGES, read_image

FARTHEST = 0.15  # of a side of the source, that a frame is shifted so as to be steady
WHITE = 128  # from here on a mask is white: what lies between is the doing of a codec


class Seen(Protocol):
    """Of a whole clip."""

    @property
    def bytes(self) -> int:
        """That it holds while layers are asked for."""
        ...

    @property
    def enough(self) -> int:
        """Trust from which on networks are told that a pixel is seen (placement.py)."""
        ...

    @property
    def is_carried(self) -> bool:
        """Whether other frames are looked at for it."""
        ...

    @property
    def stands(self) -> bool:
        """Whether the source lies in all frames where the canvas says, and is all seen."""
        ...

    def layers(self) -> Iterator[np.ndarray]:
        """uint8 [H, W, 4] for each frame, in the order of time."""
        ...

    def hidden(self, indices: Sequence[int]) -> np.ndarray | None:
        """Bool [K, Hs, Ws], which pixels of the source are to be made in frames with rising indices; None for none."""
        ...

    def identity(self) -> Any:
        """What makes it this one, beside clip and canvas, as JSON."""
        ...


@dataclasses.dataclass(frozen=True)
class Carried:
    """See the module; `moves` says how the source moves, where it does."""

    clip: Clip
    canvas: Canvas
    moves: "Moving | Steadied | None" = None
    enough: int = 1  # that a place is known half is more than nothing
    is_carried: bool = True

    @property
    def stands(self) -> bool:
        """See `Seen`."""
        return self.moves is None

    @property
    def bytes(self) -> int:
        """See `Seen`."""
        return held(self.canvas, len(self.clip))

    def layers(self) -> Iterator[np.ndarray]:
        """See `Seen`."""
        frames, canvas = _frames(self.clip, self.canvas), self.canvas
        if self.moves is None:
            yield from carried(frames, canvas)
            return
        # What a frame shows beyond the canvas, another one may have within it.
        path, source = self.moves.path, np.array([canvas.source_width, canvas.source_height])
        first = np.minimum(path.min(axis=0), 0)
        width, height = np.maximum((path + source).max(axis=0), (canvas.width, canvas.height)) - first
        size = canvas.source_height, canvas.source_width
        places = [Canvas(int(height), int(width), int(top), int(left), *size) for left, top in path - first]
        for layer in carried(frames, places[0], places):
            yield layer[-first[1] :, -first[0] :][: canvas.height, : canvas.width]

    def identity(self) -> Any:
        """See `Seen`."""
        return ["carried", self.moves and self.moves.identity()]

    def hidden(self, indices: Sequence[int]) -> None:
        """See `Seen`."""


@dataclasses.dataclass(frozen=True)
class Masked:
    """See the module; `mask` has as many frames as the clip, or one, of its size."""

    clip: Clip
    canvas: Canvas
    mask: Clip
    bytes: int = 0
    enough: int = ENOUGH
    is_carried: bool = False
    stands: bool = False

    @classmethod
    def of(cls, clip: Clip, canvas: Canvas, mask: "Clip | np.ndarray | str | Path") -> "Masked":
        """Of a file, or of an array, [T, Hs, Ws] or [Hs, Ws], bool or uint8.

        Raises:
          UserError: it cannot be read, or is not of the clip's size or length.
        """
        name = str(mask) if isinstance(mask, str | Path) else "the mask"
        shown = _mask_of(mask)
        height, width = next(iter(shown.frames_at([0]))).shape[:2]
        if (height, width) != (canvas.source_height, canvas.source_width):
            raise UserError(
                f"{name} has {width}x{height} pixels, and the clip, as it is used, "
                f"{canvas.source_width}x{canvas.source_height}: a mask must have the clip's size"
            )
        if len(shown) not in (1, len(clip)):
            raise UserError(
                f"{name} has {len(shown)} frames, and the clip {len(clip)}: give one for each, or a picture"
            )
        return cls(clip, canvas, shown)

    def layers(self) -> Iterator[np.ndarray]:
        """See `Seen`."""
        count = len(self.mask)
        masks = self._masks(range(count)) if count > 1 else itertools.repeat(next(self._masks([0])))
        for frame, mask in zip(_frames(self.clip, self.canvas), masks):
            yield np.pad(np.dstack([frame, np.where(mask, 0, 255).astype(np.uint8)]), (*self.canvas.pads, (0, 0)))

    def identity(self) -> Any:
        """See `Seen`."""
        total = hashlib.sha256()
        for mask in self._masks(range(len(self.mask))):
            total.update(np.packbits(mask).data)
        return {"mask": total.hexdigest()}

    def hidden(self, indices: Sequence[int]) -> np.ndarray:
        """See `Seen`."""
        if len(self.mask) > 1:
            return np.stack(list(self._masks(indices)))
        return np.stack([next(self._masks([0]))] * len(indices))

    def _masks(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Bool [Hs, Ws], True where a pixel is to be made."""
        for mask in self.mask.frames_at(indices):
            yield mask.mean(axis=-1) >= WHITE


@dataclasses.dataclass(frozen=True)
class Moving:
    """See the module; `path` is [T, 2] int."""

    clip: Clip
    canvas: Canvas
    path: np.ndarray
    bytes: int = 0
    enough: int = ENOUGH
    is_carried: bool = False
    stands: bool = False

    @classmethod
    def of(cls, clip: Clip, canvas: Canvas, path: "np.ndarray | str | Path") -> "Moving":
        """Of a file, or of numbers [T, 2], x and y.

        Raises:
          UserError: it cannot be read, is not of the clip's length, or leaves the canvas.
        """
        name = str(path) if isinstance(path, str | Path) else "the path"
        places = _path_of(path, name)
        if len(places) != len(clip):
            raise UserError(f"{name} has {len(places)} places, and the clip {len(clip)} frames: give one for each")
        room = canvas.width - canvas.source_width, canvas.height - canvas.source_height
        if (outside := ((places < 0) | (places > room)).any(axis=1)).any():
            frame = int(outside.argmax())
            raise UserError(
                f"{name} takes frame {frame} to ({places[frame, 0]}, {places[frame, 1]}), where its "
                f"{canvas.source_width}x{canvas.source_height} pixels leave the canvas of {canvas.width}x"
                f"{canvas.height}: stay between (0, 0) and ({room[0]}, {room[1]}), or ask for a larger canvas"
            )
        return cls(clip, canvas, places)

    def layers(self) -> Iterator[np.ndarray]:
        """See `Seen`."""
        for frame, (left, top) in zip(_frames(self.clip, self.canvas), self.path):
            yield at(frame, self.canvas, left, top)

    def identity(self) -> Any:
        """See `Seen`."""
        return {"path": self.path.tolist()}

    def hidden(self, indices: Sequence[int]) -> None:
        """See `Seen`."""


@dataclasses.dataclass(frozen=True)
class Steadied:
    """See the module. From its place in the canvas a frame is shifted by at most `FARTHEST`; what leaves the canvas
    there is cut off."""

    clip: Clip
    canvas: Canvas
    bytes: int = 0
    enough: int = ENOUGH
    is_carried: bool = False
    stands: bool = False

    @functools.cached_property
    def path(self) -> np.ndarray:
        """[T, 2] int, as of `Moving`; all of the clip is looked at for it."""
        size = np.array([self.canvas.source_width, self.canvas.source_height])
        shifts = steadying(drift(_frames(self.clip, self.canvas))).clip(-FARTHEST * size, FARTHEST * size)
        return np.round(shifts).astype(np.int64) + np.array([self.canvas.left, self.canvas.top])

    def layers(self) -> Iterator[np.ndarray]:
        """See `Seen`."""
        return Moving(self.clip, self.canvas, self.path).layers()

    def identity(self) -> Any:
        """See `Seen`."""
        return "steadied"

    def hidden(self, indices: Sequence[int]) -> None:
        """See `Seen`."""


@dataclasses.dataclass(frozen=True)
class Feathered:
    """What is seen, and trusted the less the nearer it is to what is not, so that the rest grows into it.

    Attributes:
      inner: what is seen.
      width: pixels of the canvas from a border up to where all is trusted; half of it is made anew.
    """

    clip: Clip
    canvas: Canvas
    inner: Seen
    width: float
    enough: int = ENOUGH
    stands: bool = False

    @classmethod
    def of(cls, clip: Clip, canvas: Canvas, inner: Seen, width: float) -> "Feathered":
        """Raises UserError where nothing may be left of the source that is trusted."""
        cut = 2 * math.ceil(width)
        check_left(canvas, width, (canvas.source_height - cut, canvas.source_width - cut))
        return cls(clip, canvas, inner, width)

    @property
    def bytes(self) -> int:
        """See `Seen`."""
        return self.inner.bytes

    @property
    def is_carried(self) -> bool:
        """See `Seen`."""
        return self.inner.is_carried

    def layers(self) -> Iterator[np.ndarray]:
        """See `Seen`."""
        for layer in self.inner.layers():
            seen = (layer[..., 3] == 255).astype(np.uint8)
            inside = cv2.distanceTransform(seen, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)  # 1 at the last pixel that is seen
            trust = np.minimum(255 * (inside - 0.5) / self.width, 255).round().astype(np.uint8)
            yield np.dstack([layer[..., :3], np.where(seen == 1, trust, layer[..., 3])])

    def identity(self) -> Any:
        """See `Seen`."""
        return {"overlap": self.width, "of": self.inner.identity()}

    def hidden(self, indices: Sequence[int]) -> np.ndarray | None:
        """See `Seen`."""
        return self.inner.hidden(indices)


def seen_of(
    clip: Clip, canvas: Canvas, mask: Any = None, path: Any = None, *, stabilize: bool = False, propagate: bool = False
) -> Seen | None:
    """What was asked for, None for the source alone where the canvas says.

    Args:
      clip, canvas: what is to be made.
      mask, path: as `Masked.of` and `Moving.of` take them, None for none.
      stabilize, propagate: whether the source is steadied, and whether other frames are looked at.

    Raises:
      UserError: one excludes another, frames are too large for flow, or as for mask and path.
    """
    asked = {"mask": mask is not None, "path": path is not None, "stabilize": stabilize}
    names = [name for name, value in asked.items() if value] + ["propagate"] * (propagate and mask is not None)
    if len(names) > 1:
        raise UserError(f"{names[0]} and {names[1]} both say what is seen of a frame: give one of them")
    if mask is not None:
        return Masked.of(clip, canvas, mask)
    moves = Moving.of(clip, canvas, path) if path is not None else Steadied(clip, canvas) if stabilize else None
    if stabilize:
        check_size(*looked_at(canvas.source_height, canvas.source_width))
    if propagate and not (moves is None and canvas.is_complete):
        beyond = FARTHEST if stabilize else 0  # of a side of the source, at either end, that `Carried` may look at too
        sides = (canvas.height, canvas.source_height), (canvas.width, canvas.source_width)
        check_size(*(side + 2 * math.ceil(beyond * source) for side, source in sides))
        return Carried(clip, canvas, moves)
    return moves


def at(frame: np.ndarray, canvas: Canvas, left: int, top: int) -> np.ndarray:
    """A layer: a frame whose upper left corner lies at a place, beyond the canvas where it is there."""
    layer = np.zeros((canvas.height, canvas.width, 4), np.uint8)
    height, width = frame.shape[:2]
    rows, columns = slice(max(top, 0), max(top + height, 0)), slice(max(left, 0), max(left + width, 0))
    part = layer[rows, columns]
    shown = frame[max(-top, 0) :, max(-left, 0) :][: part.shape[0], : part.shape[1]]
    part[...] = np.dstack([shown, np.full(shown.shape[:2], 255, np.uint8)])
    return layer


def hull(seen: np.ndarray) -> Canvas:
    """The smallest rectangle around what is seen, bool [H, W], and its place; the whole where nothing is."""
    height, width = seen.shape
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return Canvas(height, width, 0, 0, height, width)
    size = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
    return Canvas(height, width, int(rows[0]), int(columns[0]), *size)


def _frames(clip: Clip, canvas: Canvas) -> Iterator[np.ndarray]:
    return observed(clip, canvas, range(len(clip)))


def _mask_of(mask: Any) -> Clip:
    if isinstance(mask, str | Path):
        path = Path(mask)
        if path.suffix.lower() in IMAGES - {".webp"} and path.is_file():
            return ArrayClip(read_image(path)[None])
        return VideoReader(mask)
    if hasattr(mask, "frames_at"):
        return mask
    array = np.asarray(mask)
    if array.dtype not in (np.uint8, np.bool_) or array.ndim not in (2, 3) or not array.size:
        raise UserError(
            f"a mask must be bool or uint8, [T, H, W] or [H, W], and is {array.dtype} {list(array.shape)}: white, True "
            "or 255, is made"
        )
    levels = 255 * array.astype(np.uint8) if array.dtype == np.bool_ else array
    return ArrayClip(np.repeat(levels.reshape(-1, *array.shape[-2:], 1), 3, axis=-1))


def _path_of(path: Any, name: str) -> np.ndarray:
    """[T, 2] int64."""
    rows = path
    if isinstance(path, str | Path):
        try:
            text = Path(path).read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is no path that can be read: {error}") from error
        rows = _rows(text)
    try:
        places: np.ndarray = np.asarray(rows, np.float64)
    except (TypeError, ValueError, OverflowError):
        places = np.zeros(0)
    if places.ndim != 2 or places.shape[1] != 2 or not np.isfinite(places).all() or np.abs(places).max(initial=0) > 1e6:
        raise UserError(f"{name} is no path: it takes two numbers for each frame, x and y in pixels, as CSV or as JSON")
    return np.round(places).astype(np.int64)


def _rows(text: str) -> Any:
    """What a file says; anything that is no list of numbers where it is no path."""
    if text.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return None
    try:
        rows = [row for row in csv.reader(text.splitlines()) if row]
    except csv.Error:
        return None
    if rows and [word.strip().lower() for word in rows[0]] == ["x", "y"]:
        rows = rows[1:]
    return rows
