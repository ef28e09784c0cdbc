"""MOTIA's frames of any size: exact with networks that say what they were told, the same after a stop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gp_jax.diffusion.noise import step_noise
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.method import ArrayClip
from gp_jax.methods.motia.insertion import insertion
from gp_jax.methods.motia.job import OutpaintJob
from gp_jax.methods.motia.options import Options
from gp_jax.methods.motia.pipeline import Model
from gp_jax.methods.motia.programs import shown
from gp_jax.methods.motia.refining import refine_frames
from gp_jax.methods.motia.schedule import Row, rows
from gp_jax.methods.placement import Placement, to_float
from gp_jax.methods.rounds import RoundsJob
from gp_jax.methods.tiled import TiledJob
from gp_jax.methods.tiling import Grid, Window
from gp_jax.models.autoencoder import AutoencoderConfig, AutoencoderKL
from gp_jax.parallel import make_mesh
from tests import small_motia

RNG = np.random.default_rng(0)
WIDE = Canvas(45, 61, 6, 10, 33, 47)  # three times the small networks' area; 8 divides neither side
FRAMES = RNG.integers(0, 256, (18, 33, 47, 3), dtype=np.uint8)  # a window of 16 and one of 2 more


class Steering(nnx.Module):
    """A ControlNet that returns its picture's cells."""

    def __call__(self, sample, timesteps, text, picture):
        return [], cells(picture)


class Telling(nnx.Module):
    """A network of the prediction type "sample" that returns what it is told: picture, times and insertion."""

    def __call__(self, sample, timesteps, text, tokens, frames, residuals, insertion):
        told = residuals[1].mean(-1, keepdims=True) + cells(insertion[:, None, ..., None])
        return jnp.broadcast_to(told + frames[..., None, None, None], sample.shape)


class Copying(nnx.Module):
    """One that takes all frames for the first one, noise and all."""

    def __call__(self, sample, timesteps, text, tokens, frames, residuals, insertion):
        return jnp.broadcast_to(sample[:, :1], sample.shape)


def cells(picture):
    *frames, height, width, channels = picture.shape
    return picture.reshape(*frames, height // 8, 8, width // 8, 8, channels).mean(axis=(-4, -2))


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("network", [Telling, Copying])
def test_an_oracle_in_tiles_is_the_oracle(network, steps):
    config = AutoencoderConfig(
        block_out_channels=(8,), layers_per_block=1, norm_num_groups=4, patch_size=8, linear_latents=True
    )
    vae = AutoencoderKL(config, rngs=nnx.Rngs(0))
    canvas, key = Canvas(64, 96, 13, 20, 40, 50), jax.random.key(0)
    place, grid = Placement.of(canvas, canvas, 8), Grid.of(canvas, (3, 5), 8, 2)
    last = rows(NoiseSchedule(prediction_type="sample"), 12, 1.0, 0, 0)[-steps:]
    frames = RNG.integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)
    shape = (8, 12, config.latent_channels)
    completed = RNG.normal(size=(3, *shape)).astype(np.float32)
    times, known = np.arange(3, dtype=np.int32), np.array([True, False, False])
    reach, level = insertion(canvas, 0.5), np.float32([0.0, 1.0])
    text = None, np.zeros((1, 1, 8), np.float32)
    made = refine_frames(
        network(),
        Steering(),
        vae,
        key,
        Window(times, frames, completed, known, place, grid),
        *text,
        reach,
        Row(*map(np.stack, zip(*last))),
        level,
        branches=(False, True, False),
    )
    row, noise = last[-1], step_noise(key, jnp.int32(0), times[None], shape, 0.0)[0]
    if network is Telling:
        told = cells(np.asarray(shown(to_float(frames), place))).mean(-1, keepdims=True)
        clean = told + cells(reach[None, ..., None]) + times[:, None, None, None]
        np.testing.assert_allclose(row.clean_weight, 1, atol=1e-4)
        np.testing.assert_allclose(made, np.broadcast_to(clean, made.shape), atol=1e-3)
    else:  # what is known of the first frame stands there at each step's level of noise
        before = noise[0]
        if steps > 1:
            before = last[-2].source_weight * completed[0] + last[-2].noise_weight * noise[0]
        np.testing.assert_allclose(made[1], before, atol=1e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_motia.write(tmp_path_factory.mktemp("motia") / "ours")


@pytest.fixture(scope="module")
def model(folder):
    return Model.from_pretrained(folder)


def prepare(model, work=None, frames=FRAMES, canvas=WIDE, **given):
    asked = {"steps": 2, "regret": 0, "adapt": 0, "detail": "tiles"} | given
    return model.prepare(ArrayClip(frames), canvas, Options(**asked), work)


@pytest.fixture(scope="module")
def result(model):
    return np.stack(list(prepare(model).frames()))


def test_the_source_stays_and_all_else_is_refined(model, result):
    np.testing.assert_array_equal(result[:, *WIDE.observed], FRAMES)
    coarse = np.stack(list(prepare(model, detail="none").frames()))
    assert result.shape == coarse.shape and (result != coarse).mean(axis=(1, 2, 3)).min() > 0.2


def test_a_canvas_of_the_networks_size_has_no_tiles(model):
    small = {"frames": FRAMES[:2, :27, :18], "canvas": Canvas.from_size(27, 18, 27, 27)}
    jobs = [prepare(model, **small, detail=detail) for detail in ("tiles", "none")]
    assert all(isinstance(job, OutpaintJob) for job in jobs)
    np.testing.assert_array_equal(*(list(job.frames()) for job in jobs))


@pytest.mark.parametrize("count", [1, 17])
def test_a_job_that_was_closed_goes_on(model, result, count, tmp_path, monkeypatch):
    frames = prepare(model, tmp_path).frames()
    taken = [next(frames) for _ in range(count)]
    frames.close()
    np.testing.assert_array_equal(taken, result[:count])
    job = prepare(model, tmp_path)
    assert (job.estimate.evaluations > 0) == (count == 1), "all windows are made by then"
    np.testing.assert_array_equal(list(job.frames()), result)
    again = prepare(model, tmp_path)
    for part in (again, again.coarse):
        monkeypatch.setattr(part, "_make", lambda *_: pytest.fail("made twice"))
    assert again.estimate.evaluations == 0
    np.testing.assert_array_equal(list(again.frames()), result)
    with pytest.raises(UserError, match="detail"):
        prepare(model, tmp_path, detail="none")


def test_the_estimate_counts_tiles_and_progress_ends_at_the_total(model):
    job, reports = prepare(model), []
    # The last of four steps, in each of two windows.
    assert job.estimate.evaluations == job.coarse.estimate.evaluations + 2 * job.grid.number
    list(job.frames(lambda done, total, label: reports.append((done, total))))
    assert reports[-1] == (job.total, job.total) and reports == sorted(reports)


def test_only_what_the_prompt_guides_has_two_branches(model):
    many = {"steps": 8, "prompt": "a cat"}
    assert prepare(model, **many).coarse.refinements == 2, "the paper's prompt guides the first 60 % alone"
    assert prepare(model, **many, released=True).coarse.refinements == 4


def test_what_is_fitted_to_the_clip_goes_without_rounds(model):
    canvas = Canvas(66, 94, 15, 20, 33, 47)
    jobs = [prepare(model, canvas=canvas, adapt=adapt) for adapt in (0, 1)]
    assert isinstance(jobs[0], RoundsJob) and all(isinstance(part, TiledJob) for part in jobs[0].jobs)
    assert isinstance(jobs[1], TiledJob)


@pytest.mark.slow  # a fit
def test_a_lora_counts_in_tiles_too(model, result):
    fitted = np.stack(list(prepare(model, adapt=1).frames()))
    np.testing.assert_array_equal(fitted[:, *WIDE.observed], FRAMES)
    assert (fitted != result).any()


@pytest.mark.slow  # a program for eight devices
def test_a_mesh_changes_nothing(folder, result):
    made = np.stack(list(prepare(Model.from_pretrained(folder, mesh=make_mesh("data=2,tensor=2,context=2"))).frames()))
    difference = np.abs(made.astype(int) - result)
    assert difference.max() <= 5 and (difference > 1).mean() < 0.01
