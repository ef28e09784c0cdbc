"""What the numbers of a pixel mean, and the way between RGB and YUV.

A file says it with four tags: the matrix between RGB and YUV, whether luma spans 0..255 or 16..235, the primaries, and
the transfer curve. Frames here are RGB in the primaries and the curve of their file: reading undoes matrix and range
alone, and writing redoes them under the same tags. So nothing is tone-mapped, and HDR stays HDR where the target can
say so.
"""

from dataclasses import dataclass
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation

from gp_jax.errors import UserError

# Without these flags libswscale rounds colours down, by one level and more.
EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

UNTAGGED = 2  # FFmpeg's number for "not said", of matrices, primaries and curves alike
RGB_MATRIX, BT709, BT601 = 0, 1, 6  # FFmpeg's numbers of matrices
LIMITED_RANGE, FULL_RANGE = 1, 2

# The shares of red and blue in luma, by FFmpeg's numbers of the matrices.
LUMA = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601, 625 lines
    6: (0.299, 0.114),  # BT.601, 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
}
NAMES = {0: "RGB", 8: "YCgCo", 10: "BT.2020 constant luminance", 11: "SMPTE 2085", 14: "ICtCp", 15: "IPT"}
SILENT_MATRICES = (UNTAGGED, 3)  # 3 is reserved, which players read as not said

CURVES = {16: "PQ", 18: "HLG"}
# With these a file without any tags shows the same.
PLAIN_PRIMARIES = (0, 1, UNTAGGED, 5, 6)
PLAIN_CURVES = (0, 1, UNTAGGED, 6, 13, 14, 15)


@dataclass(frozen=True)
class Colours:
    """The tags of a file, in FFmpeg's numbers.

    Attributes:
      matrix: between RGB and YUV; None where the file says nothing, or stores RGB.
      full_range: whether luma spans 0..255.
      primaries, transfer: `UNTAGGED` where the file says nothing.
    """

    matrix: int | None
    full_range: bool
    primaries: int
    transfer: int


NO_TAGS = Colours(matrix=None, full_range=False, primaries=UNTAGGED, transfer=UNTAGGED)


def colours_of(frame: av.VideoFrame) -> Colours:
    """The tags of a decoded frame."""
    stores_yuv = _stores_yuv(frame.format)
    matrix = frame.colorspace if stores_yuv and frame.colorspace not in SILENT_MATRICES else None
    full_range = stores_yuv and frame.color_range == FULL_RANGE
    return Colours(matrix, full_range, frame.color_primaries or UNTAGGED, frame.color_trc or UNTAGGED)


def check_matrix(frame: av.VideoFrame, name: object):
    """Raises:
    UserError: the frame's matrix is none that can be undone.
    """
    matrix = colours_of(frame).matrix
    if matrix is not None and matrix not in LUMA:
        said = NAMES.get(matrix, f"number {matrix}")
        raise UserError(
            f"{name} stores its colours by a matrix that cannot be read ({said}): convert it to BT.709 first"
        )


def matrix_of(width: int, height: int) -> int:
    """The matrix that players take for video of this size if it has no tag: BT.709 for high definition, else BT.601."""
    return BT709 if width >= 1280 or height > 576 else BT601


def rgb_of(frame: av.VideoFrame, with_alpha: bool = False) -> np.ndarray:
    """A decoded frame as uint8 [H, W, 3], or [H, W, 4] with its alpha. Deep colours are scaled to 8 bits."""
    if _stores_yuv(frame.format) and frame.colorspace in SILENT_MATRICES:
        frame.colorspace = matrix_of(frame.width, frame.height)
    return frame.to_ndarray(format="rgba" if with_alpha else "rgb24", interpolation=EXACT)


def may_be_transparent(frame: av.VideoFrame) -> bool:
    """Whether the frame's format has room for alpha."""
    return frame.format.has_palette or any(component.is_alpha for component in frame.format.components)


def over_black(rgba: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 4] with straight alpha, laid over black: uint8 [H, W, 3]."""
    colour, alpha = rgba[..., :3].astype(np.uint16), rgba[..., 3:]
    return ((colour * alpha + 127) // 255).astype(np.uint8)


class Planes(NamedTuple):
    """How planes of YUV store colour.

    Attributes:
      bits: of a sample.
      halved: whether colour has half the rows, and half the columns.
    """

    bits: int
    halved: tuple[bool, bool]


# By FFmpeg's names.
PLANES = {
    "yuv420p": Planes(8, (True, True)),
    "yuv422p": Planes(8, (False, True)),
    "yuv444p": Planes(8, (False, False)),
    "yuv420p10le": Planes(10, (True, True)),
    "yuv422p10le": Planes(10, (False, True)),
    "yuv444p10le": Planes(10, (False, False)),
}
RGB = ("bgr0", "gbrp")  # with which pixels stay as they are


class ToYuv:
    """RGB frames to the planes that an encoder takes, each sample rounded once and without bias.

    libswscale would do, but for full range, where it cuts the fractions of colour off.

    Args:
      matrix: one of `LUMA`.
      full_range: whether luma spans 0..255, not 16..235.
      format: one of `PLANES`.
      cosited: whether a sample of colour lies on the left one of its pixels (H.264), not between them (VP9).

    Attributes:
      format: FFmpeg's name of what comes out.
      range: FFmpeg's number of its range.
    """

    def __init__(self, matrix: int, full_range: bool, format: str, cosited: bool):
        red, blue = LUMA[matrix]
        luma = np.array([red, 1 - red - blue, blue])
        cb, cr = (np.eye(3)[2] - luma) / (2 * (1 - blue)), (np.eye(3)[0] - luma) / (2 * (1 - red))
        self.format, self._cosited = format, cosited
        self._bits, self._halved_axes = PLANES[format]
        finer = 2 ** (self._bits - 8)  # steps of a sample in one of 8 bits
        self._most = 256 * finer - 1
        whole = self._most / 255
        scale = np.array([whole] * 3 if full_range else [219 / 255 * finer, 224 / 255 * finer, 224 / 255 * finer])
        rows = np.stack([luma, cb, cr]) * scale[:, None]
        offsets = np.array([0 if full_range else 16, 128, 128]) * finer
        self._affine = np.concatenate([rows, offsets[:, None]], axis=1).astype(np.float32)
        self._matrix, self.range = matrix, FULL_RANGE if full_range else LIMITED_RANGE

    def __call__(self, rgb: np.ndarray) -> av.VideoFrame:
        """uint8 [H, W, 3] to a frame of `format`."""
        frame = av.VideoFrame(rgb.shape[1], rgb.shape[0], self.format)
        frame.colorspace, frame.color_range = self._matrix, self.range
        planes = cv2.split(cv2.transform(rgb.astype(np.float32), self._affine))
        planes = [planes[0], *(self._halved(plane) for plane in planes[1:])]
        sample, depth = (np.uint8, cv2.CV_8U) if self._bits == 8 else (np.uint16, cv2.CV_16U)
        for plane, values in zip(frame.planes, planes):
            padded = np.zeros((plane.height, plane.line_size // np.dtype(sample).itemsize), sample)
            # Rounds to the nearest. OpenCV takes a number here and FFmpeg's plane any buffer, whatever their types say.
            padded[:, : plane.width] = cv2.add(values, 0, dtype=depth)  # pyright: ignore
            if self._bits > 8:  # what is more than its bits hold; 8 bits are cut off by OpenCV
                np.minimum(padded, self._most, out=padded)
            plane.update(padded)  # pyright: ignore
        return frame

    def _halved(self, plane: np.ndarray) -> np.ndarray:
        down, across = self._halved_axes
        if down:
            plane = (plane[0::2] + plane[1::2]) / 2
        if not across:
            return plane
        left, right = plane[:, 0::2], plane[:, 1::2]
        if not self._cosited:
            return (left + right) / 2
        before = np.concatenate([left[:, :1], right[:, :-1]], axis=1)
        return left / 2 + (before + right) / 4


def _stores_yuv(pixels: av.VideoFormat) -> bool:
    return not pixels.is_rgb and not pixels.has_palette and len(pixels.components) > 2
