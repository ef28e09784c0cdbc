"""Rounds lie around each other and end at the canvas; what needs no rounds is the same in them."""

import itertools
import types

import numpy as np
import pytest

from gp_jax.geometry import Canvas
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.methods.method import ArrayClip, Estimate
from gp_jax.methods.rounds import RoundsJob, in_rounds, rounds
from tests import small_networks

RNG = np.random.default_rng(0)
LARGE = Canvas(40, 96, 5, 60, 30, 32)  # four times its source, in three rounds
FRAMES = RNG.integers(0, 256, (5, 30, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "canvas, count",
    [
        (LARGE, 3),
        (Canvas(90, 160, 0, 40, 90, 81), 1),
        (Canvas(90, 160, 3, 0, 45, 160), 2),
        (Canvas(7, 9, 3, 4, 1, 1), 6),
    ],
)
def test_rounds_grow_evenly_from_the_source_to_the_canvas(canvas, count):
    made = rounds(canvas)
    assert len(made) == count
    assert (made[0].source_height, made[0].source_width) == (canvas.source_height, canvas.source_width)
    assert (made[-1].height, made[-1].width) == (canvas.height, canvas.width)
    assert sum(one.top for one in made) == canvas.top and sum(one.left for one in made) == canvas.left
    for before, after in itertools.pairwise(made):
        assert (after.source_height, after.source_width) == (before.height, before.width)
    if canvas.source_height > 1:  # else a round is no whole number of pixels
        for one in made:
            assert 1 < one.height * one.width / (one.source_height * one.source_width) < 2.1


def copied_border(clip, canvas, work):
    """A job of a method that needs no rounds."""

    def frames(progress):
        for frame in clip.frames_at(range(len(clip))):
            yield np.pad(frame, (*canvas.pads, (0, 0)), mode="edge")

    return types.SimpleNamespace(journal=None, total=1, estimate=Estimate(2, 3.0, 4), frames=frames)


def test_a_copied_border_is_the_same_in_rounds():
    job = in_rounds(copied_border, ArrayClip(FRAMES), rounds(LARGE), None)
    whole = np.pad(FRAMES, ((0, 0), *LARGE.pads, (0, 0)), mode="edge")
    np.testing.assert_array_equal(list(job.frames()), whole)
    assert job.estimate.evaluations == 6 and job.estimate.seconds == 9.0


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return OutpaintPipeline.from_pretrained(small_networks.write(tmp_path_factory.mktemp("checkpoint")))


def test_a_large_canvas_is_made_in_rounds_and_goes_on_where_it_was(pipe, tmp_path, monkeypatch):
    canvas, options = Canvas(40, 72, 4, 20, 32, 40), Options(detail="tiles")  # 2.25 times its source
    source, reports = FRAMES[:, :, np.arange(40) % 32][:, np.arange(32) % 30], []
    job = pipe.prepare(source, canvas, options, tmp_path)
    assert isinstance(job, RoundsJob) and len(job.jobs) == 2
    result = np.stack(list(job.frames(lambda done, total, label: reports.append((done, total)))))
    np.testing.assert_array_equal(result[:, *canvas.observed], source)
    assert reports[-1] == (job.total, job.total) and reports == sorted(reports)
    again = pipe.prepare(source, canvas, options, tmp_path)
    assert again.estimate.evaluations == 0
    np.testing.assert_array_equal(list(again.frames()), result)
    for path in tmp_path.glob("round-2/**/*.safetensors"):
        path.unlink()
    again = pipe.prepare(source, canvas, options, tmp_path)
    assert again.estimate.evaluations > 0
    np.testing.assert_array_equal(list(again.frames()), result)
