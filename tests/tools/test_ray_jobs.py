"""Jobs on a Ray cluster of this machine: what comes out is what comes out without, though a worker dies."""

import argparse
import importlib.util
import os
import signal
import sys
from functools import partial

import jobs
import pytest
import ray_shards
from jobs import Engine, asked, share_out

from gp_jax.data.shards import begin, finish, sha256, shard_names, write_shard
from gp_jax.errors import UserError

ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="pip install 'gp_jax[ray]'")


def shard(path, number, done, *, deadly):
    """Writes one; the first time that a deadly one is begun, its process is killed in the middle of it."""

    def records():
        for index in range(5):
            yield f"{number} {index}".encode() * 100
            done(index + 1)
            marker = path.parent / f"killed-{number}"
            if number in deadly and index == 2 and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    write_shard(path, records(), {})
    return number


def refuse(number, done):
    raise UserError(f"job {number} cannot be done")


def build(folder, engine, deadly=()):
    names = shard_names("train", 6)
    begin(folder, {})
    made = [(folder / name, number) for number, name in enumerate(names)]
    assert share_out(partial(shard, deadly=deadly), made, engine, "records", 30) == list(range(6))
    assert finish(folder, {"train": names}, {})
    return {path.name: sha256(path) for path in folder.iterdir() if not path.name.startswith("killed")}


@ray
def test_a_worker_that_is_killed_changes_nothing(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(jobs, "progress", lambda: _Told(told))
    alone = build(tmp_path / "alone", Engine())
    assert told[-1] == (30, 30)
    assert build(tmp_path / "ray", Engine(ray=True), deadly=(1, 4)) == alone
    assert (tmp_path / "ray" / "killed-1").exists() and (tmp_path / "ray" / "killed-4").exists()
    assert not list((tmp_path / "ray").glob(".gp_jax*"))  # what the killed ones left was swept


class _Told:
    """In the place of the bar."""

    def __init__(self, told):
        self.told = told

    def __enter__(self):
        return lambda done, total, label: self.told.append((done, total))

    def __exit__(self, *error):
        return None


@ray
def test_what_a_job_refuses_is_its_sentence_and_what_no_node_has_is_said_at_once():
    with pytest.raises(UserError, match="job 0 cannot be done"):
        share_out(refuse, [(0,), (1,)], Engine(ray=True), "jobs", 2)
    with pytest.raises(UserError, match="no node of the Ray cluster has what --ask wants"):
        share_out(refuse, [(0,)], Engine(ray=True, ask={"TPU": 4.0}), "jobs", 1)
    with pytest.raises(UserError, match="there is no Ray cluster at 127"):
        share_out(refuse, [(0,)], Engine(ray=True, address="127.0.0.1:1"), "jobs", 1)


def test_a_cluster_is_asked_for_in_words():
    assert asked("GPU=1,CPU=4") == {"GPU": 1.0, "CPU": 4.0} and asked("TPU=0.5") == {"TPU": 0.5}
    for text in ("", "GPU", "GPU=0", "GPU=x", "=1", "GPU=nan", "GPU=1;CPU=2"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not of the form"):
            asked(text)


def test_ray_that_is_not_there_is_one_sentence(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'gp_jax\[ray\]'"):
        share_out(refuse, [(0,)], Engine(ray=True), "jobs", 1)


SCRIPT = """
import os, pathlib, signal, sys, time
folder, (index, total) = pathlib.Path(sys.argv[1]), sys.argv[2].split("/")
marker = folder / "killed"
if index == "1" and not marker.exists():
    marker.touch()
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
if index == "1" and len(sys.argv) > 3:
    sys.exit("no such thing")
(folder / index).write_text(total)
print("done with", index)
"""


@ray
def test_a_command_runs_once_for_each_shard_though_its_worker_is_killed(tmp_path, capsys):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), "SHARD"]
    ray_shards.shards(argparse.Namespace(shards=3, address=None, ask=None, command=["--", *command]))
    said = [line for line in capsys.readouterr().out.splitlines() if "raylet" not in line]
    assert said[-3:] == ["done with 0", "done with 1", "done with 2"]
    assert (tmp_path / "killed").exists() and [(tmp_path / str(i)).read_text() for i in range(3)] == ["3"] * 3
    failing = argparse.Namespace(shards=2, address=None, ask=None, command=[*command, "fail"])
    with pytest.raises(UserError, match="failed with code 1: no such thing"):
        ray_shards.shards(failing)
    with pytest.raises(UserError, match="the command has no SHARD"):
        ray_shards.shards(argparse.Namespace(shards=2, address=None, ask=None, command=["ls"]))
