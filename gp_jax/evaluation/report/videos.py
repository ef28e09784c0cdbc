"""The videos of the report: all that is to be seen of a clip, as tiles of one small file.

    mosaic([source, edge, mirror, truth])  ->  columns 2, tiles of 192 x 192:   source | edge
                                                                                mirror | truth

One file, because players of several are never in step for long. The page draws each tile into a place of its own, so
that how they lie in the file is not how they lie on the screen.
"""

import base64
import io
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np

from gp_jax.video.colours import EXACT, matrix_of

SIDE = 224  # pixels of a tile's longer side
RATE = 24  # frames per second
OPTIONS = {"crf": "25", "preset": "slow"}


class Mosaic(NamedTuple):
    """A video as a data URI, and where its tiles lie: row by row, `columns` of them, of `width` x `height` pixels."""

    uri: str
    columns: int
    width: int
    height: int


def tile_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of a tile for frames of this size; even, as the codec wants it."""
    scale = min(1.0, SIDE / max(height, width))
    return 2 * round(height * scale / 2), 2 * round(width * scale / 2)


def mosaic(tiles: Sequence[np.ndarray]) -> Mosaic:
    """H.264 in MP4.

    Args:
      tiles: clips uint8 [T, H, W, 3], all of one shape, with even sides.
    """
    frames, height, width, _ = tiles[0].shape
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = -(-len(tiles) // columns)
    canvas = np.zeros((rows * height, columns * width, 3), np.uint8)
    matrix = matrix_of(canvas.shape[1], canvas.shape[0])
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", Fraction(RATE), options=OPTIONS)
        stream.height, stream.width, stream.pix_fmt = *canvas.shape[:2], "yuv420p"
        stream.codec_context.colorspace = matrix
        for index in range(frames):
            for number, tile in enumerate(tiles):
                top, left = number // columns * height, number % columns * width
                canvas[top : top + height, left : left + width] = tile[index]
            picture = av.VideoFrame.from_ndarray(canvas, format="rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p", dst_colorspace=matrix, interpolation=EXACT)))
        container.mux(stream.encode())
    return Mosaic("data:video/mp4;base64," + base64.b64encode(file.getvalue()).decode(), columns, width, height)
