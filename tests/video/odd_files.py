"""Small odd clips, made with PyAV alone, a plain reading of them to compare with, and their way through the package."""

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from gp_jax.video import VideoReader, VideoWriter
from gp_jax.video.priority import kept_priority

HEIGHT, WIDTH, RATE = 24, 32, 25
PAD = 4  # columns added on either side
INTERLACED = {"flags": "+ildct+ilme"}


def picture(count: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """uint8 [count, height, width, 3]: soft colours that drift, no two corners alike."""
    t, y, x = np.ogrid[:count, :height, :width]
    waves = [np.sin(x / 12 + t / 3) + y / 40, np.cos(y / 9 - t / 4) + x / 50, np.sin((x + 2 * y) / 15 + t / 3)]
    return np.clip(120 + 70 * np.stack(np.broadcast_arrays(*waves), axis=-1), 0, 255).astype(np.uint8)


def film(
    path: Path,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    *,
    ticks: list[int] | None = None,
    last: int | None = None,
    tick: Fraction = Fraction(1, 1000),
    rate: Fraction | int = RATE,
    video: np.ndarray | None = None,
    options: dict | None = None,
    container_options: dict | None = None,
    setup=None,
    sounds: tuple = (),
    extras=None,
) -> Path:
    """Writes a clip of 6 frames.

    Args:
      codec, pixels, options: of the video encoder.
      ticks: times of the frames in `tick` seconds; `last` is how long the last one stays.
      video: uint8 [T, H, W, 3] or, for alpha, [T, H, W, 4].
      setup: called with the video stream before the first frame.
      sounds: (codec, layout, language) of tracks of one second.
      extras: called with the container before the first frame; may return packets to write.
    """
    video = picture(6) if video is None else video
    clock = tick if ticks else 1 / Fraction(rate)
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        stream = container.add_stream(codec, Fraction(rate), options=options or {})
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = pixels
        stream.bit_rate = 2_000_000
        stream.codec_context.time_base = clock
        if ticks:
            stream.codec_context.max_b_frames = 0  # else MP4 gives the durations to other frames
        if setup:
            setup(stream)
        tracks = []
        for name, layout, language in sounds:
            track = container.add_stream(name, 48_000, layout=layout)
            track.metadata["language"] = language
            tracks.append(track)
        packets = (extras and extras(container)) or []
        with kept_priority():
            container.start_encoding()
        stamps = ticks or range(len(video))
        lengths = dict(zip(stamps, [b - a for a, b in itertools.pairwise(stamps)] + [last or 0]))
        for array, pts in zip(video, stamps):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), "rgba" if array.shape[2] == 4 else "rgb24")
            context = stream.codec_context
            frame = frame.reformat(
                format=pixels, dst_colorspace=SWS.get(context.colorspace), dst_color_range=context.color_range or None
            )
            frame.colorspace, frame.color_range = context.colorspace, context.color_range
            frame.pts, frame.time_base = pts, clock
            for packet in stream.encode(frame):
                packet.duration = lengths.get(packet.pts) or packet.duration
                container.mux(packet)
        for packet in stream.encode():
            packet.duration = lengths.get(packet.pts) or packet.duration
            container.mux(packet)
        for track in tracks:
            container.mux(tone(track, stamps[0] * clock))
        container.mux(packets)
    return path


SWS = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}  # PyAV takes matrices by other numbers than the tags have


def tone(track, start: Fraction) -> list[av.Packet]:
    channels = track.layout.nb_channels
    wave = np.sin(np.arange(48_000)[:, None] / 20 * np.arange(1, channels + 1)) * 10_000
    tone = av.AudioFrame.from_ndarray(wave.astype(np.int16).reshape(1, -1), format="s16", layout=track.layout.name)
    tone.rate, tone.pts, tone.time_base = 48_000, round(start * 48_000), Fraction(1, 48_000)
    return [*track.encode(tone), *track.encode()]


def joined(path: Path, *parts: Path) -> Path:
    """Files one after the other, as `cat` does it."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def plainly_read(path: Path) -> np.ndarray:
    """uint8 [T, H, W, 3] as FFmpeg's own filters decode it: no orientation, nothing deinterlaced, alpha dropped."""
    frames = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            graph = av.filter.Graph()
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
            )
            matrix = {1: "bt709", 9: "bt2020", 7: "smpte240m", 4: "fcc"}.get(frame.colorspace, "bt601")
            scale = graph.add("scale", f"in_color_matrix={matrix}:flags=accurate_rnd+full_chroma_int+bicubic")
            graph.link_nodes(source, scale, graph.add("format", "rgb24"), graph.add("buffersink")).configure()
            frame.pts = 0
            graph.push(frame)
            graph.push(None)
            frames.append(graph.pull().to_ndarray())
    return np.stack(frames)


def outpainted(source, target):
    """The clip with grey sides: the way of `gp-jax outpaint`, without a model. The notes come with it."""
    reader = VideoReader(source)
    size = reader.info.height, reader.info.width + 2 * PAD
    writer = VideoWriter(target, reader.info, audio_from=reader, size=size)
    with writer:
        for frame in reader:
            writer.write(np.pad(frame, ((0, 0), (PAD, PAD), (0, 0)), constant_values=128))
    return reader, VideoReader(target), writer.notes
