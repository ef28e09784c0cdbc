"""Small clips made with PyAV alone, so that reading is not tested against our own writing."""

from fractions import Fraction

import av
import numpy as np
import pytest


def moving_picture(count: int, height: int = 36, width: int = 52) -> np.ndarray:
    """uint8 [count, height, width, 3]: smooth colours that drift, and a bright top left corner to tell its rotation."""
    t, y, x = np.ogrid[:count, :height, :width]
    waves = [np.sin(x / 9 + t / 5) + 0 * y, np.cos(y / 7 - t / 6) + 0 * x, np.sin((x + y) / 11 + t / 4)]
    video = (128 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)
    video[:, :8, :8] = 255
    return video


def encode(path, video, *, rate=25, ticks=None, rotation=0, codec="libx264", sound=None, options=None, aspect=1):
    """Writes a clip; `ticks` are the frames' times in 1/1000 s, `sound` is a codec for one tone as long as the clip."""
    clock = Fraction(1, 1000) if ticks else 1 / Fraction(rate)
    with av.open(str(path), "w", container_options=options or {}) as container:
        stream = container.add_stream(codec, Fraction(rate), options={"g": "10"})
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 1_000_000
        stream.codec_context.time_base = clock
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        if rotation:
            stream.set_display_rotation(rotation)
        track = container.add_stream(sound, 48_000, layout="mono") if sound else None
        for index, array in enumerate(video):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = (ticks or range(len(video)))[index], clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if track:
            seconds = len(video) / Fraction(rate)
            wave = (8000 * np.sin(np.arange(int(48_000 * seconds)) / 20)).astype(np.int16)[None]
            tone = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
            tone.rate, tone.pts, tone.time_base = 48_000, 0, Fraction(1, 48_000)
            container.mux(track.encode(tone))
            container.mux(track.encode())
    return path


@pytest.fixture
def picture():
    """picture(count, height, width) -> a video to write."""
    return moving_picture


@pytest.fixture
def clip(tmp_path):
    """clip("name.mp4", count=30, **options of `encode`) -> the path of a new file."""
    return lambda name, count=30, **options: encode(tmp_path / name, moving_picture(count), **options)
