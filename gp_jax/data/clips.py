"""One clip as one record: frames that are decoded one by one, and what is known of them.

    record = pack_clip(frames, {"key": "bikes.mp4:120", "frame_rate": 25.0, ...}, "jpeg", quality=95)
    clip = Clip.from_record(record)
    clip.read([3, 0, 40])                  # [3, H, W, 3] uint8: only these three are decoded

`RecordFolder` is a folder of them, as `tools/build_records.py` writes it. A sample of 8 frames from a shot of 300 costs
8 pictures, not 300 frames of a video.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from gp_jax.data.shards import SHOWN, open_shards, pack, read_manifest, unpack
from gp_jax.errors import UserError
from gp_jax.video.clock import DEFAULT_RATE

# Name -> (suffix, options of a quality of 0 to 100). Colour is kept at full resolution: halved, it bleeds over the
# borders of small frames.
ENCODINGS = {
    "jpeg": (
        ".jpg",
        lambda quality: [
            cv2.IMWRITE_JPEG_QUALITY,
            quality,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        ],
    ),
    "png": (".png", lambda quality: []),  # lossless
}


class Clip:
    """Encoded frames of one size.

    Attributes:
      key: a name that no other clip of its folder has.
      facts: what else is known: source, first_frame, frame_rate, caption, licence, kind.
    """

    def __init__(self, images: Sequence[np.ndarray], facts: Mapping[str, Any]):
        self._images = images
        self.facts = facts
        self.key: str = facts["key"]

    @classmethod
    def from_record(cls, record: bytes) -> "Clip":
        """Raises UserError where the record is none of `pack_clip`."""
        tensors, facts = unpack(record)
        try:
            return cls(np.split(tensors["images"], tensors["ends"][:-1]), facts)
        except (KeyError, ValueError) as error:
            raise UserError(f"not a record of a clip: {error}") from None

    @property
    def num_frames(self) -> int:
        return len(self._images)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return float(self.facts.get("frame_rate") or DEFAULT_RATE)

    def read(self, indices: Iterable[int]) -> np.ndarray:
        """[len(indices), H, W, 3] uint8; raises UserError where a frame is broken."""
        return np.stack([_decode(self._images[index], index) for index in indices])


class RecordFolder:
    """The clips of one split, by number. Opening it reads the manifest alone.

    Attributes:
      folder: where it lies.
      size: (height, width) of all its frames.
      manifest: as `tools/build_records.py` wrote it.

    Raises:
      UserError: the folder is unfinished, has no such split, or a shard is missing.
    """

    def __init__(self, folder: Path, split: str):
        self.folder = folder
        self.manifest = read_manifest(folder, f"build_records.py ({SHOWN})")
        if "size" not in self.manifest:  # of latents, say
            raise UserError(f"{folder} holds no clips: give a folder made with build_records.py ({SHOWN})")
        if split not in self.manifest["shards"]:
            raise UserError(
                f"{folder} has no split {split!r}, only {', '.join(sorted(self.manifest['shards']))}: build it "
                "with --validation, or set validation.interval to 0"
            )
        self.size: tuple[int, int] = tuple(self.manifest["size"])
        self._records = open_shards(folder, self.manifest["shards"][split])
        self._split = split

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return f"RecordFolder({str(self.folder)!r}, {self._split!r})"

    def name(self, index: int) -> str:
        """By which a person finds the record."""
        return f"{self.folder} {self._split} record {index}"

    def __getitem__(self, index: int) -> Clip:
        """Raises UserError where the record cannot be read."""
        try:
            return Clip.from_record(self._records[index])
        except RuntimeError as error:
            raise UserError(str(error)) from None


def pack_clip(frames: Iterable[np.ndarray], facts: Mapping[str, Any], encoding: str, quality: int = 95) -> bytes:
    """The record of a clip.

    Args:
      frames: [H, W, 3] uint8 each, all of one size.
      facts: what JSON can hold; `key` among it.
      encoding: a name in `ENCODINGS`.
      quality: 0 to 100, for encodings that lose something.
    """
    suffix, options = ENCODINGS[encoding]
    images = [cv2.imencode(suffix, frame[..., ::-1], options(quality))[1] for frame in frames]
    return pack({"images": np.concatenate(images), "ends": np.cumsum([len(image) for image in images])}, facts)


def _decode(image: np.ndarray, index: int) -> np.ndarray:
    frame = cv2.imdecode(image, cv2.IMREAD_COLOR) if len(image) else None
    if frame is None:
        raise UserError(f"frame {index} is no image")
    return frame[..., ::-1]
