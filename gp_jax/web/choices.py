"""What can be chosen on the page, and what was chosen.

    offered(checkpoints, loras)                   JSON: methods with their options, made of their dataclasses
    Choice.of({"method": "globalpaint", "options": {"seed": "3"}, ...}, offered)

A checkpoint or a LoRA is chosen by its name among those that the server was started with, or by the path that was given
there where others have that name: no other path comes from a browser.
"""

import dataclasses
import math
import types
import typing
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from gp_jax.checkpoint.folder import SHIPPED, find_checkpoint
from gp_jax.checkpoint.settings import read_settings
from gp_jax.errors import UserError
from gp_jax.files import read_json
from gp_jax.methods.options import Count, Seed, Text, Whole
from gp_jax.methods.registry import METHODS, options_of
from gp_jax.seeds import check_seed
from gp_jax.video import SAMPLES

OF_TEXT = (
    "prompt",
    "negative_prompt",
    "text_guidance",
)  # options that a checkpoint without a text tower has no use for
KINDS: dict[Any, str] = {
    Seed: "seed",
    Count: "count",
    Whole: "whole",
    float: "number",
    Text: "text",
    str: "choice",
    bool: "switch",
}
ASPECTS = ("16:9", "9:16", "1:1", "4:5", "21:9")
MOST_SEEDS = 4


@dataclasses.dataclass(frozen=True)
class Offered:
    """What the server was started with.

    Attributes:
      checkpoints: folders by name.
      loras: files by name.
    """

    checkpoints: Mapping[str, Path]
    loras: Mapping[str, Path]

    @classmethod
    def of(cls, checkpoints: Sequence[str] = (), loras: Sequence[str] = ()) -> "Offered":
        """Those of this package and others; raises UserError where a folder is no checkpoint, or a file is missing."""
        folders = {file.parent.name: file.parent for file in sorted(SHIPPED.glob("*/config.json"))}
        given = _named({path: Path(path).resolve().name for path in checkpoints}, folders)
        folders |= {name: find_checkpoint(path) for name, path in given.items()}
        for folder in folders.values():
            _method_of(folder)
        files = {name: Path(path) for name, path in _named({path: Path(path).name for path in loras}).items()}
        if missing := [path for path in files.values() if not path.is_file()]:
            raise UserError(f"there is no LoRA {missing[0]}")
        return cls(folders, files)

    def to_json(self) -> dict[str, Any]:
        """For the page."""
        return {
            "aspects": ASPECTS,
            "samples": [*SAMPLES],
            "loras": [*self.loras],
            "most_seeds": MOST_SEEDS,
            "checkpoints": [
                {
                    "name": name,
                    "method": _method_of(folder),
                    "reads_text": (folder / "text").is_dir(),
                }
                for name, folder in self.checkpoints.items()
            ],
            "methods": [
                {"name": name, "title": line.title, "networks": line.networks, "options": _options(name)}
                for name, line in METHODS.items()
            ],
            "of_text": OF_TEXT,
        }


def _method_of(checkpoint: Path) -> str:
    """Raises UserError where its settings cannot be read."""
    try:
        return read_settings(read_json(checkpoint / "config.json")).method
    except UserError as error:
        raise UserError(f"the checkpoint {checkpoint} cannot be offered: {error}") from error


@dataclasses.dataclass(frozen=True)
class Choice:
    """One way to outpaint.

    Attributes:
      method: a name of the registry.
      options: an instance of its dataclass.
      checkpoint: a folder, None for methods without networks.
      lora: (file, strength).
    """

    method: str
    options: Any
    checkpoint: Path | None
    lora: tuple[tuple[Path, float], ...]

    @classmethod
    def of(cls, wish: Mapping[str, Any], offered: Offered) -> "Choice":
        """What a page asks for; raises UserError for whatever is not offered, or has a value that cannot be meant."""
        method = wish.get("method")
        if not isinstance(method, str) or method not in METHODS:
            raise UserError("choose a method of the list")
        checkpoint = None
        if METHODS[method].networks:
            checkpoint = offered.checkpoints.get(str(wish.get("checkpoint")))
            if checkpoint is None:
                raise UserError(f"{method} needs a checkpoint: start the server with --checkpoint, and choose it")
        loras = wish.get("loras") or {}
        if not isinstance(loras, Mapping) or loras.keys() - offered.loras.keys():
            raise UserError("choose LoRAs of the list")
        given = tuple((offered.loras[name], _number(name, strength)) for name, strength in loras.items())
        values = wish.get("options") or {}
        if not isinstance(values, Mapping):
            raise UserError("the options are to be given by their names")
        return cls(method, _read(method, values), checkpoint, tuple(lora for lora in given if lora[1]))


def _named(names: Mapping[str, str], taken: Collection[str] = ()) -> dict[str, str]:
    """Name -> path, of path -> name; where a name is not the only one of its kind, the path stands for it."""
    counts = Counter([*taken, *names.values()])
    return {name if counts[name] == 1 else path: path for path, name in names.items()}


def _options(method: str) -> list[dict[str, Any]]:
    kinds = typing.get_type_hints(options_of(method))
    return [
        {
            "name": field.name,
            "kind": KINDS[kind],
            "help": field.metadata["help"],
            "choices": [*field.metadata["choices"]],
            "default": field.default,
        }
        for field in dataclasses.fields(options_of(method))
        # A text without choices would name something on this machine.
        if (kind := _plain(kinds[field.name])) is not str or field.metadata["choices"]
    ]


def _plain(kind: Any) -> Any:
    """The type of a field that may be None as well."""
    return next((part for part in typing.get_args(kind) if part is not types.NoneType), kind)


def _read(method: str, values: Mapping[str, Any]) -> Any:
    cls = options_of(method)
    known = {option["name"]: option for option in _options(method)}
    if unknown := sorted(values.keys() - known.keys()):
        raise UserError(f"{method} has no option {unknown[0][:40]}")
    given = {name: _value(known[name], value) for name, value in values.items() if value not in (None, "")}
    return cls(**given)


def _value(option: Mapping[str, Any], value: Any) -> Any:
    name, kind = option["name"], option["kind"]
    if kind == "switch":
        return value is True or value == "true"
    if kind in ("seed", "count", "whole"):
        try:
            whole = int(str(value))
        except ValueError:
            whole = -1
        if kind == "seed":
            return Seed(check_seed(whole))
        least = int(kind == "count")
        if not least <= whole < 10**6:
            raise UserError(f"{name} is a whole number from {least} on")
        return whole
    if kind == "number":
        return _number(name, value)
    if kind == "choice" and value not in option["choices"]:
        raise UserError(f"{name} is one of {', '.join(option['choices'])}")
    return str(value)[:2000]


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{name} is a number, such as 1.5")
    return number
