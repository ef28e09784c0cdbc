"""Help of commands and tools: what each argument is, what an option is when it is not given, and how to begin."""

import argparse
import re
import runpy
import sys

import pytest

from gp_jax.cli.main import _parser
from tests.documents import DOCUMENTS, ROOT, commands

TOOLS = [name for name in DOCUMENTS if name.startswith("tools/") and "ArgumentParser" in (ROOT / name).read_text()]
COMMANDS = [name for name in DOCUMENTS if name.startswith("gp_jax/cli/")]


class Found(Exception):
    """Carries the parser that a tool made."""


def parser_of(document: str) -> argparse.ArgumentParser:
    if document in COMMANDS:
        name = document.removeprefix("gp_jax/cli/").removesuffix(".py")
        [subparsers] = [action for action in _parser(name)._actions if action.dest == "command"]
        return subparsers.choices[name]

    def found(parser, *arguments):
        raise Found(parser)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Found) as caught:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", found)
        patch.setattr(sys, "argv", [document])
        patch.syspath_prepend(str(ROOT / "tools"))
        runpy.run_path(str(ROOT / document), run_name="__main__")
    return caught.value.args[0]


@pytest.mark.parametrize("document", [*COMMANDS, *TOOLS])
def test_help_tells_what_arguments_are_their_defaults_and_how_to_begin(document):
    parser = parser_of(document)
    said = " ".join(parser.format_help().split())
    assert commands(document) and all(" ".join(words[:2]) in said for words in commands(document))
    for action in parser._actions:
        about = f"{document}: {action.option_strings or action.dest}"
        assert action.help, about
        if action.nargs == 0 or action.default in (None, (), [], "", argparse.SUPPRESS) or not action.option_strings:
            continue
        shown = " ".join(map(str, action.default)) if isinstance(action.default, tuple) else str(action.default)
        described = parser._get_formatter()._expand_help(action)
        assert re.search(rf"default\b.*{re.escape(shown)}|{re.escape(shown)}.*\bdefault", described), about
