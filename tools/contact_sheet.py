"""A picture of a result: frames of the source above, of the result below, evenly spread over the clip.

    python tools/contact_sheet.py sample:carphone wide.mp4 docs.png --frames 4

The frames are chosen by number, not by looks: the first, the last, and those evenly between.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from gp_jax.video import VideoReader


def contact_sheet(source: VideoReader, result: VideoReader, count: int, gap: int = 6) -> np.ndarray:
    """uint8 [H, W, 3]: two rows of `count` frames, white between them.

    Args:
      source, result: clips of the same number of frames.
      count: columns.
      gap: pixels between the frames.

    Raises:
      ValueError: the clips have different lengths.
    """
    if len(source) != len(result):
        raise ValueError(f"the source has {len(source)} frames, the result {len(result)}")
    chosen = np.linspace(0, len(source) - 1, count).round().astype(int)
    rows = [np.stack(list(clip.frames_at(chosen))) for clip in (source, result)]
    width = max(row.shape[2] for row in rows) + gap
    return np.concatenate([_row(row, width, gap) for row in rows])


def _row(frames: np.ndarray, width: int, gap: int) -> np.ndarray:
    free = width - frames.shape[2]
    padding = ((0, 0), (gap // 2, gap - gap // 2), (free // 2, free - free // 2), (0, 0))
    return np.concatenate(list(np.pad(frames, padding, constant_values=255)), axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="the clip that was outpainted")
    parser.add_argument("result", help="what came out")
    parser.add_argument("picture", type=Path, help="a PNG or JPEG file")
    parser.add_argument("--frames", type=int, default=4, help="how many (default 4)")
    args = parser.parse_args()
    sheet = contact_sheet(VideoReader(args.source), VideoReader(args.result), args.frames)
    Image.fromarray(sheet).save(args.picture)
    print(f"{args.picture}: {args.frames} frames, {sheet.shape[1]}x{sheet.shape[0]}")


if __name__ == "__main__":
    main()
