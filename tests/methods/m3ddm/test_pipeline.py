"""Whole clips through M3DDM: as many frames as came, the source's pixels as they are, however they are batched."""

import logging
from fractions import Fraction
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.m3ddm import programs
from gp_jax.methods.m3ddm.options import Options
from gp_jax.methods.m3ddm.pipeline import Model
from gp_jax.methods.method import ArrayClip
from gp_jax.methods.source_detail import SourceDetailJob
from gp_jax.parallel import make_mesh
from tests import small_m3ddm

# The network works at 32x32 for both, here in a square and there in the square around it: one program.
SQUARE = Canvas.from_size(27, 18, 27, 27, anchor="left")
WIDE = Canvas.from_size(16, 18, 16, 30)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_m3ddm.write(tmp_path_factory.mktemp("m3ddm") / "ours", native_area=1024, steps=3, global_frames=4)


@pytest.fixture(scope="module")
def model(folder):
    return Model.from_pretrained(folder)


def clip(frames, canvas=SQUARE):
    """Nine patches of colour a frame."""
    patches = RNG.integers(0, 256, (frames, 3, 3, 3), dtype=np.uint8)
    return np.repeat(np.repeat(patches, 9, axis=1), 9, axis=2)[:, : canvas.source_height, : canvas.source_width]


def outpaint(model, frames, canvas=SQUARE, batch=None, rate=None, **options):
    source = ArrayClip(frames)
    if rate:
        source.info = SimpleNamespace(frame_rate=rate)
    return np.stack(list(model.prepare(source, canvas, Options(**options), batch=batch).frames()))


def check(made, source, canvas=SQUARE):
    assert made.shape == (len(source), canvas.height, canvas.width, 3) and made.dtype == np.uint8
    np.testing.assert_array_equal(made[(slice(None), *canvas.observed)], source)


@pytest.mark.parametrize("num_frames", [1, 2, 15, 16, 17, 60, 241])
def test_as_many_frames_as_came(model, num_frames):
    source = clip(num_frames)
    check(outpaint(model, source), source)


def test_as_published_the_canvas_lies_in_a_square(model):
    source = clip(3, WIDE)
    check(outpaint(model, source, WIDE, faithful=True), source, WIDE)


def test_all_that_can_be_asked_for_matters(model):
    source = clip(2)
    made = [
        outpaint(model, source, **options)
        for options in ({}, {"seed": 1}, {"guidance": 9.0}, {"local_guidance": 9.0}, {"rate": Fraction(30)})
    ]
    assert len({x.tobytes() for x in made}) == len(made)
    np.testing.assert_array_equal(made[0], outpaint(model, source, rate=24.9))  # whole frames per second count


def test_a_window_knows_the_whole_clip_and_all_its_frames(model):
    source = clip(17)
    other = source.copy()
    other[16] = 255 - other[16]
    made, changed = outpaint(model, source), outpaint(model, other)
    # Of the first window no frame is another, but one that the global encoder reads is.
    assert not np.array_equal(made[0], changed[0])


@pytest.mark.parametrize("count", [0, 1, 33, 59])
def test_a_job_that_was_closed_goes_on(model, count, tmp_path, monkeypatch):
    source = ArrayClip(clip(60))
    whole = list(model.prepare(source, SQUARE, Options()).frames())
    frames = model.prepare(source, SQUARE, Options(), tmp_path / "work").frames()
    taken = [next(frames) for _ in range(count)]
    frames.close()
    again = list(model.prepare(source, SQUARE, Options(), tmp_path / "work").frames())
    np.testing.assert_array_equal(taken + again[count:], whole)
    np.testing.assert_array_equal(again, whole)

    job, reports = model.prepare(source, SQUARE, Options(), tmp_path / "work"), []
    for name in ("_make", "_read_clip"):
        monkeypatch.setattr(job, name, lambda *_: pytest.fail("made twice"))
    np.testing.assert_array_equal(list(job.frames(lambda *report: reports.append(report))), whole)
    assert reports[:2] == [(0, 6, "reading"), (0, 6, "every 15th frame")] and reports[-1] == (6, 6, "all frames")
    with pytest.raises(UserError, match=r"was begun with guidance 4\.0, not 3\.0"):
        model.prepare(source, SQUARE, Options(guidance=3.0), tmp_path / "work")


def test_a_clip_is_read_three_times(model):
    """For its global tokens, for all levels, for the result."""
    source, reads = ArrayClip(clip(60)), []
    frames_at = source.frames_at
    source.frames_at = lambda indices: reads.append(1) or frames_at(indices)
    assert len(list(model.prepare(source, SQUARE, Options()).frames())) == 60 and len(reads) == 3


def test_nothing_is_to_be_made_of_a_complete_canvas(model):
    source = clip(3)
    complete = Canvas.from_size(27, 18, 27, 18)
    np.testing.assert_array_equal(outpaint(model, source, complete), source)


@pytest.mark.parametrize("faithful", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_estimate_counts_windows_steps_and_branches_and_compiles_all(model, faithful, tmp_path, caplog):
    options = Options(faithful=faithful)
    estimate = model.prepare(ArrayClip(clip(500)), SQUARE, options).estimate
    assert estimate.evaluations == 44 * 3 * programs.BRANCHES
    source = ArrayClip(clip(60))
    job = model.prepare(source, SQUARE, options, tmp_path)
    assert 0 < job.estimate.seconds < estimate.seconds and 1e6 < job.estimate.peak_bytes < 1e10
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        list(job.frames())
        assert not [record.message for record in caplog.records if "Compiling" in record.message]
    assert model.prepare(source, SQUARE, options, tmp_path).estimate.evaluations == 0, "all is done"


@pytest.mark.slow  # two more programs, one of them for eight devices
def test_neither_batching_nor_a_mesh_changes_a_clip(folder, model):
    source = clip(60)
    alone = outpaint(model, source, batch=1)
    spread = Model.from_pretrained(folder, mesh=make_mesh("data=2,context=2,tensor=2"))
    for made in (outpaint(model, source, batch=3), outpaint(spread, source)):
        check(made, source)
        difference = np.abs(made.astype(int) - alone)
        # Rounding alone, through three levels and guidance that weighs differences four times.
        assert difference.max() <= 5 and (difference > 1).mean() < 0.01


@pytest.mark.slow  # a program of its own
def test_half_precision(folder, model):
    source = clip(2)
    made = outpaint(Model.from_pretrained(folder, dtype=jnp.bfloat16), source)
    check(made, source)
    difference = np.abs(made.astype(int) - outpaint(model, source)).mean()
    assert 0 < difference < 5, difference


@pytest.mark.parametrize(
    "options, message",
    [
        ({"steps": 2}, "takes 3 steps or more, not 2"),
        ({"steps": 1001}, "1001"),
        ({"seed": -1}, "seed"),
        ({"guidance": float("nan")}, "guidance is a finite number"),
    ],
)
def test_what_cannot_be_done_is_said_before(model, options, message):
    with pytest.raises(UserError, match=message):
        model.prepare(ArrayClip(clip(1)), SQUARE, Options(**options))
    with pytest.raises(UserError, match="no frames"):
        model.prepare(ArrayClip(clip(1)[:0]), SQUARE, Options())


def test_detail_of_the_clip_is_asked_for(model):
    source, canvas = np.zeros((1, 54, 60, 3), np.uint8), Canvas.from_size(54, 60, 54, 72)
    assert isinstance(model.prepare(ArrayClip(source), canvas, Options(detail="source")), SourceDetailJob)
    with pytest.raises(UserError, match=r"detail 'much'.*none, source, tiles"):
        model.prepare(ArrayClip(source), canvas, Options(detail="much"))


def test_with_an_overlap_it_makes_some_of_the_source_too(model):
    """Of one at the left, its right border: of a frame of 27 pixels that is made of 32, by two at most."""
    source = RNG.integers(0, 256, (2, 27, 18, 3), dtype=np.uint8)
    made = outpaint(model, source, overlap=1)
    np.testing.assert_array_equal(made[:, :, :16], source[:, :, :16])
    assert (made[:, :, 17] != source[:, :, 17]).mean() > 0.5
