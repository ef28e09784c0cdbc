"""The options of all methods as flags, made of their dataclasses (methods/options.py).

    add_options(parser, METHODS)               --seed, --steps, ...: each once, grouped by the methods that have it
    options_for("globalpaint", arguments)      Options(seed=3): what was given, the rest as by default

A flag that no chosen method has is an error: nothing that was asked for is left out in silence.
"""

import argparse
import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from gp_jax.cli import arguments as parse
from gp_jax.errors import UserError
from gp_jax.methods.options import Count, Seed, Text, Whole
from gp_jax.methods.registry import options_of

# How the text behind a flag is read, by the type of the field.
PARSERS: Mapping[Any, Any] = {
    Seed: parse.seed,
    Count: parse.count,
    Whole: parse.index,
    float: parse.finite,
    Text: Text,
    str: str,
}


def add_options(parser: argparse.ArgumentParser, methods: Iterable[str]) -> None:
    """Declares the options of methods; one that was not given has no attribute."""
    owners: dict[str, list[str]] = {}
    fields: dict[str, tuple[dataclasses.Field, Any]] = {}
    for method in methods:
        types_of = typing.get_type_hints(options_of(method))
        for field in dataclasses.fields(options_of(method)):
            owners.setdefault(field.name, []).append(method)
            fields.setdefault(field.name, (field, types_of[field.name]))
    groups: dict[tuple[str, ...], Any] = {}
    for name, (field, kind) in fields.items():
        having = tuple(owners[name])
        if having not in groups:
            groups[having] = parser.add_argument_group(f"options of {', '.join(having)}")
        _add(groups[having], field, kind)


def options_for(method: str, arguments: argparse.Namespace) -> Any:
    """The options of a method, an instance of its dataclass: what was given, and its defaults."""
    cls = options_of(method)
    given = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(cls) if field.name in arguments}
    return cls(**given)


def check_used(arguments: argparse.Namespace, chosen: Iterable[str], methods: Iterable[str]) -> None:
    """Raises UserError where an option was given that none of the `chosen` has, of all those of `methods`."""
    known = {field.name for method in methods for field in dataclasses.fields(options_of(method))}
    names = list(chosen)
    used = {field.name for method in names for field in dataclasses.fields(options_of(method))}
    if unused := sorted(name for name in known - used if name in arguments):
        raise UserError(f"--{unused[0].replace('_', '-')} is no option of {', '.join(names)}: leave it out")


def _add(group: Any, field: dataclasses.Field, kind: Any) -> None:
    kind = next((part for part in typing.get_args(kind) if part is not types.NoneType), kind)
    flags = [f"--{field.name.replace('_', '-')}", *field.metadata["spellings"]]
    if kind is bool:
        group.add_argument(*flags, dest=field.name, action="store_true", default=argparse.SUPPRESS, help=_help(field))
        return
    group.add_argument(
        *flags,
        dest=field.name,
        type=PARSERS[kind],
        choices=field.metadata["choices"] or None,
        metavar=field.metadata["metavar"] if not field.metadata["choices"] else "NAME",
        default=argparse.SUPPRESS,
        help=_help(field),
    )


def _help(field: dataclasses.Field) -> str:
    shown = f"{', '.join(field.metadata['choices'])}: " if field.metadata["choices"] else ""
    text = f"{shown}{field.metadata['help']}"
    if field.default is not None and field.default is not False and "default" not in text:
        text += f" (default: {field.default})"
    return text.replace("%", "%%")
