"""How pictures are encoded where somebody wants another way than the format's own.

    coding = Coding(codec="hevc", crf=20)
    chosen(".mp4", "mp4", "h264", coding, 720, 1280)      Chosen("libx265", {"crf": "20", ...}, "yuv420p", "hvc1")
    chosen(".webm", "webm", "vp9", coding, 720, 1280)     UserError: hevc does not go into .webm, which takes vp9, av1

`CODECS` says what can be asked for; a new codec is one line there. What this installation cannot encode is not offered,
and which codec goes into which file is asked of FFmpeg.
"""

import functools
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import av
import av.codec
import av.error

from gp_jax.errors import UserError
from gp_jax.video.colours import PLANES, RGB


@dataclass(frozen=True)
class Codec:
    """A way to encode pictures.

    Attributes:
      encoder: FFmpeg's name of it.
      options: of the encoder, where nothing else is wished.
      worst: the highest `crf`; None where there is none, because the codec knows no such thing.
      deep: whether colours are stored by `yuv422p10le` or `yuv444p10le` by default, as prores has them.
      tag: by which players know it, where it is not FFmpeg's own.
    """

    encoder: str
    options: Mapping[str, str] = field(default_factory=dict)
    worst: int | None = None
    deep: bool = False
    tag: str | None = None


CODECS = {
    "h264": Codec("libx264", {"crf": "16", "preset": "veryfast"}, worst=51),
    "hevc": Codec("libx265", {"crf": "18", "preset": "fast", "x265-params": "log-level=error"}, worst=51, tag="hvc1"),
    "vp9": Codec("libvpx-vp9", {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}, worst=63),
    "av1": Codec("libsvtav1", {"crf": "26", "preset": "8"}, worst=63),
    "ffv1": Codec("ffv1", {"level": "3", "slicecrc": "1"}),
    "prores": Codec("prores_ks", {"vendor": "apl0"}, deep=True),
}


REFUSED = (("mov", "vp9"), ("mov", "av1"))  # FFmpeg says that these fit, and then refuses them


@dataclass(frozen=True)
class Coding:
    """What is wished of the encoding of pictures; None stands for the format's own way.

    Attributes:
      codec: one of `CODECS`.
      crf: how much may be lost: 0 is the best, and some 6 more halve the file.
      pixels: FFmpeg's name of how colours are stored, such as `yuv444p10le`.
    """

    codec: str | None = None
    crf: int | None = None
    pixels: str | None = None


PLAIN = Coding()


class Chosen(NamedTuple):
    """An encoder, its options, how it stores colours, and its tag; see `Codec`."""

    encoder: str
    options: dict[str, str]
    pixels: str
    tag: str | None


def chosen(suffix: str, container: str, default: str, coding: Coding, height: int, width: int) -> Chosen:
    """What encodes frames of height x width pixels.

    Args:
      suffix: of the file, for people.
      container: FFmpeg's name of its format.
      default: the codec where none is wished, one of `CODECS`.
      coding: the wishes.
      height, width: of the frames.

    Raises:
      UserError: a wish cannot be fulfilled; it says what can be.
    """
    name = coding.codec or default
    if name not in (fitting := codecs_for(container)):
        known = "does not go into" if name in CODECS else "is no codec for"
        raise UserError(f"--codec {name} {known} {suffix}, which takes {', '.join(fitting)}")
    codec, options = CODECS[name], dict(CODECS[name].options)
    if coding.crf is not None:
        if codec.worst is None:
            able = [other for other in fitting if CODECS[other].worst is not None]
            way = f", or choose one of --codec {', '.join(able)}" if able else ""
            raise UserError(f"{name} has no --crf: leave it out{way}")
        if coding.crf > codec.worst:
            raise UserError(f"--crf of {name} goes from 0, the best, to {codec.worst}, not to {coding.crf}")
        options["crf"] = str(coding.crf)
        if name == "av1" and coding.crf == 0:  # FFmpeg takes it for no wish at all, and the encoder does not
            del options["crf"]
            options["svtav1-params"] = "crf=0"
    return Chosen(codec.encoder, options, _pixels(name, coding, height, width), codec.tag)


@functools.cache
def codecs_for(container: str) -> list[str]:
    """Names of the codecs that a format takes and this installation encodes."""
    able = _encoders()
    with av.open(io.BytesIO(), "w", format=container) as file:
        return [name for name in able if name in file.supported_codecs and (container, name) not in REFUSED]


def _pixels(name: str, coding: Coding, height: int, width: int) -> str:
    offered = _encoders()[name]
    fitting = [pixels for pixels in offered if _holds(pixels, height, width)]
    if coding.pixels is None:
        # Exact where nothing is lost anyway; else colour at half the resolution, where the size has a half.
        order = ("bgr0", "yuv420p", "yuv444p") if not CODECS[name].deep else ("yuv422p10le", "yuv444p10le")
        wished = next((pixels for pixels in order if pixels in fitting), None)
        if wished is None:
            raise UserError(
                f"{name} stores colour at half the resolution, and {width}x{height} has an odd side: "
                "ask for an even size or another --codec"
            )
        return wished
    if coding.pixels not in offered:
        raise UserError(f"--pix-fmt of {name} is one of {', '.join(offered)}, not {coding.pixels}")
    if coding.pixels not in fitting:
        way = f"--pix-fmt {fitting[0]} or an even size" if fitting else "an even size"
        raise UserError(f"{coding.pixels} has no room for the odd side of {width}x{height} pixels: ask for {way}")
    return coding.pixels


def _holds(pixels: str, height: int, width: int) -> bool:
    """Whether a way to store colours has room for odd sides, where the size has them."""
    if pixels in RGB:
        return True
    down, across = PLANES[pixels].halved
    return not (down and height % 2) and not (across and width % 2)


@functools.cache
def _encoders() -> dict[str, list[str]]:
    """Of each codec that can be encoded here, how it can store colours."""
    os.environ.setdefault("SVT_LOG", "1")  # or SVT-AV1 tells its settings on the terminal; 1 is for errors
    found = {}
    for name, codec in CODECS.items():
        try:
            formats = av.codec.Codec(codec.encoder, "w").video_formats or []
        except av.codec.codec.UnknownCodecError:
            continue
        names = {pixels.name for pixels in formats}
        found[name] = [pixels for pixels in (*PLANES, *RGB) if pixels in names]
    return found
