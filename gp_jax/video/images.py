"""Clips made of still pictures: an animated WebP, some GIFs, a folder of images.

Pictures become uint8 RGB: 16-bit and floating ones are scaled, transparent ones laid over black, turned ones set
upright, palettes and CMYK resolved.
"""

import contextlib
import io
import itertools
import re
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps

from gp_jax.errors import UserError
from gp_jax.video.clock import DEFAULT_RATE
from gp_jax.video.colours import over_black
from gp_jax.video.info import VideoInfo
from gp_jax.video.integrity import is_cut

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}

ORIENTATION_TAG = 0x0112  # of EXIF; from 5 on, width and height change places
OVER_BLACK = "its transparent parts are shown over black"
UNTIMED = {"GIF": Fraction(100)}  # milliseconds that browsers show a picture of which the file does not say it


class AnimatedImage:
    """An animated WebP, or a GIF whose pictures have no times, through Pillow.

    FFmpeg reads still WebPs only, and takes all pictures of a GIF up to the next one with a time for one.
    """

    def __init__(self, path: Path):
        self.path = path
        durations, size, plays, notes, damage = [], (0, 0), None, (), ""
        untimed = Fraction(1000) / DEFAULT_RATE
        try:
            with Image.open(_whole_part(path)) as image:
                size, plays = image.size, plays_of(image)
                untimed = UNTIMED.get(image.format or "", untimed)
                for frame in _seek_all(image):
                    durations.append(frame.info.get("duration"))
                    if not notes and _is_transparent(frame):
                        notes = (OVER_BLACK,)
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            if not durations:
                raise UserError(f"{path} is not an image that can be read: {error}") from error
            damage = str(error)
        if damage or is_cut(path):
            damage = f"{path} is truncated or damaged: {len(durations)} frames of it can be read"
        seconds = [Fraction(milliseconds or untimed) / 1000 for milliseconds in durations]
        ends = tuple(itertools.accumulate(seconds))
        self.info = VideoInfo(
            *size,
            len(ends) / ends[-1],
            times=(Fraction(0), *ends[:-1]),
            duration=ends[-1],
            plays=plays if len(ends) > 1 else None,
            notes=notes,
            damage=damage,
        )

    def frames(self, first: int) -> Iterator[tuple[int, Image.Image]]:
        with Image.open(_whole_part(self.path)) as image:
            yield from itertools.islice(enumerate(_seek_all(image)), self.info.num_frames)

    def rgb(self, frame: Image.Image) -> np.ndarray:
        return _opaque(frame)


def pictures_in(path: Path) -> int:
    """How many pictures Pillow finds in a file; 0 where it cannot read it."""
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        return 0


def plays_of(image: Image.Image) -> int | None:
    """How often an animated picture is shown, 0 for ever."""
    loops = image.info.get("loop", None if image.format == "GIF" else 0)
    if image.format == "GIF":  # counts repetitions
        return 1 if loops is None else loops and loops + 1
    return loops


class FrameFolder:
    """A folder of images of one size, in natural order: frame2.png comes before frame10.png."""

    def __init__(self, path: Path, frame_rate: Fraction | float):
        try:
            files = [file for file in path.iterdir() if file.suffix.lower() in IMAGES and not file.name.startswith(".")]
        except OSError as error:
            raise UserError(f"the folder {path} cannot be read: {error.strerror}") from error
        self._files = sorted(files, key=_natural_order)
        if not self._files:
            raise UserError(f"the folder {path} holds no image ({', '.join(sorted(IMAGES))})")
        heads = [_head(file) for file in self._files]
        self._size = width, height = heads[0][0]
        for file, (size, _) in zip(self._files, heads):
            self._check_size(file, size)
        if not 0.001 <= frame_rate <= 1000:
            raise UserError(f"a folder of images is read at 0.001 to 1000 frames per second, not at {frame_rate}")
        rate = Fraction(frame_rate).limit_denominator(1001)
        times = tuple(index / rate for index in range(len(self._files)))
        notes = (OVER_BLACK,) if any(is_transparent for _, is_transparent in heads) else ()
        self.info = VideoInfo(width, height, rate, times, duration=len(times) / rate, notes=notes)

    def frames(self, first: int) -> Iterator[tuple[int, Path]]:
        yield from enumerate(self._files[first:], first)

    def rgb(self, frame: Path) -> np.ndarray:
        array = read_image(frame)
        self._check_size(frame, (array.shape[1], array.shape[0]))
        return array

    def _check_size(self, file: Path, size: tuple[int, int]):
        if size != self._size:
            raise UserError(f"{file} is {size[0]}x{size[1]} but the first image is {self._size[0]}x{self._size[1]}")


def read_image(path: Path) -> np.ndarray:
    """A still picture as upright uint8 [H, W, 3].

    Raises:
      UserError: it cannot be read, is larger than Pillow allows, or holds numbers that have no obvious scale.
    """
    with _open(path) as image:
        if image is None:
            return _deep(path)
        if not _is_deep(image):
            return _opaque(ImageOps.exif_transpose(image))
        picture = Image.fromarray(_deep(path))
        picture.getexif()[ORIENTATION_TAG] = _orientation(image)
        return _opaque(ImageOps.exif_transpose(picture))


def _head(path: Path) -> tuple[tuple[int, int], bool]:
    """(width, height) of an image when upright and whether it has room for alpha, without decoding it."""
    with _open(path) as image:
        if image is not None:
            width, height = image.size[::-1] if _orientation(image) >= 5 else image.size
            return (width, height), image.has_transparency_data
    height, width = _deep(path).shape[:2]
    return (width, height), False


def _orientation(image: Image.Image) -> int:
    """What EXIF says of an image that nobody turns by himself: Pillow and OpenCV do so with a TIFF."""
    return 1 if image.format == "TIFF" else image.getexif().get(ORIENTATION_TAG, 1)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Image.Image | None]:
    """An image, or None for a TIFF of a kind that Pillow does not know; what goes wrong with it is told."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
            image.filename = ""  # or Pillow maps the file to memory, and loses its way in a TIFF that it has to turn
    except Image.UnidentifiedImageError as error:
        if path.suffix.lower() not in (".tif", ".tiff"):
            raise UserError(f"{path} is not an image that can be read") from error
        yield None
        return
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} has more pixels than can be read safely: make it smaller first") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} is not an image that can be read: {error}") from error
    try:
        with image:
            yield image
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} is not an image that can be read: {error}") from error


def _deep(path: Path) -> np.ndarray:
    """An image of more than 8 bits a channel, scaled: integers by their range, floats from [0, 1]."""
    try:
        array = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        array = None
    if array is None:
        raise UserError(f"{path} is not an image that can be read")
    if array.dtype.kind == "u":
        array = array / np.float32(np.iinfo(array.dtype.name).max)
    elif array.dtype.kind != "f" or not (array.min() >= 0 and array.max() <= 1):
        raise UserError(f"{path} has values outside 0..1 or of a kind without a scale: bring them to 0..1 or 16 bits")
    array = np.rint(array.astype(np.float32) * 255).astype(np.uint8)
    if array.ndim == 2:
        return np.repeat(array[..., None], 3, axis=2)
    return cv2.cvtColor(array, cv2.COLOR_BGR2RGB) if array.shape[2] == 3 else over_black(array[..., [2, 1, 0, 3]])


def _is_deep(image: Image.Image) -> bool:
    """Whether Pillow would cut the numbers of this image to 8 bits."""
    raw = " ".join(str(tile[3]) for tile in getattr(image, "tile", []))
    return image.mode.startswith(("I", "F")) or "16" in raw


def _opaque(image: Image.Image) -> np.ndarray:
    if image.has_transparency_data:
        return over_black(np.asarray(image.convert("RGBA")))
    return np.array(image.convert("RGB"))


def _is_transparent(image: Image.Image) -> bool:
    return image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255)


def _whole_part(path: Path) -> Path | BinaryIO:
    """A WebP without the chunk at its end that is cut off: Pillow takes whole files only."""
    if not is_cut(path):
        return path
    data, end = path.read_bytes(), 12
    while (after := end + 8 + int.from_bytes(data[end + 4 : end + 8], "little")) <= len(data) and after > end + 8:
        end = after + after % 2
    return io.BytesIO(data[:4] + (end - 8).to_bytes(4, "little") + data[8:end])


def _seek_all(image: Image.Image) -> Iterator[Image.Image]:
    for index in range(getattr(image, "n_frames", 1)):
        image.seek(index)
        image.load()
        yield image


def _natural_order(file: Path) -> list[int | str]:
    """frame10 as ["frame", 10, ...]: text and numbers alternate, so that numbers compare as numbers."""
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", file.name)]
