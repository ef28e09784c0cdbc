"""A config is read whole, or refused in one sentence that names the file and the key."""

import dataclasses
import json
import os

import pytest

from gp_jax.errors import UserError
from gp_jax.files import read_json
from gp_jax.json_config import Foreign, one_for_all, one_of, read_config, read_fields, within, write_fields


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = within(dataclasses.MISSING, 2, 9)
    rate: float = within(0.5, 0, 1)
    act: str = one_of("gelu", ("gelu", "relu"))
    deep: bool = False
    heads: int | tuple[int, ...] = within(4, 1, 8)
    window: tuple[int, int] | None = within(None, 1, 4)
    carried: str = "{}"

    @classmethod
    def from_json(cls, config):
        return read_fields(cls, config, FOREIGN, "config")


FOREIGN = Foreign(
    classes=("Net",), defaults={"rate": 0.25, "norm": "batch"}, fixed={"norm": ("group", None)}, ignored=("seed",)
)


def test_a_config_is_read_and_written_with_all_that_others_know():
    plain = {"width": 3, "rate": 1, "act": "relu", "deep": True, "heads": [1, 2], "window": [4, 1]}
    config = Config.from_json({**plain, "seed": [1, {"a": None}], "norm": "group", "_version": 3, "other": None})
    assert (config.rate, type(config.rate), config.heads, config.window) == (1.0, float, (1, 2), (4, 1))
    assert write_fields(config) == {**plain, "seed": [1, {"a": None}]}
    assert Config.from_json(write_fields(config)) == config and hash(config)


def test_what_is_missing_has_the_value_of_the_class_that_wrote_the_file():
    assert Config.from_json({"width": 3}).rate == 0.5
    assert Config.from_json({"width": 3, "_class_name": "Net", "norm": None}).rate == 0.25
    with pytest.raises(UserError, match="norm='batch', the default of Net"):
        Config.from_json({"width": 3, "_class_name": "Net"})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"width": "3"}, "width is '3'; it must be a whole number from 2 to 9"),
        *(({"width": value}, "width is") for value in (True, 3.0, None, [3], {}, 1, 10, -3, 10**400, float("nan"))),
        *(({"rate": value}, "rate is") for value in ("1", False, None, float("nan"), float("inf"), -1e-9, 10**400)),
        *(({"act": value}, "act is .* one of gelu, relu") for value in ("swish", None, ["gelu"], 1)),
        *(({"deep": value}, "deep is .* true or false") for value in (0, 1, "true", None)),
        *(({"heads": value}, "heads is") for value in ([], [0], [1, True], [1] * 100, "12", [[1]], None)),
        *(({"window": value}, "window is") for value in ([1], [1, 2, 3], [1, 5], 3, False)),
        ({"norm": "batch"}, "norm='batch' is not supported, only \"group\" or null"),
        ({"norm": ["group"]}, "norm="),
        ({"another": 1}, "another=1 is not known here"),
        *(({"_class_name": value}, "_class_name=.* only Net") for value in ("Other", "", 3, ["Net"], {"Net": 1})),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused_by_name(changes, message):
    with pytest.raises(UserError, match=message) as error:
        Config.from_json({"width": 3, **changes})
    assert len(str(error.value)) < 300


def test_what_has_no_default_must_be_there():
    with pytest.raises(UserError, match="width is missing"):
        Config.from_json({})


def test_lists_of_equal_values_are_one_value():
    assert one_for_all([2, 2], 2) == 2 and one_for_all((2,), 1) == 2 and one_for_all(2, 2) == 2
    for value in ([1, 2], [2, 2, 2], [1, True], [], "22"):
        assert one_for_all(value, 2) == value


FILES = {
    "nothing": (b"", "Expecting value"),
    "cut off": (b'{"a": 1', "cannot read"),
    "a list": (b"[1]", "no JSON object"),
    "a number": (b"7", "no JSON object"),
    "not UTF-8": (b'{"a": "\xff\xfe"}', "utf-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "utf-8"),
    "a key twice": (b'{"a": 1, "b": {"c": 1, "c": 2}}', "'c' stands there twice"),
    "nested": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    "a long number": (b'{"a": ' + b"1" * 10_000 + b"}", "digits"),
    "a web page": (b"<!DOCTYPE html><html></html>", "cannot read"),
}


@pytest.mark.parametrize("name", FILES)
def test_broken_files_are_refused(tmp_path, name):
    content, message = FILES[name]
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_json(tmp_path / "x.json")
    assert str(tmp_path / "x.json") in str(error.value) and len(str(error.value)) < 400


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    with open(tmp_path / "huge.json", "wb") as file:
        file.truncate(2**40)  # a hole: it takes no space
    places = [tmp_path / f"{name}.json" for name in ("loop", "pipe", "folder", "huge", "none", "x" * 300, "nul\0")]
    for path in (*places, "/dev/zero", tmp_path / "folder.json" / "x.json" / "y.json"):
        with pytest.raises(UserError, match="cannot read"):
            read_json(path)


def test_a_file_without_permission_is_refused(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "x.json").write_text("{}")
    monkeypatch.setattr("pathlib.Path.read_text", refuse)  # the super-user may read anything
    with pytest.raises(UserError, match="Permission denied"):
        read_json(tmp_path / "x.json")


def test_a_fault_in_a_config_names_its_file(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"width": 100}))
    with pytest.raises(UserError, match=r"config\.json: config: width is 100"):
        read_config(Config.from_json, tmp_path / "config.json")
