"""The frame around all commands: help at once, one sentence for mistakes, tracebacks for bugs."""

import os
import subprocess
import sys

import pytest

from gp_jax import __version__
from gp_jax.cli import main as main_module
from gp_jax.cli import outpaint
from gp_jax.cli.main import COMMANDS, main
from gp_jax.errors import UserError


def test_help_lists_the_commands_and_imports_no_framework():
    script = (
        "import sys; from gp_jax.cli.main import main\ntry: main({})\nexcept SystemExit: print('jax' in sys.modules)"
    )
    for arguments in (["--help"], ["outpaint", "--help"]):
        done = subprocess.run([sys.executable, "-c", script.format(arguments)], capture_output=True, text=True)
        assert done.stdout.rstrip().endswith("False"), done.stderr
        assert all(name in done.stdout for name in (COMMANDS if len(arguments) == 1 else ("examples:", "--aspect")))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert command in capsys.readouterr().out


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"gp-jax {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["paint"], ["outpaint"], ["outpaint", "--frob"]])
def test_arguments_that_do_not_parse_are_one_sentence(arguments, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith("gp-jax: ") and said.err.count("\n") == 1 and not said.out


def test_only_what_the_user_can_mend_is_caught(monkeypatch, capsys):
    arguments = ["outpaint", "a.mp4", "b.mp4", "--aspect", "16:9"]

    def stop(error):
        def run(arguments):
            raise error

        monkeypatch.setattr(outpaint, "run", run)

    stop(UserError("mend this"))
    assert main(arguments) == 2
    assert capsys.readouterr().err == "gp-jax: mend this\n"
    stop(KeyboardInterrupt())
    assert main(arguments) == 130
    stop(RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        main(arguments)


@pytest.mark.parametrize("module", ["gp_jax", "gp_jax.cli.main"])
def test_the_package_and_the_module_run_as_the_command(module):
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"gp-jax {__version__}\n", "")
    assert subprocess.run([sys.executable, "-m", module, "paint"], capture_output=True).returncode == 2


@pytest.mark.parametrize("text", ["a line", "x" * 100_000])
def test_a_pipe_that_nobody_reads_ends_the_command_quietly(text):
    script = f"""import sys; from gp_jax.cli import convert, main
convert.run = lambda arguments: print({text!r})
sys.exit(main.main(["convert", "a", "b"]))"""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", script], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_another_broken_pipe_is_a_bug(monkeypatch):
    def run(arguments):
        raise BrokenPipeError("of a worker")

    monkeypatch.setattr(outpaint, "run", run)
    monkeypatch.setattr(main_module, "_unread", lambda: False)
    with pytest.raises(BrokenPipeError, match="of a worker"):
        main(["outpaint", "a.mp4", "b.mp4", "--aspect", "16:9"])
