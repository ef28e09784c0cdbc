"""Arguments that several commands take, as `type=` of argparse: text in, value out, or a sentence on what is wrong."""

import math
import re
from argparse import SUPPRESS, Action, ArgumentTypeError, RawDescriptionHelpFormatter


class HelpFormatter(RawDescriptionHelpFormatter):
    """Keeps the lines of a description, and says the default of each option whose help does not tell of one."""

    def _get_help_string(self, action: Action) -> str:
        text, default = action.help or "", action.default
        if action.nargs == 0 or default in (None, "", (), [], SUPPRESS) or "default" in text:
            return text
        shown = " ".join(map(str, default)) if isinstance(default, tuple | list) else str(default)
        return f"{text} (default: {shown.replace('%', '%%')})"


def aspect(text: str) -> float:
    """`16:9` or `2.39` as width / height."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?::(\d+(?:\.\d+)?))?", text)
    width, height = (float(match[1]), float(match[2] or 1)) if match else (0, 0)
    if not (0 < width < math.inf and 0 < height < math.inf and 0 < width / height < math.inf):
        raise ArgumentTypeError(f"'{text:.40}' is not of the form 16:9 or 2.39")
    return width / height


def size(text: str) -> tuple[int, int]:
    """`1920x1080` as (height, width) in pixels."""
    match = re.fullmatch(r"0*([1-9]\d{0,17})x0*([1-9]\d{0,17})", text)
    if not match:
        raise ArgumentTypeError(f"'{text:.40}' is not of the form WIDTHxHEIGHT in pixels, such as 1920x1080")
    return int(match[2]), int(match[1])


def pads(text: str) -> tuple[int, int, int, int]:
    """`64,64,0,0` as pixels added at the (left, right, top, bottom)."""
    if not re.fullmatch(r"\d{1,18}(,\d{1,18}){3}", text):
        raise ArgumentTypeError(f"'{text:.40}' is not of the form LEFT,RIGHT,TOP,BOTTOM in pixels, such as 64,64,0,0")
    left, right, top, bottom = (int(part) for part in text.split(","))
    return left, right, top, bottom


def frames(text: str) -> slice:
    """`A:B` as a slice: from frame A on, up to B but without it; either may be left out, or count from the end."""
    match = re.fullmatch(r"(-?\d{1,9})?:(-?\d{1,9})?", text)
    if not match:
        raise ArgumentTypeError(f"'{text:.40}' is not of the form A:B, such as 0:48, 100: or :-10")
    return slice(*(None if part is None else int(part) for part in match.groups()))


def finite(text: str) -> float:
    """A number, neither NaN nor infinite."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ArgumentTypeError(f"'{text}' is not a finite number, such as 1.5")
    return number


def lora(text: str) -> tuple[str, float]:
    """`FILE` or `FILE:STRENGTH` as (file, strength), a finite number."""
    path, _, end = text.rpartition(":")
    try:
        strength = float(end)
    except ValueError:
        return text, 1.0
    if not path:
        return text, 1.0
    if not math.isfinite(strength):
        raise ArgumentTypeError(f"the strength of {path} is '{end}', not a finite number such as 0.8")
    return path, strength


def seed(text: str) -> int:
    """A whole number from 0 to 2^64 - 1."""
    if not re.fullmatch(r"[0-9]{1,20}", text) or int(text) >= 2**64:
        raise ArgumentTypeError(f"'{text:.40}' is not a seed: whole numbers from 0 to 18446744073709551615 are")
    return int(text)


def count(text: str) -> int:
    """A whole number from 1 on."""
    if not re.fullmatch(r"0*[1-9]\d{0,8}", text):
        raise ArgumentTypeError(f"'{text:.40}' is not a whole number from 1 on")
    return int(text)


def shapes(text: str) -> list[tuple[int, ...]]:
    """Shapes such as 1x64x5,2x16x5, all of as many axes."""
    made = [tuple(map(count, shape.split("x"))) for shape in text.split(",")]
    if len({len(shape) for shape in made}) > 1:
        raise ArgumentTypeError(f"'{text:.40}' has shapes of different numbers of axes")
    return made


def index(text: str) -> int:
    """A whole number from 0 on."""
    if not re.fullmatch(r"\d{1,9}", text):
        raise ArgumentTypeError(f"'{text:.40}' is not a whole number from 0 on")
    return int(text)


def share(text: str) -> float:
    """A part of a whole: from 0 on, below 1."""
    if not re.fullmatch(r"0*(\.\d+)?", text) or not text:
        raise ArgumentTypeError(f"'{text:.40}' is not a share such as 0.02")
    return float(text)


def rate(text: str) -> float:
    """Frames per second, as many as files have words for."""
    if not re.fullmatch(r"\d+(\.\d+)?", text) or not 0.001 <= float(text) <= 1000:
        raise ArgumentTypeError(f"'{text:.40}' is not a number of frames per second from 0.001 to 1000, such as 29.97")
    return float(text)
