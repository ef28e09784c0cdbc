"""Jobs on a Ray cluster of this machine: what comes out is what comes out without, though a worker dies."""

import argparse
import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from gp_jax.cli import engine, on_ray
from gp_jax.cli.engine import Engine, asked, share_out
from gp_jax.data.shards import begin, finish, sha256, shard_names, write_shard
from gp_jax.errors import UserError
from tests import small_networks
from tests.evaluation import small_protocol

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


def build(folder, where, deadly=()):
    names = shard_names("train", 6)
    begin(folder, {})
    made = [(folder / name, number) for number, name in enumerate(names)]
    assert share_out(partial(shard, deadly=deadly), made, where, "records", 30) == list(range(6))
    assert finish(folder, {"train": names}, {})
    return {path.name: sha256(path) for path in folder.iterdir() if not path.name.startswith("killed")}


@ray
def test_a_worker_that_is_killed_changes_nothing(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(engine, "progress", lambda: _Told(told))
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
    with pytest.raises(argparse.ArgumentTypeError, match="a part of a GPU"):
        asked("CPU=4,GPU=1.5")


def test_a_machine_without_the_folders_is_named(tmp_path):
    with pytest.raises(UserError, match="all machines must see the same folders"):
        on_ray._run(refuse, (0,), 0, None, str(tmp_path / "nowhere"))


def test_ray_that_is_not_there_is_one_sentence(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'gp_jax\[ray\]'"):
        share_out(refuse, [(0,)], Engine(ray=True), "jobs", 1)


ROOT = Path(__file__).parents[2]
TEXTURES = np.random.default_rng(0).integers(0, 256, (24, 1, 60, 80, 3), np.uint8)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Films as arrays, records of them, a checkpoint, and clips for an evaluation."""
    folder = tmp_path_factory.mktemp("world")
    smooth = np.kron(TEXTURES, np.ones((1, 1, 4, 4, 1), np.uint8))
    np.save(folder / "films.npy", np.concatenate([np.roll(smooth, 3 * t, axis=3) for t in range(9)], axis=1))
    (folder / "films.json").write_text(json.dumps([{"split": "train"}] * len(smooth)))
    small_networks.write(folder / "checkpoint")
    small_protocol.write_clips(folder / "clips")
    call(folder, *BUILD, "records", *BUILT)
    return folder


BUILD = ("tools/build_records.py", "arrays", "films.npy")
BUILT = ("--size", "160x120", "--least", "9", "--films", "2", "--encoding", "png")
LATENTS = ("tools/precompute.py", "records", "latents", "--checkpoint", "checkpoint", "--variants", "8")
EVALUATE = ("-m", "gp_jax", "evaluate", "--protocol", "m3ddm-96", "--dataset", "folder", "--data", "clips")
CHEAP = ("--method", "edge,mirror,telea", "--metric", "psnr,ssim", "--frames", "16")


def call(folder, *words, kill=False):
    """Runs a command; with `kill`, the first worker of its cluster that begins a task is killed."""
    words = [str(ROOT / word) if word.startswith("tools/") else word for word in words]
    process = subprocess.Popen([sys.executable, *words], cwd=folder, stderr=subprocess.PIPE, text=True)
    killed = False
    while process.poll() is None:
        time.sleep(0.02)
        if kill and not killed and (worker := _worker(process.pid)):
            time.sleep(0.3)
            os.kill(worker, signal.SIGKILL)
            killed = True
    assert process.returncode == 0, process.stderr.read()
    assert killed == kill


def _worker(driver):
    """The process of a worker, below that of the command, which is at a task."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::_run") and driver in _ancestors(path.parent):
                return int(path.parent.name)
        except OSError:
            pass  # it ended meanwhile
    return None


def _ancestors(process):
    while process.name != "1":
        process = Path("/proc", (process / "stat").read_text().rpartition(")")[2].split()[1])
        yield int(process.name)


def digests(folder, pattern):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob(pattern)
    }


@ray
@pytest.mark.slow
def test_records_latents_and_an_evaluation_are_the_same_though_a_worker_is_killed(world):
    call(world, *BUILD, "on_ray", *BUILT, "--engine", "ray", kill=True)
    records = digests(world / "records", "*.array_record")
    assert len(records) == 12 and digests(world / "on_ray", "*.array_record") == records

    call(world, *LATENTS)
    made = world / "records" / "precomputed"
    latents = digests(made, "*.array_record")
    made.rename(world / "alone")
    call(world, *LATENTS, "--engine", "ray", kill=True)
    assert latents and digests(made, "*.array_record") == latents

    call(world, *EVALUATE, *CHEAP, "--output", "alone-out")
    options = ("--shards", "3", "--engine", "ray")
    call(world, *EVALUATE, *CHEAP, "--output", "ray-out", *options, kill=True)
    for pattern in ("*.png", "scores.jsonl", "results.jsonl"):
        alone = digests(world / "alone-out", pattern)
        assert alone and digests(world / "ray-out", pattern) == alone
