"""Whether a file ends before it should, by the lengths that its own container states.

Decoders make the best of a file that is cut off and often say nothing. Each container is built of parts that state
their length, so that a cut shows by arithmetic, without decoding. Raw streams, which state none, are left to the
decoder's own complaints.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"styp"}
TRANSPORT_SYNC = 0x47
ASF_HEADER, ASF_PROPERTIES = bytes.fromhex("3026b2758e66cf11"), bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
NUT_INDEX = bytes.fromhex("4e58dd672f23e64e")
TAIL = 1 << 20  # bytes at the end of a file among which there is a pack of MPEG, or the index of a NUT


def is_cut(path: Path) -> bool:
    """Whether the file is shorter than its container states."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(400)
        file.seek(0)
        if head[4:8] in BOXES:
            return _end(_boxes(file, size)) > size
        if head.startswith(b"\x1aE\xdf\xa3"):
            return _end(_elements(file, size)) > size
        if head.startswith(b"RIFF"):
            return _end(_chunks(file, size)) > size
        if head.startswith(b"GIF8"):
            return not _gif_has_trailer(file)
        if head.startswith(b"\x89PNG"):
            return not _png_has_end(file, size)
        if head.startswith(b"FLV"):
            return _end(_flv_tags(file, size)) > size
        if head.startswith(b"OggS"):
            return _end(_ogg_pages(file, size)) > size
        if head.startswith(b"nut/multimedia"):
            return _nut_index_end(file, size) > size
        if head.startswith(ASF_HEADER):
            at = head.find(ASF_PROPERTIES)
            return at >= 0 and int.from_bytes(head[at + 40 : at + 48], "little") > size
        if head.startswith(b"\0\0\1\xba"):
            return _end(_program_packets(file, size)) > size
        for packet, first in ((188, 0), (192, 4)):  # MPEG-TS, and the same with a time before each packet
            if all(head[at : at + 1] == bytes([TRANSPORT_SYNC]) for at in (first, first + packet)):
                return size % packet != 0
    return False


# Each walk yields where a part ends, be it beyond the file.


def _end(ends: Iterator[int]) -> int:
    return max(ends, default=0)


def _boxes(file: BinaryIO, size: int) -> Iterator[int]:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        if length < 8 or not kind.isascii():  # to the end of the file, or no box
            return
        at += length
        yield at


def _elements(file: BinaryIO, size: int) -> Iterator[int]:
    """EBML: a header, then segments, which may leave their length open."""
    at = 0
    while at < size:
        file.seek(at)
        _variable(file, keep_marker=True)
        length, is_open = _variable(file)
        if is_open:
            return
        at = file.tell() + length
        yield at


def _variable(file: BinaryIO, keep_marker: bool = False) -> tuple[int, bool]:
    """A number of EBML, and whether it means "unknown"."""
    first = (file.read(1) or b"\0")[0]
    count = 8 - first.bit_length()  # bytes that follow
    if count == 8:
        return 0, True
    value = first if keep_marker else first & (0x7F >> count)
    number = int.from_bytes(bytes([value]) + file.read(count), "big")
    return number, number == (1 << 7 * (count + 1)) - 1


def _chunks(file: BinaryIO, size: int) -> Iterator[int]:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        if file.read(4) != b"RIFF":
            return
        at += 8 + int.from_bytes(file.read(4), "little")
        yield at
        at += at % 2


def _flv_tags(file: BinaryIO, size: int) -> Iterator[int]:
    file.seek(5)
    at = int.from_bytes(file.read(4), "big") + 4
    while at < size:
        file.seek(at + 1)
        at += 11 + int.from_bytes(file.read(3), "big") + 4
        yield at


def _ogg_pages(file: BinaryIO, size: int) -> Iterator[int]:
    at = 0
    while at < size:
        file.seek(at + 26)
        segments = file.read((file.read(1) or b"\0")[0])
        at += 27 + len(segments) + sum(segments)
        yield at


def _program_packets(file: BinaryIO, size: int) -> Iterator[int]:
    """The packets from the last pack on."""
    begin = max(0, size - TAIL)
    file.seek(begin)
    at = begin + max(0, file.read().rfind(b"\0\0\1\xba"))
    while at + 6 <= size:
        file.seek(at)
        code, length = file.read(4), file.read(2)
        if not code.startswith(b"\0\0\1"):
            return
        if code[3] == 0xBA:
            file.seek(at + 13)
            at += 14 + ((file.read(1) or b"\0")[0] & 7) if length[0] >> 6 == 1 else 12
        else:
            at += 6 + int.from_bytes(length, "big")
        yield at


def _nut_index_end(file: BinaryIO, size: int) -> int:
    """Where the index ends, with which a whole file ends; beyond the file if there is none."""
    begin = max(0, size - TAIL)
    file.seek(begin)
    tail = file.read()
    at = tail.rfind(NUT_INDEX) + len(NUT_INDEX)
    if at < len(NUT_INDEX):
        return size + 1
    length, more = 0, True
    while more and at < len(tail):
        length, more = length << 7 | tail[at] & 0x7F, tail[at] & 0x80
        at += 1
    return begin + at + length


def _gif_has_trailer(file: BinaryIO) -> bool:
    file.seek(10)
    _skip_palette(file, file.read(3)[:1])
    while kind := file.read(1):
        if kind == b";":
            return True
        if kind == b",":
            _skip_palette(file, file.read(9)[8:])
            file.read(1)
        elif kind == b"!":
            file.read(1)
        else:
            return False
        while length := file.read(1):
            if length == b"\0":
                break
            file.seek(length[0], 1)
    return False


def _skip_palette(file: BinaryIO, flags: bytes):
    if flags and flags[0] & 0x80:
        file.seek(3 << ((flags[0] & 7) + 1), 1)


def _png_has_end(file: BinaryIO, size: int) -> bool:
    at = 8
    while at + 12 <= size:
        file.seek(at)
        length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
        at += 12 + length
        if kind == b"IEND":
            return True
    return False
