"""Options of methods: a frozen dataclass each, from which command line, page and report are made.

    @dataclass(frozen=True)
    class Options:
        seed: Seed = option(Seed(0), "another seed, other sides", "N")
        steps: Count | None = option(None, "denoising steps; by default the checkpoint's", "N")

The type of a field says what is taken: `Seed` from 0 to 2^64 - 1, `Count` from 1 on, `Whole` from 0 on, `float` any
finite number, `str` one of `choices`, `Text` any words; `bool` is a switch. A `str` without choices names something on
this machine, a file or a checkpoint: the page in the browser does not offer it. Two methods may share an option, then
they mean the same by it. Nothing here imports jax: `--help` comes at once.
"""

import dataclasses
import numbers
from collections.abc import Collection
from typing import Any, NewType

from gp_jax.errors import UserError
from gp_jax.json_config import short

Seed = NewType("Seed", int)
Count = NewType("Count", int)
Whole = NewType("Whole", int)
Text = NewType("Text", str)


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """Of a method that leaves nothing to choose."""


def option(
    default: Any, help: str, metavar: str = "", *, choices: Collection[str] = (), spellings: tuple[str, ...] = ()
) -> Any:
    """A field of a dataclass of options.

    Args:
      default: its value where nothing is asked for.
      help: one line.
      metavar: what stands for the value in the help; the choices by default.
      choices: the names that a text can have.
      spellings: further flags of the command line, such as older ones.
    """
    shown = metavar or ", ".join(choices)
    metadata = {"help": help, "metavar": shown, "choices": choices, "spellings": spellings}
    return dataclasses.field(default=default, metadata=metadata)


def detail_option() -> Any:
    """Of a method on latents: how what is made gets detail beyond its networks' size."""
    help = "none: what is made is enlarged; source: sharpened by what the clip shows; tiles: made anew, in parts"
    return option("none", help, choices=("none", "source", "tiles"))


def overlap_option() -> Any:
    """Of a method on latents: how far what is made grows into the source."""
    help = (
        "pixels of the network's frame by which what is made grows into the source, and as many over which it fades; "
        "with 0 the source's pixels stay"
    )
    return option(Whole(0), help, "N")


def check_outcome(options: Any) -> None:
    """Raises UserError where the `detail` of options is none of its field's choices, or their `overlap` no `Whole`."""
    choices = next(field for field in dataclasses.fields(options) if field.name == "detail").metadata["choices"]
    if options.detail not in choices:
        raise UserError(f"there is no detail {short(options.detail)} here: choose one of {', '.join(choices)}")
    check_whole("overlap", options.overlap, 0)


def check_whole(name: str, value: Any, least: int) -> None:
    """Raises UserError unless it is a whole number, Python's or NumPy's, from `least` on."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise UserError(f"{name} is a whole number from {least} on, not {short(value)}")


def changed(options: Any) -> dict[str, Any]:
    """The options that are not as by default, by name."""
    fields = dataclasses.fields(options)
    return {f.name: getattr(options, f.name) for f in fields if getattr(options, f.name) != f.default}
