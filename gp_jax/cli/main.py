"""`gp-jax COMMAND ...`: finds the subcommand and runs it.

A subcommand is a file beside this one with two functions, and a line in `COMMANDS`:

    add_arguments(parser)   declares what it takes
    run(arguments)          does it; may return an exit code

Only the file of the command that was asked for is imported, so help comes at once. What the user can mend (`UserError`,
and arguments that do not parse) becomes one sentence and exit code 2; everything else is a bug and keeps its traceback.
How a signal ends a command: ending.py.
"""

import argparse
import functools
import os
import select
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from gp_jax import __version__
from gp_jax.cli.arguments import HelpFormatter
from gp_jax.cli.ending import unwind_at_signals
from gp_jax.errors import Notice, UserError

COMMANDS = {
    "outpaint": "continue a video beyond its borders",
    "train": "train a model",
    "evaluate": "compare methods on a data set by a protocol",
    "ablation": "compare parts of the model on a data set",
    "metrics": "score a video against the true one",
    "fetch": "fetch the weights that metrics and some parts of methods need, once",
    "bench": "what work costs, counted or timed, and beside torch",
    "demo": "a page in the browser: drop a clip, drag its frame, watch it grow",
    "convert": "bring a checkpoint into this package's layout, or back",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code of the process."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except BrokenPipeError:
        if not _unread():
            raise
        return 141  # what a shell says of a program that SIGPIPE ended


def _run(argv: Sequence[str]) -> int:
    show = warnings.showwarning
    try:
        warnings.showwarning = functools.partial(_show, show)
        unwind_at_signals()
        arguments = _parse(argv)
        return import_module(f"gp_jax.cli.{arguments.command}").run(arguments) or 0
    except UserError as error:
        print(f"gp-jax: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        warnings.showwarning = show
        print(end="", flush=True)  # here, not at the end of Python, an error of the output can be handled


def _show(show: Callable[..., None], message: Warning | str, category: type[Warning], *place: Any) -> None:
    """A `Notice` as one line, other warnings as ever."""
    if issubclass(category, Notice):
        print(f"gp-jax: {message}", file=sys.stderr)
    else:
        show(message, category, *place)


def _unread() -> bool:
    """Whether nobody reads what is printed any more, as in `gp-jax metrics ... | head -1`; then it goes nowhere."""
    closed = False
    for stream in (sys.stdout, sys.stderr):
        poll = select.poll()
        poll.register(stream, 0)
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # Python flushes once more at its end
            closed = True
    return closed


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """What no argument of a command takes goes to its `overrides`, where it has them."""
    parser = _parser(argv[0] if argv else None)
    arguments, rest = parser.parse_known_args(argv)
    if rest and not hasattr(arguments, "overrides"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides = rest
    return arguments


class _Parser(argparse.ArgumentParser):
    """Reports a mistake as other errors are reported, without the usage in between."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def _parser(command: str | None) -> argparse.ArgumentParser:
    """The parser of all commands, of which only `command` has its arguments."""
    parser = _Parser(prog="gp-jax", description="Video outpainting by latent diffusion.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"gp-jax {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, allow_abbrev=False, formatter_class=HelpFormatter)
        if name == command:
            module = import_module(f"gp_jax.cli.{name}")
            subparser.description = module.__doc__
            module.add_arguments(subparser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
