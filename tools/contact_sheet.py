"""A picture of results: of each clip frames of the source above, of the result below, evenly spread over the clip.

    python tools/contact_sheet.py sample:carphone wide.mp4 sheet.jpg --frames 4
    python tools/contact_sheet.py a.mp4 wide_a.mp4 b.mp4 wide_b.mp4 sheet.jpg --frames 3 --columns 2 --height 120

The frames are chosen by number, not by looks: the first, the last, and those evenly between.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from gp_jax.cli.arguments import HelpFormatter, count
from gp_jax.errors import UserError
from gp_jax.files import replacing
from gp_jax.video import VideoReader


def contact_sheet(source: VideoReader, result: VideoReader, count: int, height: int | None = None) -> np.ndarray:
    """uint8 [H, W, 3]: two rows of `count` frames, white between them.

    Args:
      source, result: clips of the same number of frames.
      count: columns.
      height: pixels that the result's frames are scaled to, and the source's with them; None leaves them as they are.

    Raises:
      UserError: the clips have different lengths, or fewer frames.
    """
    if len(source) != len(result):
        raise UserError(f"the source has {len(source)} frames, the result {len(result)}")
    if count > len(source):
        raise UserError(f"--frames {count} is more than the {len(source)} frames of a clip: ask for fewer")
    chosen = np.linspace(0, len(source) - 1, count).round().astype(int)
    rows = [list(clip.frames_at(chosen)) for clip in (source, result)]
    scale = height / rows[1][0].shape[0] if height else 1
    rows = [np.stack([_scaled(frame, scale) for frame in row]) for row in rows]
    width = max(row.shape[2] for row in rows) + GAP
    return np.concatenate([_row(row, width) for row in rows])


def tile(sheets: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Sheets of several clips side by side and below each other, white between them."""
    height, width = (max(sheet.shape[axis] for sheet in sheets) + 2 * GAP for axis in (0, 1))
    rows = -(-len(sheets) // columns)
    page = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for number, sheet in enumerate(sheets):
        top, left = number // columns * height, number % columns * width
        page[top : top + sheet.shape[0], left : left + sheet.shape[1]] = sheet
    return page


GAP = 6  # pixels between frames


def _scaled(frame: np.ndarray, scale: float) -> np.ndarray:
    return frame if scale == 1 else cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _row(frames: np.ndarray, width: int) -> np.ndarray:
    free = width - frames.shape[2]
    padding = ((0, 0), (GAP // 2, GAP - GAP // 2), (free // 2, free - free // 2), (0, 0))
    return np.concatenate(list(np.pad(frames, padding, constant_values=255)), axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("clips", nargs="+", help="source, result, source, result, ...")
    parser.add_argument("picture", type=Path, help="a PNG or JPEG file")
    parser.add_argument("--frames", type=count, default=4, help="how many of each clip")
    parser.add_argument("--columns", type=count, default=1, help="clips side by side")
    parser.add_argument("--height", type=count, help="of a result's frame, in pixels; its own by default")
    args = parser.parse_args()
    if len(args.clips) % 2:
        parser.error(f"{args.clips[-1]} has no partner: give source and result of each clip, and the picture last")
    if (kind := Image.registered_extensions().get(args.picture.suffix.lower())) not in Image.SAVE:
        parser.error(f"{args.picture} is no picture: end it in .png or .jpg")
    pairs = zip(args.clips[::2], args.clips[1::2])
    try:
        sheets = [contact_sheet(VideoReader(a), VideoReader(b), args.frames, args.height) for a, b in pairs]
        page = sheets[0] if len(sheets) == 1 else tile(sheets, args.columns)
        with replacing(args.picture) as temporary:
            Image.fromarray(page).save(temporary, kind)
    except UserError as error:
        parser.error(str(error))
    print(f"{args.picture}: {args.frames} frames of {len(sheets)} clips, {page.shape[1]}x{page.shape[0]}")


if __name__ == "__main__":
    main()
