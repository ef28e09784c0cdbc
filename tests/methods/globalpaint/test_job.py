"""Work that is stopped and goes on, on disk or in memory, makes the same frames and leaves nobody behind."""

import functools
import logging
import threading

import cv2
import jax
import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.jobs import spool
from gp_jax.jobs.journal import SUFFIX
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.methods.method import ArrayClip
from gp_jax.methods.options import Whole
from gp_jax.methods.seen import Feathered
from tests import small_networks

CANVAS = Canvas.from_aspect(21, 27, aspect=2.0, anchor="left")  # that of test_end_to_end.py
FRAMES = np.random.default_rng(17).integers(0, 256, (17, 21, 27, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return OutpaintPipeline.from_pretrained(small_networks.write(tmp_path_factory.mktemp("checkpoint")))


@pytest.fixture(scope="module")
def result(pipe):
    return pipe(FRAMES, CANVAS)


@pytest.fixture(autouse=True)
def no_thread_stays():
    yield
    assert not {"ahead", "spool"} & {thread.name for thread in threading.enumerate()}


class CountingClip(ArrayClip):
    """Counts how often it is read, and fails from a frame on where it is told to."""

    reads, broken = 0, None

    def frames_at(self, indices):
        self.reads += 1
        for index in indices:
            if self.broken is not None and index >= self.broken:
                raise UserError("the disk is gone")
            yield self.frames[index]


@pytest.mark.parametrize("count", [0, 1, 9, 16])
def test_a_job_that_was_closed_goes_on(pipe, result, count, tmp_path):
    frames = pipe.prepare(FRAMES, CANVAS, Options(), tmp_path).frames()
    taken = [next(frames) for _ in range(count)]
    frames.close()
    again = list(pipe.prepare(FRAMES, CANVAS, Options(), tmp_path).frames())
    np.testing.assert_array_equal(again, result)
    np.testing.assert_array_equal(taken, again[:count])


@pytest.mark.parametrize("count", [1, 9])
def test_a_clip_that_is_too_long_to_be_kept_makes_the_same(pipe, result, count, tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "MOST", 0)
    job = pipe.prepare(FRAMES, CANVAS, Options(), tmp_path)
    assert not job.is_kept and job.estimate.disk_bytes > 0
    frames = job.frames()
    taken = [next(frames) for _ in range(count)]
    frames.close()
    again = pipe.prepare(FRAMES, CANVAS, Options(), tmp_path)
    assert again.estimate.disk_bytes <= job._journal_bytes
    np.testing.assert_array_equal(list(again.frames()), result)
    np.testing.assert_array_equal(taken, result[:count])
    seen = pipe.prepare(FRAMES, CANVAS, Options(propagate=True))
    layered = list(seen.frames())
    monkeypatch.undo()
    np.testing.assert_array_equal(layered, list(pipe.prepare(FRAMES, CANVAS, Options(propagate=True)).frames()))


def test_with_an_overlap_all_but_the_borders_stays(pipe, result):
    """Of a source at the left, 21 x 27 in 21 x 42 pixels, the right border alone is open."""
    lapped = pipe(FRAMES, CANVAS, overlap=2)
    scale = (
        CANVAS.height
        / CANVAS.native(small_networks.SETTINGS.native_area, pipe.checkpoint.vae.config.downsampling).height
    )
    inside = 27 - int(np.ceil(4 * scale))
    np.testing.assert_array_equal(lapped[:, :, :inside], FRAMES[:, :, :inside])
    assert (lapped[:, :, 26] != FRAMES[:, :, 26]).any()
    assert (lapped[:, :, 27:] != result[:, :, 27:]).any()
    np.testing.assert_array_equal(pipe(FRAMES, CANVAS, overlap=0), result)


def test_the_disk_that_it_will_take_is_what_it_takes(pipe, tmp_path):
    job = pipe.prepare(FRAMES, CANVAS, Options(), tmp_path)
    told = job.estimate.disk_bytes
    list(job.frames())
    arrays = sum(path.stat().st_size for path in tmp_path.glob(f"level-*{SUFFIX}"))
    assert told <= arrays < 1.2 * told + 400 * len(list(tmp_path.glob(f"*{SUFFIX}")))


def test_fresh_noise_of_a_job_that_goes_on_is_the_same(pipe, tmp_path):
    options = Options(sampler="tcd", eta=1.0, steps=3)
    frames = pipe.prepare(FRAMES, CANVAS, options, tmp_path).frames()
    next(frames)
    frames.close()
    again = list(pipe.prepare(FRAMES, CANVAS, options, tmp_path).frames())
    np.testing.assert_array_equal(again, list(pipe.prepare(FRAMES, CANVAS, options).frames()))


def test_the_networks_make_nothing_twice(pipe, result, tmp_path, monkeypatch):
    list(pipe.prepare(FRAMES, CANVAS, Options(), tmp_path).frames())
    job, reports = pipe.prepare(FRAMES, CANVAS, Options(), tmp_path), []
    for name in ("_make", "_read_clip"):
        monkeypatch.setattr(job, name, lambda *_: pytest.fail("made twice"))
    np.testing.assert_array_equal(list(job.frames(lambda done, total, label: reports.append((done, total)))), result)
    assert reports[-1] == (job.total, job.total)


@pytest.mark.parametrize("names", ["level-0*", "level-3*", "tokens*", "*"])
def test_what_was_damaged_is_made_again(pipe, result, names, tmp_path):
    list(pipe.prepare(FRAMES, CANVAS, Options(), tmp_path).frames())
    for path in tmp_path.glob(f"{names}{SUFFIX}"):
        path.write_bytes(path.read_bytes()[:-1])
    np.testing.assert_array_equal(list(pipe.prepare(FRAMES, CANVAS, Options(), tmp_path).frames()), result)


def test_a_clip_is_read_twice_however_many_levels_there_are(pipe):
    clip = CountingClip(FRAMES)
    job = pipe.prepare(clip, CANVAS, Options())
    list(job.frames())
    assert len(job.plan.levels) > 2 and clip.reads == 2


def test_on_disk_and_in_memory_are_the_same(pipe, result, tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "MEMORY", 0)
    np.testing.assert_array_equal(list(pipe.prepare(FRAMES, CANVAS, Options(), tmp_path).frames()), result)


@pytest.mark.parametrize("broken", [0, 8, 16])
def test_a_clip_that_breaks_ends_all_of_it(pipe, broken, tmp_path):
    clip = CountingClip(FRAMES)
    job = pipe.prepare(clip, CANVAS, Options(), tmp_path)
    clip.broken = broken
    with pytest.raises(UserError, match="the disk is gone"):
        list(job.frames())
    clip.broken = None
    assert len(list(job.frames())) == 17


def test_a_canvas_without_new_pixels_leaves_no_work(pipe, tmp_path):
    whole = Canvas.from_size(21, 27, 21, 27)
    made = list(pipe.prepare(FRAMES, whole, Options(), tmp_path / "work").frames())
    np.testing.assert_array_equal(made, FRAMES)
    assert not (tmp_path / "work").exists()


def test_all_programs_are_compiled_when_the_estimate_is_there(pipe, tmp_path, caplog):
    canvas = Canvas.from_size(21, 27, 21, 60)
    job = pipe.prepare(FRAMES, canvas, Options(steps=3), tmp_path)
    assert job.estimate.evaluations == 3 * job.total and 0 < job.estimate.seconds < 600
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        list(job.frames())
        assert not [record.message for record in caplog.records if "Compiling" in record.message]
    assert pipe.prepare(FRAMES, canvas, Options(steps=3), tmp_path).estimate.evaluations == 0, "all is done"


def test_what_other_frames_show_is_carried_over(pipe, tmp_path):
    """However it is batched, and after a job that was closed; the networks know of it, and make all else to it."""
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(0, 256, (5, 24, 3), dtype=np.uint8), (96, 24), interpolation=cv2.INTER_CUBIC)
    film = np.stack([scene[:, 2 * time :][:, :48] for time in range(9)])
    canvas, source = Canvas(24, 48, 0, 12, 24, 24), film[:, :, 12:36]
    options = Options(propagate=True)
    made = np.stack(list(pipe.prepare(source, canvas, options).frames())).astype(int)
    np.testing.assert_array_equal(made[:, :, 12:36], source)
    plain = np.stack(list(pipe.prepare(source, canvas, Options()).frames())).astype(int)
    # Frame 4 has what is left of it up to 8 columns from frames before, and what is right of it from those to come.
    near = np.s_[4, :, [8, 9, 10, 11, 36, 37, 38, 39]]
    assert abs(made[near] - film[near]).mean() < 8 < 2 * 8 < abs(plain[near] - film[near]).mean()
    assert (made[0, :, :12] != plain[0, :, :12]).any()  # which no frame shows
    # Two rows are another program, whose last bits may be others.
    np.testing.assert_allclose(pipe(source, canvas, propagate=True, batch=2), made, atol=1)
    frames = pipe.prepare(source, canvas, options, tmp_path).frames()
    next(frames)
    frames.close()
    np.testing.assert_array_equal(list(pipe.prepare(source, canvas, options, tmp_path).frames()), made)
    with pytest.raises(UserError):
        pipe.prepare(source, canvas, Options(), tmp_path)


SAME = Canvas.from_size(21, 27, 21, 27)


def test_what_a_mask_hides_is_made_and_nobody_sees_it(pipe, tmp_path):
    hidden = np.zeros((17, 21, 27), bool)
    hidden[:, 4:15, 9:20] = hidden[8] = True  # of frame 8 nothing is left
    made = pipe(FRAMES, SAME, mask=hidden)
    np.testing.assert_array_equal(made[~hidden], FRAMES[~hidden])
    assert (made[hidden] != FRAMES[hidden]).mean() > 0.9
    other = np.where(hidden[..., None], 255 - FRAMES, FRAMES)
    np.testing.assert_array_equal(pipe(other, SAME, mask=hidden), made)
    job = functools.partial(pipe.prepare, FRAMES, SAME, Options(), tmp_path, mask=hidden)
    frames = job().frames()
    next(frames)
    frames.close()
    np.testing.assert_array_equal(list(job().frames()), made)
    with pytest.raises(UserError):
        pipe.prepare(FRAMES, SAME, Options(), tmp_path, mask=~hidden)


def test_a_source_that_moves_comes_back_where_it_lay(pipe):
    path = np.stack([np.arange(17) % 16, np.zeros(17, int)], axis=-1)
    made = pipe(FRAMES, CANVAS, path=path)
    for frame, source, (left, top) in zip(made, FRAMES, path):
        np.testing.assert_array_equal(frame[top : top + 21, left : left + 27], source)


@pytest.mark.parametrize(
    "asked, told",
    [
        ({"mask": np.zeros((21, 27), bool), "propagate": True}, "mask and propagate"),
        ({"path": np.zeros((17, 2)), "stabilize": True}, "path and stabilize"),
        ({"stabilize": True, "adapt": 3}, "adapt learns from whole frames"),
    ],
)
def test_what_does_not_go_together_is_told(pipe, asked, told):
    with pytest.raises(UserError, match=told):
        pipe(FRAMES, CANVAS, **asked)


def test_a_lora_learns_of_a_source_that_stands_still_though_its_borders_fade(pipe):
    asked = Options(adapt=Whole(2), overlap=Whole(1), propagate=True)
    assert isinstance(pipe.prepare(FRAMES, CANVAS, asked).seen, Feathered)
