"""The sound of one file on its way into another.

Packets are copied bit for bit where the new container takes their codec, and encoded anew where it does not. They enter
the file in step with the picture, since players read both side by side.
"""

import contextlib
from collections.abc import Iterator
from fractions import Fraction

import av

from gp_jax.video.reading import VideoReader
from gp_jax.video.sources import OPTIONS

ENCODERS = {"opus": "libopus"}  # where FFmpeg's own encoder of a codec is not the good one
SAMPLE_RATE = 48_000  # every codec here takes it, and Opus little else


class AudioTrack:
    """The sound of `source` as a stream of `output`.

    Args:
      source: a clip that has sound; its first frame is shown at 0 of the new file's clock.
      output: an open container, before its first packet.
      codecs: names of the codecs that the container takes as they are; sound in another one becomes the first,
        in mono or stereo.
    """

    def __init__(self, source: VideoReader, output: av.container.OutputContainer, codecs: tuple[str, ...]):
        self._input = av.open(f"file:{source.path}", options=OPTIONS)
        self._output = output
        self._start = source.info.start
        track = self._input.streams.best("audio")
        if track.codec_context.codec.canonical_name in codecs:
            stream = output.add_stream_from_template(track)
            self._packets = self._copied(track, stream)
        else:
            layout = "mono" if track.layout.nb_channels == 1 else "stereo"
            stream = output.add_stream(ENCODERS.get(codecs[0], codecs[0]), SAMPLE_RATE, layout=layout)
            self._packets = self._encoded(track, stream)
        self._next = next(self._packets, None)

    def mux_until(self, seconds: Fraction | float):
        """Writes all packets that begin by then."""
        while self._next is not None and self._next.dts * self._next.time_base <= seconds:
            self._output.mux(self._next)
            self._next = next(self._packets, None)

    def close(self):
        self._input.close()

    def _copied(self, track: av.AudioStream, stream: av.AudioStream) -> Iterator[av.Packet]:
        for packet in self._demux(track):
            if packet.pts is not None and packet.dts is not None:
                shift = round(self._start / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = stream
                yield packet

    def _encoded(self, track: av.AudioStream, stream: av.AudioStream) -> Iterator[av.Packet]:
        for packet in self._demux(track):
            for frame in _decode(packet):
                frame.pts -= round(self._start / frame.time_base)
                yield from stream.encode(frame)
        yield from stream.encode()

    def _demux(self, track: av.AudioStream) -> Iterator[av.Packet]:
        """All packets up to where the file is cut off."""
        with contextlib.suppress(av.FFmpegError):
            yield from self._input.demux(track)


def _decode(packet: av.Packet) -> list[av.AudioFrame]:
    try:
        return [frame for frame in packet.decode() if frame.pts is not None]
    except av.FFmpegError:
        return []  # a damaged packet is a moment of silence
