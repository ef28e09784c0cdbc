"""Launch scripts: what is written behind them reaches every process as it stands, and a stop reaches all of them.

The programs that they call (srun, gcloud, xpk, ssh) and `gp-jax` itself are stand-ins.
"""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "tools" / "launch"
ARGUMENTS = ["--config", "configs/sd2.py:keyframes", "--workdir", "a folder/it's $HOME", "--config.seed=3"]
STAND_INS = {
    # Says what it was given, then works until it is told to stop, unless it is process $FAIL or there is a $BRIEF.
    "gp-jax": """trap 'echo saved; exit 0' TERM
        printf -v line '[%s]' "$@"; echo "$line"
        [[ -z ${BRIEF:-} ]] || exit 0
        [[ ${!#} != "${FAIL:-}" ]] || { sleep 0.5; exit 3; }
        for _ in {1..200}; do sleep 0.05; done""",
    "ssh": 'echo "on $1"; exec sh -c "$2"',  # as sshd does, which hands the words to a shell
    "ray": 'echo "$*|$RAY_AUTH_TOKEN" >>"$HOME/clusters"; [[ -z ${TAKEN:-} || $2 != --head ]]',
    "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "gcloud": 'cd "$HOME"; bash -c "${!#}"; while [[ ! -s gp-jax.log ]]; do sleep 0.05; done; cat gp-jax.log',
    "xpk": 'bash -c "${!#}"',
}


@pytest.fixture
def environment(tmp_path):
    for name, lines in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    return os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}


def start(script: str, *arguments: str, **options) -> subprocess.Popen:
    command = ["bash", str(LAUNCH / script), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def hear_interrupts():
        # What runs in the background ignores them, and so would all that it starts.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(command, **pipes, preexec_fn=hear_interrupts, **options)


def given(output: str) -> list[list[str]]:
    """The arguments of each `gp-jax`, by process."""
    lines = [line for line in output.splitlines() if line.startswith(("[train]", "[evaluate]"))]
    return sorted(re.findall(r"\[([^]]*)\]", line) for line in lines)


@pytest.mark.parametrize(
    "script, before",
    [("slurm.sh", []), ("tpu_vm.sh", ["pod", "zone"]), ("xpk.sh", ["cluster", "v5p-8", "image"])],
)
def test_arguments_arrive_as_they_were_written(script, before, environment):
    output, errors = start(script, *before, *ARGUMENTS, env=environment | {"BRIEF": "1"}).communicate(timeout=20)
    assert given(output) == [["train", *ARGUMENTS, "--coordinator", "auto"]], errors
    Path(environment["HOME"], "gp-jax.log").unlink(missing_ok=True)
    other = environment | {"BRIEF": "1", "COMMAND": "evaluate"}
    output, errors = start(script, *before, *ARGUMENTS, env=other).communicate(timeout=20)
    assert ["evaluate", *ARGUMENTS, "--coordinator", "auto"] in given(output), errors


def test_each_host_gets_a_process_and_the_first_one_coordinates(environment):
    process = start("ssh.sh", "me@one,two", *ARGUMENTS, env=environment | {"BRIEF": "1", "PORT": "77"})
    output, errors = process.communicate(timeout=20)
    shared = ["train", *ARGUMENTS, "--coordinator", "one:77", "--num-processes", "2", "--process-id"]
    assert given(output) == [[*shared, "0"], [*shared, "1"]] and process.returncode == 0, errors
    assert "on me@one" in output and "on two" in output


@pytest.mark.parametrize("script", ["ssh.sh", "ray.sh"])
@pytest.mark.parametrize("hosts", ["", "a, b", "a,,b", "a,"])
def test_what_names_no_machines_is_refused(script, hosts, environment):
    process = start(script, hosts, *ARGUMENTS, env=environment | {"BRIEF": "1"})
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 2 and not output and errors.startswith(f"'{hosts}' are no machines: give")


def test_one_that_fails_makes_the_others_save(environment):
    process = start("ssh.sh", "localhost,localhost,localhost", *ARGUMENTS, env=environment | {"FAIL": "1"})
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 3 and output.count("saved") == 2


def test_a_cluster_is_started_used_and_stopped(environment):
    words = "gp-jax", "evaluate", "--data", "a b"
    output, errors = start("ray.sh", "one,me@two", *words, env=environment | {"BRIEF": "1"}).communicate(timeout=20)
    assert given(output) == [["evaluate", "--data", "a b", "--engine", "ray", "--address", "one:6379"]], errors
    lines = Path(environment["HOME"], "clusters").read_text().splitlines()
    told, tokens = zip(*(line.split("|") for line in lines))
    assert told == ("start --head --port 6379", "start --address one:6379", "stop", "stop")
    assert "on me@two" in errors and len(set(tokens[:2])) == 1 and len(tokens[0]) == 64


def test_a_cluster_of_somebody_else_is_not_stopped(environment):
    process = start("ray.sh", "one,two", "gp-jax", "evaluate", env=environment | {"BRIEF": "1", "TAKEN": "1"})
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 1 and not given(output)
    (line,) = Path(environment["HOME"], "clusters").read_text().splitlines()
    assert line.startswith("start --head")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_launcher_that_is_stopped_or_lost_makes_all_save(how, environment):
    process = start("ssh.sh", "localhost,two", *ARGUMENTS, env=environment)
    lines = [process.stdout.readline() for _ in range(3)]
    process.send_signal(how)
    assert process.stdout.read() == "saved\nsaved\n", lines
    assert process.wait() != 0


@pytest.mark.parametrize("script", sorted(path.name for path in LAUNCH.iterdir()))
def test_without_arguments_there_is_help(script, environment):
    process = start(script, env=environment)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 2 and f"tools/launch/{script} " in errors and "set -e" not in errors
