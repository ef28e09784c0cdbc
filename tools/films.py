"""Films as arrays: each is decoded once, small, to a file that can be mapped into memory.

Called like this, it leaves the frames in `film.npy`:

    film = decode(Path("film.mp4"), Path("film.npy"), height=216)        # [frames, 216, 384, 3], uint8
"""

from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image, ImageSequence

from gp_jax.files import replacing


def decode(path: Path, cache: Path, height: int) -> np.ndarray:
    """Decodes a film or an animated picture, once: the frames lie in `cache` as a NumPy file.

    Args:
      path: a video or an animated webp.
      cache: where the frames are kept, or are from an earlier call.
      height: height of the frames; the width keeps the aspect ratio.

    Returns:
      [frames, height, width, 3] uint8, mapped from the file, read only.
    """
    if not cache.exists():
        # The header holds the number of frames, which is known for certain only afterwards.
        count = 0
        with replacing(cache) as temporary, temporary.open("wb") as file:
            for frame in _frames(path):
                width = round(frame.shape[1] * height / frame.shape[0])
                small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
                if count == 0:
                    _header(file, (1 << 40, *small.shape))
                file.write(small.tobytes())
                count += 1
            file.seek(0)
            _header(file, (count, *small.shape))
    return np.load(cache, mmap_mode="r")


def _frames(path: Path) -> Iterator[np.ndarray]:
    if path.suffix == ".webp":
        with Image.open(path) as picture:
            yield from (np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture))
        return
    with av.open(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        yield from (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))


def _header(file, shape: tuple[int, ...]) -> None:
    # Padded by NumPy with room for the first axis to grow, so that both headers have the same length.
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
