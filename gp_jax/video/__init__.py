"""Read, write and probe video files, frame folders and animated images.

    reader = VideoReader("clip.mov")                       # or a folder of PNGs, a GIF, "sample:bikes"
    reader.info                                            # size, frame rate, the time of every frame, damage if any
    with VideoWriter("wide.mp4", reader.info, audio_from=reader) as writer:
        for frame in reader:                               # uint8 [H, W, 3], upright, one at a time
            writer.write(widen(frame))

Frames stream: neither side ever holds a clip. `reading`, `sources` and `images` take clips apart; `writing`,
`encoding`, `codecs` and `tracks` put them together; `info`, `colours` and `clock` say what both mean by a clip.
"""

from gp_jax.video.codecs import CODECS, Coding
from gp_jax.video.encoding import FORMATS
from gp_jax.video.info import VideoInfo
from gp_jax.video.reading import SAMPLES, VideoReader, probe, resolve
from gp_jax.video.writing import VideoWriter, check_target

__all__ = [
    "CODECS",
    "FORMATS",
    "SAMPLES",
    "Coding",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "check_target",
    "probe",
    "resolve",
]
