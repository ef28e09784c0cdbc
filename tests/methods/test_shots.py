"""A film is made shot by shot, and no frame of one depends on another."""

import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.globalpaint.job import OutpaintJob
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.methods.method import ArrayClip
from gp_jax.methods.registry import load
from gp_jax.methods.shots import prepare, shots_of
from gp_jax.video import VideoReader, VideoWriter
from tests import small_networks

HEIGHT, WIDTH = 22, 28
CANVAS = Canvas.from_pads(HEIGHT, WIDTH, 0, 14, 0, 0)
LENGTHS = (9, 4, 12, 10, 3, 7)
SHOTS = [range(0, 9), range(9, 13), range(13, 25), range(25, 36), range(36, 39), range(39, 46)]


def drifting(rng, count):
    texture = np.kron(rng.integers(60, 200, (3, 4, 3)), np.ones((8, 7, 1)))[:HEIGHT] * rng.uniform(0.5, 1.2, 3)
    return np.stack([np.roll(texture, t // 2, axis=1) for t in range(count)])


@pytest.fixture(scope="module")
def film():
    """uint8 [46, 22, 28, 3]: cuts, a flash within the third shot, and a fade to black between the third and fourth."""
    rng = np.random.default_rng(3)
    shots = [drifting(rng, count) for count in LENGTHS]
    shots[2][4:6] = 255 - shots[2][4:6] / 8
    shots[2][-4:] *= np.linspace(0.75, 0.0, 4)[:, None, None, None]
    shots[3] = np.concatenate([np.zeros_like(shots[3][:1]), shots[3]])
    shots[3][1:5] *= np.linspace(0.25, 1.0, 4)[:, None, None, None]
    return np.concatenate(shots).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return OutpaintPipeline.from_pretrained(small_networks.write(tmp_path_factory.mktemp("checkpoint")))


def made(pipe, frames, shots=SHOTS, work=None):
    return np.stack(list(prepare(pipe, ArrayClip(frames), CANVAS, Options(), work, shots).frames()))


def test_shots_end_at_cuts_and_in_the_black_but_at_no_flash(film, tmp_path):
    found = []
    assert shots_of(ArrayClip(film), lambda *done: found.append(done)) == SHOTS
    assert found[-1] == (46, 46, "looking for cuts")
    with VideoWriter(tmp_path / "film", 25) as writer:
        for frame in film:
            writer.write(frame)
    assert shots_of(VideoReader(tmp_path / "film")) == SHOTS


@pytest.mark.parametrize("number", [0, 2, 5])
def test_no_frame_of_a_shot_depends_on_another(pipe, film, number):
    other, shot = film.copy(), SHOTS[number]
    other[shot.start : shot.stop] = 255 - other[shot.start : shot.stop]
    before, after = made(pipe, film), made(pipe, other)
    differs = (before != after)[:, :, WIDTH:].any(axis=(1, 2, 3))
    assert [index for index in range(len(film)) if differs[index]] == list(shot)
    whole = [range(len(film))]
    mixed = (made(pipe, film, whole) != made(pipe, other, whole))[:, :, WIDTH:].any(axis=(1, 2, 3))
    assert mixed.sum() > len(shot)  # made together, they depend on each other


def test_each_shot_is_what_it_is_alone(pipe, film):
    alone = [pipe(film[shot.start : shot.stop], CANVAS) for shot in SHOTS]
    np.testing.assert_array_equal(made(pipe, film), np.concatenate(alone))


def test_one_shot_is_the_methods_own_job(pipe, film, tmp_path):
    job = prepare(pipe, ArrayClip(film), CANVAS, Options(), tmp_path / "work", [range(len(film))])
    assert isinstance(job, OutpaintJob) and job.journal.folder == tmp_path / "work"


@pytest.mark.parametrize("count", [1, 12, 40])
def test_a_film_that_was_closed_goes_on(pipe, film, count, tmp_path):
    frames = prepare(pipe, ArrayClip(film), CANVAS, Options(), tmp_path, SHOTS).frames()
    taken = [next(frames) for _ in range(count)]
    frames.close()
    left = prepare(pipe, ArrayClip(film), CANVAS, Options(), tmp_path, SHOTS).estimate.evaluations
    assert left < prepare(pipe, ArrayClip(film), CANVAS, Options(), None, SHOTS).estimate.evaluations
    again = made(pipe, film, work=tmp_path)
    np.testing.assert_array_equal(again, made(pipe, film))
    np.testing.assert_array_equal(taken, again[:count])
    with pytest.raises(UserError, match="shots"):
        prepare(pipe, ArrayClip(film), CANVAS, Options(), tmp_path, [range(9), range(9, 46)])


def test_progress_counts_the_frames_of_all(film):
    reports = []
    job = prepare(load("edge"), ArrayClip(film), CANVAS, load("edge").Options(), None, SHOTS)
    list(job.frames(lambda *report: reports.append(report)))
    done = [report[0] for report in reports]
    assert done == sorted(done) and reports[-1] == (46, 46, "shot 6 of 6, frames")


def test_a_method_that_keeps_nothing_keeps_no_journal_of_a_film(film, tmp_path):
    (tmp_path / "work.json").write_text('{"method": "globalpaint"}')
    edge = load("edge")
    assert prepare(edge, ArrayClip(film), CANVAS, edge.Options(), tmp_path, SHOTS).journal is None


def test_the_lora_of_one_shot_cannot_be_that_of_all(pipe, film):
    with pytest.raises(UserError, match="each of the 6 shots"):
        prepare(pipe, ArrayClip(film), CANVAS, Options(adapt=1, save_lora="a"), None, SHOTS)


def test_masks_and_paths_are_cut_into_shots_too(pipe, film):
    rng = np.random.default_rng(7)
    mask = np.zeros((len(film), HEIGHT, WIDTH), bool)
    mask[rng.integers(0, len(film), 30), :, rng.integers(0, WIDTH, 30)] = True
    path = rng.integers(0, 15, (len(film), 2)) * [1, 0]

    def shot_by_shot(**own):
        alone = [
            pipe(film[s.start : s.stop], CANVAS, **{k: v[s.start : s.stop] for k, v in own.items()}) for s in SHOTS
        ]
        together = prepare(pipe, ArrayClip(film), CANVAS, Options(**own), None, SHOTS).frames()
        np.testing.assert_array_equal(list(together), np.concatenate(alone))

    shot_by_shot(mask=mask)
    shot_by_shot(path=path)
    with pytest.raises(UserError, match="has 3 places, and the clip 46 frames"):
        prepare(pipe, ArrayClip(film), CANVAS, Options(path=path[:3]), None, SHOTS)
