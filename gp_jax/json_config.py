"""Configs from outside: checked key by key, or refused in one sentence. No jax here.

A config is a frozen dataclass. The types and ranges of its fields say what a file may hold, and a `Foreign` says what
the class of another library means by the same file:

    @dataclasses.dataclass(frozen=True)
    class TowerConfig:
        layers: int = within(12, 1, 128)
        act: str = one_of("gelu", ("gelu", "quick_gelu"))
        carried: str = "{}"                                  # keys of `ignored`, to be written back

    TOWER = Foreign(
        classes=("CLIPVisionModel",),                        # what `_class_name` may say
        defaults={"act": "quick_gelu"},                      # of that class, where they are not ours
        fixed={"dropout": (0, 0.0)},                         # keys whose other values mean another network
        ignored=("initializer_range",),                      # keys that change no result
    )
    config = read_fields(TowerConfig, read_json("clip/config.json"), TOWER, "CLIP config")

Every key is a field, fixed, ignored or a comment (it begins with `_`); any other may mean another network, and is
refused unless it is null, false or empty.
"""

import dataclasses
import functools
import json
import math
import os
import reprlib
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from gp_jax.errors import UserError
from gp_jax.files import read_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")
Json = dict[str, Any]

_REPR = reprlib.Repr()
_REPR.maxstring = 60
_MOST_ENTRIES = 16  # of a list in a config


@dataclasses.dataclass(frozen=True)
class Foreign:
    """What another library's class means by a config; see the module's docstring."""

    classes: Collection[str] = ()
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fixed: Mapping[str, Collection[Any]] = dataclasses.field(default_factory=dict)
    ignored: Collection[str] = ()


def within(default: Any, low: float, high: float) -> Any:
    """A field whose numbers lie from `low` to `high`."""
    return dataclasses.field(default=default, metadata={"range": (low, high)})


def one_of(default: Any, choices: Iterable[str]) -> Any:
    """A field whose strings are among `choices`."""
    return dataclasses.field(default=default, metadata={"choices": tuple(choices)})


def read_config(read: Callable[[Json], Config], path: str | os.PathLike) -> Config:
    """What `read`, such as `UNetConfig.from_json`, makes of a file; a UserError names the file."""
    config = read_json(path)
    with naming(path):
        return read(config)


@contextmanager
def naming(place: Any) -> Iterator[None]:
    """Puts the place that is spoken of before the message of a UserError."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


def read_fields(cls: type[Config], config: Mapping[str, Any], foreign: Foreign, what: str) -> Config:
    """Builds the dataclass `cls` from a config.

    Args:
      config: JSON, or what a Python config has in its place (tuples for lists).
      foreign: see the module's docstring; its defaults hold where the config has a `_class_name`.
      what: how a message calls the config.

    Raises:
      UserError: names the first key that is missing, is not known or has a value that cannot be meant.
    """
    check_class(config, foreign.classes, what)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.name != "carried"}
    values = {**(foreign.defaults if config.get("_class_name") else {}), **config}
    for key, value in values.items():
        if key in foreign.fixed:
            if not any(_same(value, allowed) for allowed in foreign.fixed[key]):
                source = "" if key in config else f", the default of {config['_class_name']},"
                only = " or ".join(map(json.dumps, foreign.fixed[key]))
                raise UserError(f"{what}: {key}={short(value)}{source} is not supported, only {only}")
        elif not (key in fields or key in foreign.ignored or key.startswith("_") or _empty(value)):
            raise UserError(f"{what}: {key}={short(value)} is not known here, and may mean another network")
    hints = _hints(cls)
    made = {name: _checked(fields[name], hints[name], values[name], what) for name in fields if name in values}
    for name, field in fields.items():
        if name not in made and field.default is dataclasses.MISSING:
            raise UserError(f"{what}: {name} is missing; add that key")
    if "carried" in hints:
        made["carried"] = json.dumps({key: config[key] for key in foreign.ignored if key in config}, sort_keys=True)
    return cls(**made)


def write_fields(config: Any) -> Json:
    """The keys of a config dataclass as JSON, those that it carries for others among them."""
    fields = dataclasses.asdict(config)
    carried = json.loads(fields.pop("carried", "{}"))
    return {**carried, **{key: list(x) if isinstance(x, tuple) else x for key, x in fields.items()}}


def unlike(one: Config, other: Config, but: Collection[str] = ()) -> str:
    """The first field in which two configs of a class differ, as `layers=2, not 3`; empty where they are alike."""
    keys = (field.name for field in dataclasses.fields(one) if field.name not in but)
    pairs = ((key, getattr(one, key), getattr(other, key)) for key in keys)
    return next((f"{key}={value}, not {theirs}" for key, value, theirs in pairs if value != theirs), "")


def short(value: Any) -> str:
    """A value as a message shows it."""
    shown = _REPR.repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def check_class(config: Mapping[str, Any], classes: Collection[str], what: str) -> None:
    """Raises UserError where a config says that it belongs to another class than one of `classes`."""
    name = config.get("_class_name")
    if name is not None and name not in tuple(classes):
        only = ", ".join(classes) or "a config without it"
        raise UserError(f"{what}: _class_name={short(name)} is not supported, only {only}")


def one_for_all(value: Any, count: int) -> Any:
    """A list of `count` equal values as that value: a setting given by level where the network has one for all."""
    alike = isinstance(value, list | tuple) and len(value) == count and all(_same(x, value[0]) for x in value)
    return value[0] if alike and count else value


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _checked(field: dataclasses.Field, hint: Any, value: Any, what: str) -> Any:
    try:
        return _as(hint, value, field.metadata)
    except (TypeError, OverflowError):
        meant = _meaning(hint, field.metadata)
        raise UserError(f"{what}: {field.name} is {short(value)}; it must be {meant}") from None


def _as(hint: Any, value: Any, limits: Mapping[str, Any]) -> Any:
    """`value` as the type `hint` has it; raises TypeError where it is of another type or beyond the limits."""
    if isinstance(hint, types.UnionType):
        for choice in typing.get_args(hint):
            try:
                return _as(choice, value, limits)
            except TypeError:
                continue
        raise TypeError
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        if not isinstance(value, list | tuple) or not 0 < len(value) <= _MOST_ENTRIES:
            raise TypeError
        kinds = inner[:1] * len(value) if inner[-1] is ... else inner
        if len(kinds) != len(value):
            raise TypeError
        return tuple(_as(kind, x, limits) for kind, x in zip(kinds, value))
    accepted = int | float if hint is float else hint
    if not isinstance(value, accepted) or isinstance(value, bool) != (hint is bool):
        raise TypeError
    if hint in (int, float):
        low, high = limits.get("range", (-math.inf, math.inf))
        if not low <= value <= high or value in (math.inf, -math.inf):
            raise TypeError
        return hint(value)
    if hint is str and value not in limits.get("choices", (value,)):
        raise TypeError
    return value


def _meaning(hint: Any, limits: Mapping[str, Any]) -> str:
    if isinstance(hint, types.UnionType):
        return " or ".join(_meaning(choice, limits) for choice in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        count = f"up to {_MOST_ENTRIES}" if inner[-1] is ... else len(inner)
        return f"a list of {count} entries, each {_meaning(inner[0], limits)}"
    if hint in (int, float):
        low, high = limits.get("range", (None, None))
        between = "" if low is None else f" from {low:g} to {high:.9g}"
        return ("a whole number" if hint is int else "a number") + between
    if hint is str and "choices" in limits:
        return f"one of {', '.join(limits['choices'])}"
    return {bool: "true or false", str: "a string", types.NoneType: "null"}[hint]


def _empty(value: Any) -> bool:
    return value is None or value is False or value in ("", [], {}, ())


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, list | tuple) and isinstance(other, list | tuple):
        return len(value) == len(other) and all(map(_same, value, other))
    return value == other and isinstance(value, bool) == isinstance(other, bool)
