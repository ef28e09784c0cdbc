"""Whole clips through MOTIA: as many frames as came, the source's pixels as they are, however they are batched."""

import logging

import jax
import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.method import ArrayClip
from gp_jax.methods.motia.options import Options
from gp_jax.methods.motia.pipeline import Model
from gp_jax.methods.source_detail import SourceDetailJob
from gp_jax.parallel import make_mesh
from tests import small_motia

CANVAS = Canvas.from_size(27, 18, 27, 27, anchor="left")
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_motia.write(tmp_path_factory.mktemp("motia") / "ours")


@pytest.fixture(scope="module")
def model(folder):
    return Model.from_pretrained(folder)


def clip(frames):
    """Six patches of colour a frame."""
    patches = RNG.integers(0, 256, (frames, 3, 2, 3), dtype=np.uint8)
    return np.repeat(np.repeat(patches, 9, axis=1), 9, axis=2)


def options(**given):
    return Options(**({"steps": 2, "regret": 0, "adapt": 0} | given))


def outpaint(model, frames, batch=None, **given):
    return np.stack(list(model.prepare(ArrayClip(frames), CANVAS, options(**given), batch=batch).frames()))


def check(made, source):
    assert made.shape == (len(source), 27, 27, 3) and made.dtype == np.uint8
    np.testing.assert_array_equal(made[(slice(None), *CANVAS.observed)], source)


@pytest.mark.parametrize("num_frames", [1, 16, 17])
def test_as_many_frames_as_came(model, num_frames):
    source = clip(num_frames)
    check(outpaint(model, source), source)


def test_all_that_can_be_asked_for_matters(model):
    source = clip(2)
    made = [outpaint(model, source, **given) for given in ({}, {"seed": 1}, {"prompt": "a cat"}, {"steps": 3})]
    made += [outpaint(model, source, prompt="a cat", text_guidance=2.0), outpaint(model, source, steps=7, regret=0)]
    made += [outpaint(model, source, steps=7, regret=1), outpaint(model, source, prompt="a cat", released=True)]
    assert len({x.tobytes() for x in made}) == len(made)
    np.testing.assert_array_equal(made[0], outpaint(model, source, insertion=9.0))  # nothing to insert


def test_a_frame_knows_those_of_its_windows(model):
    source = clip(40)
    other = source.copy()
    other[39] = 255 - other[39]
    made, changed = outpaint(model, source, steps=1), outpaint(model, other, steps=1)
    same = [np.array_equal(one, two) for one, two in zip(made, changed)]
    assert all(same[:24]) and not all(same[24:39])  # the last window is 24 to 39


@pytest.mark.parametrize("stopped_after, left", [(2, 5), (6, 1)])
def test_a_job_that_was_stopped_goes_on(model, stopped_after, left, tmp_path):
    source = ArrayClip(clip(21))
    whole = list(model.prepare(source, CANVAS, options()).frames())

    class Stopped(Exception):
        pass

    def stop(done, *_):
        if done > stopped_after:
            raise Stopped

    with pytest.raises(Stopped):
        list(model.prepare(source, CANVAS, options(), tmp_path / "work").frames(stop))
    job, reports = model.prepare(source, CANVAS, options(), tmp_path / "work"), []
    assert job.estimate.evaluations == left
    np.testing.assert_array_equal(list(job.frames(lambda *report: reports.append(report))), whole)
    assert reports[-1][:2] == (job.total, job.total) and reports[-1][2] == "step 2 of 2"
    assert len(list((tmp_path / "work").glob("level-1*"))) == 0, "what nobody needs any more is gone"
    done = model.prepare(source, CANVAS, options(), tmp_path / "work")
    assert done.estimate.evaluations == 0
    done._make = lambda *_: pytest.fail("made twice")
    np.testing.assert_array_equal(list(done.frames()), whole)
    with pytest.raises(UserError, match=r"was begun with steps 2, not 3"):
        model.prepare(source, CANVAS, options(steps=3), tmp_path / "work")


def test_the_estimate_counts_windows_steps_and_branches_and_compiles_all(model, caplog):
    guided = options(prompt="a cat", steps=5)
    job = model.prepare(ArrayClip(clip(500)), CANVAS, guided)
    assert job.estimate.evaluations == 122 * (3 * 2 + 2) and 1e6 < job.estimate.peak_bytes < 1e10
    job = model.prepare(ArrayClip(clip(17)), CANVAS, guided)
    assert job.estimate.seconds > 0
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        list(job.frames())
        assert not [record.message for record in caplog.records if "Compiling" in record.message]


def test_nothing_is_to_be_made_of_a_complete_canvas(model):
    source = clip(3)
    job = model.prepare(ArrayClip(source), Canvas.from_size(27, 18, 27, 18), options())
    np.testing.assert_array_equal(list(job.frames()), source)


@pytest.mark.slow  # two more programs, one of them for eight devices
def test_neither_batching_nor_a_mesh_changes_a_clip(folder, model):
    source = clip(21)
    alone = outpaint(model, source, batch=1)
    spread = Model.from_pretrained(folder, mesh=make_mesh("data=2,context=2,tensor=2"))
    for made in (outpaint(model, source, batch=3), outpaint(spread, source)):
        check(made, source)
        difference = np.abs(made.astype(int) - alone)
        assert difference.max() <= 2 and (difference > 1).mean() < 0.01


@pytest.mark.parametrize(
    "given, message",
    [
        ({"steps": 1001}, "1001"),
        ({"seed": -1}, "seed"),
        ({"text_guidance": float("nan")}, "text_guidance is a finite number"),
        ({"insertion": 0.0}, "insertion is above 0"),
    ],
)
def test_what_cannot_be_done_is_said_before(model, given, message):
    with pytest.raises(UserError, match=message):
        model.prepare(ArrayClip(clip(1)), CANVAS, options(**given))
    with pytest.raises(UserError, match="no frames"):
        model.prepare(ArrayClip(clip(1)[:0]), CANVAS, options())


def test_the_published_numbers():
    paper, released = Options().filled(), Options(released=True).filled()
    assert (paper.steps, paper.regret, paper.text_guidance) == (25, 4, 7.5) and int(paper.published.guided * 25) == 15
    assert (released.steps, released.regret, released.published.guided) == (50, 0, 1.0)


def test_detail_of_the_clip_is_asked_for(model):
    source, canvas = np.zeros((1, 54, 60, 3), np.uint8), Canvas.from_size(54, 60, 54, 72)
    assert isinstance(model.prepare(ArrayClip(source), canvas, options(detail="source")), SourceDetailJob)
    with pytest.raises(UserError, match=r"detail 'much'.*none, source, tiles"):
        model.prepare(ArrayClip(source), canvas, options(detail="much"))


def test_with_an_overlap_it_makes_some_of_the_source_too(model):
    """Of one at the left, its right border: of a frame of 27 pixels that is made of 32, by two at most."""
    source = RNG.integers(0, 256, (2, 27, 18, 3), dtype=np.uint8)
    made = outpaint(model, source, overlap=1)
    np.testing.assert_array_equal(made[:, :, :16], source[:, :, :16])
    assert (made[:, :, 17] != source[:, :, 17]).mean() > 0.5
