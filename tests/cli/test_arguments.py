"""Whatever is written behind any option of any command: it is understood, or refused in one sentence."""

import pytest

from gp_jax.cli.arguments import aspect, count, lora, pads, rate, share, size
from gp_jax.cli.main import COMMANDS, _parse, _parser
from gp_jax.errors import UserError

ODD = (
    *("", " ", "0", "-1", "00", "1", "1.5", "-0.5", "nan", "inf", "-inf", "1e999", "1e-999", "9" * 30, "9" * 5000),
    *("x", "None", "True", "é\u202e", "٣", "²", "x" * 100_000, "0x0", "16:0", "0:9", "9:9:9", ":", "=", ",", ",,"),
    *("1,2", "1,2,3,4", "-1,0,0,0", "1/2", "2/1", "0/0", "1/0", "/", ".", "/dev/null", "nowhere/x", "a=b", "a=", "[]"),
    *("1x1", "9" * 30 + "x1", "9" * 30 + ",0,0,0", "9" * 400 + ":1", "1:" + "9" * 400, "0." + "0" * 400 + "1"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_odd_values_of_every_option(command):
    parser = next(a for a in _parser(command)._actions if a.dest == "command").choices[command]
    values = [action for action in parser._actions if action.nargs != 0]
    assert values or command == "fetch"
    for action in values:
        for text in ODD:
            try:
                _parse([command, *([f"{action.option_strings[-1]}={text}"] if action.option_strings else ["--", text])])
            except UserError as error:
                assert "\n" not in str(error) and len(str(error)) < 110_000
            if action.type:
                _parsed(action.type, text)


def _parsed(kind, text):
    """What argparse takes for an answer: a value, or one of its two refusals."""
    try:
        return kind(text)
    except Exception as error:
        assert type(error).__name__ in ("ArgumentTypeError", "ValueError", "TypeError"), repr(error)


@pytest.mark.parametrize(
    "kind, text, value",
    [
        (aspect, "16:9", 16 / 9),
        (aspect, "2.39", 2.39),
        (size, "1920x1080", (1080, 1920)),
        (pads, "1,2,0,0", (1, 2, 0, 0)),
        (count, "12", 12),
        (lora, "ink.safetensors", ("ink.safetensors", 1.0)),
        (lora, "C:/ink.safetensors:-0.5", ("C:/ink.safetensors", -0.5)),
        (lora, "a:b", ("a:b", 1.0)),
        (lora, ":0", (":0", 1.0)),
        (rate, "29.97", 29.97),
        (rate, "0.001", 0.001),
        (rate, "1000", 1000.0),
        (share, "0.02", 0.02),
        (share, "0", 0.0),
    ],
)
def test_what_is_meant_is_read(kind, text, value):
    assert kind(text) == value


@pytest.mark.parametrize(
    "kind, text",
    [
        *(
            (size, "0x5"),
            (count, "0"),
            (share, "1"),
            (share, "nan"),
            (aspect, "0:1"),
            (lora, "a:nan"),
            (lora, "a:-inf"),
        ),
        *((rate, "0.0004"), (rate, "9999")),
    ],
)
def test_what_cannot_be_meant_is_refused(kind, text):
    with pytest.raises(Exception, match="not"):
        kind(text)
