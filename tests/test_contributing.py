"""What CONTRIBUTING.md says is enough: one file and one line make a sampler, a metric, a method, a data set.

Each is a module of somebody else's, which knows this package and of which the package knows its line in a table alone.
"""

import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

import gp_jax
from gp_jax.cli.main import main
from gp_jax.diffusion.tables import SAMPLERS
from gp_jax.evaluation.datasets import DATASETS
from gp_jax.methods.registry import METHODS, Line
from gp_jax.metrics import METRICS
from gp_jax.video import VideoReader, VideoWriter
from tests import small_networks
from tests.evaluation import small_protocol

ROOT = Path(__file__).parents[1]
CANVAS = gp_jax.Canvas.from_aspect(21, 27, aspect=2.0, anchor="left")
FRAMES = np.random.default_rng(4).integers(0, 256, (5, 21, 27, 3), dtype=np.uint8)

SAMPLER = """
from gp_jax.diffusion.tables import ddim

def calm(schedule, steps):
    start, table = ddim(schedule, steps)
    return start / 2, table
"""
METRIC = """
import jax.numpy as jnp
from gp_jax.metrics.metric import frame_metric, jit_frames, region, unit

@jit_frames
def distances(reference, generated, mask):
    counts = region(mask, reference)
    apart = jnp.abs(unit(reference) - unit(generated)).mean(axis=-1)
    pixels = counts.sum(axis=(2, 3))
    return jnp.where(counts, apart, 0).sum(axis=(2, 3)) / jnp.maximum(pixels, 1), pixels > 0

distance = frame_metric("distance", "L1", "lower", distances)
"""
METHOD = """
import dataclasses
import numpy as np
from gp_jax.methods.method import Estimate, Method, observed, quiet
from gp_jax.methods.options import Count, changed, option

@dataclasses.dataclass(frozen=True)
class Options:
    level: Count = option(Count(7), "how bright the sides are", "N")

class Flat(Method):
    name = "flat"
    Options = Options

    def settings(self, options):
        return changed(options)

    def prepare(self, clip, canvas, options, work=None):
        return Job(clip, canvas, options.level)

@dataclasses.dataclass(frozen=True)
class Job:
    clip: object
    canvas: object
    level: int
    estimate = Estimate()

    def frames(self, progress=quiet):
        for done, source in enumerate(observed(self.clip, self.canvas, range(len(self.clip))), 1):
            frame = np.full((self.canvas.height, self.canvas.width, 3), self.level, np.uint8)
            frame[self.canvas.observed] = source
            yield frame
            progress(done, len(self.clip), "frames")
"""
DATASET = """
import functools
from gp_jax.video import VideoReader

def ponds(folder):
    return {f"my-{path.name}": functools.partial(VideoReader, path) for path in sorted(folder.glob("p*"))}
"""


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Writes a module and gives one of its names, as if the line in the table imported it."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(module: str, text: str, name: str = ""):
        (tmp_path / f"{module}.py").write_text(text)
        return getattr(importlib.import_module(module), name) if name else None

    return write


@pytest.fixture
def method(added, monkeypatch):
    added("flat_method", METHOD)
    monkeypatch.setitem(METHODS, "flat", Line("flat_method:Flat", "flat_method:Options", "sides of one brightness"))


def test_a_sampler(added, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(SAMPLERS, "calm", added("calm_sampler", SAMPLER, "calm"))
    pipe = gp_jax.OutpaintPipeline.from_pretrained(small_networks.write(tmp_path / "checkpoint"))
    calm, plain = (pipe(FRAMES, CANVAS, sampler=name) for name in ("calm", "ddim"))
    np.testing.assert_array_equal(calm[:, :, :27], FRAMES)
    assert (calm != plain).any()
    with pytest.raises(SystemExit):
        main(["outpaint", "--help"])
    assert ", calm: by default" in " ".join(capsys.readouterr().out.split())


def test_a_method(method, tmp_path, capsys):
    made = gp_jax.load_method("flat")(FRAMES, CANVAS, level=9)
    np.testing.assert_array_equal(made[:, :, :27], FRAMES)
    assert (made[:, :, 27:] == 9).all()
    with VideoWriter(tmp_path / "in", 24) as writer:
        for frame in FRAMES:
            writer.write(frame)
    command = ["outpaint", str(tmp_path / "in"), str(tmp_path / "out"), "--pad", "0,4,0,0", "--method", "flat"]
    assert main([*command, "--level", "20"]) == 0
    [*frames] = VideoReader(tmp_path / "out")
    assert len(frames) == 5 and all((frame[:, 27:] == 20).all() for frame in frames)
    assert main([*command, "--seed", "1"]) == 2
    assert "--seed is no option of flat" in capsys.readouterr().err


def test_a_metric_and_a_data_set(added, method, monkeypatch, tmp_path, capsys):
    small_protocol.install(monkeypatch)
    monkeypatch.setitem(METRICS, "distance", added("distance_metric", METRIC, "distance"))
    monkeypatch.setitem(DATASETS, "ponds", added("ponds_data", DATASET, "ponds"))
    clips = small_protocol.write_clips(tmp_path / "clips")
    made = tmp_path / "made"
    with VideoWriter(made, 24) as writer:
        for frame in VideoReader(clips / "pond"):
            writer.write(np.where(np.arange(44)[:, None] < 11, frame ^ 1, frame).astype(np.uint8))
    assert main(["metrics", str(clips / "pond"), str(made), "--pad", "11,0,0,0", "--metric", "distance", "--json"]) == 0
    whole, unknown = (json.loads(line)["value"] for line in capsys.readouterr().out.splitlines())
    np.testing.assert_allclose([whole, unknown], [0.25 / 255, 1 / 255], rtol=1e-5)

    options = {"protocol": "small", "dataset": "ponds", "data": clips, "output": tmp_path / "results"}
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    assert main(["evaluate", *words, "--method", "flat,edge", "--metric", "distance"]) == 0
    scores = [json.loads(line) for line in (tmp_path / "results/scores.jsonl").read_text().splitlines()]
    assert {score["method"] for score in scores} == {"flat", "edge"}
    assert all(score["metric"] == "distance" and score["clips"] == 1 and score["value"] > 0 for score in scores)
    assert "distance" in (tmp_path / "results/summary.md").read_text()
    assert "my-pond" in (tmp_path / "results/report.html").read_text()


def test_the_tables_are_where_contributing_says():
    text = (ROOT / "CONTRIBUTING.md").read_text().replace("\\", "")
    places = re.findall(r"`([A-Z_]+)`(?:, | in )([\w/]+\.py)", text)
    assert len(places) >= 10
    for name, file in places:
        module = importlib.import_module(
            "gp_jax." + file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        )
        assert hasattr(module, name), f"{file} has no {name}"
