"""Frames of any size: exact with a network that says what it was told, the same after a stop and on any mesh."""

import types

import cv2
import jax
import numpy as np
import pytest
from flax import nnx

from gp_jax.diffusion.samplers import rest
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.jobs.rates import Rates
from gp_jax.methods.globalpaint.conditioning import FILLS
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.methods.globalpaint.programs import Sampling
from gp_jax.methods.globalpaint.refining import refine_frames
from gp_jax.methods.latents import encode
from gp_jax.methods.placement import Placement, to_float
from gp_jax.methods.tiled import TiledJob
from gp_jax.methods.tiling import Grid, Window
from gp_jax.metrics.seam import slope_difference
from gp_jax.models.autoencoder import AutoencoderConfig, AutoencoderKL
from gp_jax.parallel import make_mesh
from tests import small_networks

RNG = np.random.default_rng(0)
WIDE = Canvas(61, 93, 6, 20, 47, 61)  # five times the small networks' area; 8 divides neither side
FRAMES = RNG.integers(0, 256, (7, 47, 61, 3), dtype=np.uint8)  # a window of 4, one of 2 more and one of the last


class Oracle(nnx.Module):
    """A network of the prediction type "sample" that returns the masked latents that it is given."""

    config = types.SimpleNamespace(masked_fill="edge")

    def __call__(self, sample, timesteps, text, tokens, frames):
        return sample[..., (sample.shape[-1] + 1) // 2 :]


@pytest.mark.parametrize("sampler, steps, strength", [("ddim", 1, 0.25), ("dpmpp_2m", 9, 0.5), ("euler", 4, 1.0)])
def test_an_oracle_in_tiles_is_the_oracle(sampler, steps, strength):
    config = AutoencoderConfig(
        block_out_channels=(8,), layers_per_block=1, norm_num_groups=4, patch_size=8, linear_latents=True
    )
    vae = AutoencoderKL(config, rngs=nnx.Rngs(0))
    canvas = Canvas(64, 96, 13, 20, 40, 50)
    place, grid = Placement.of(canvas, canvas, 8), Grid.of(canvas, (3, 5), 8, 2)
    schedule = NoiseSchedule(prediction_type="sample", timestep_spacing="trailing")
    path, level = rest(schedule, sampler, steps, strength)
    sampling = Sampling(path, np.ones(2, np.float32), (False, True, False))
    frames = RNG.integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)
    completed, known = (
        RNG.normal(size=(3, 8, 12, config.latent_channels)).astype(np.float32),
        np.array([True, False, False]),
    )
    times, text = np.arange(3, dtype=np.int32), np.zeros((1, 1, 16), np.float32)
    window = Window(times, frames, completed, known, place, grid)
    more = None, text, np.zeros((1, 2, 16), np.float32), sampling, level
    made = refine_frames(Oracle(), vae, jax.random.key(0), window, *more, shared_noise=0.5)
    expected = encode(vae, FILLS["edge"](to_float(frames)[None], place.pixel_mask[None, None]))[0]
    np.testing.assert_allclose(made[0], completed[0], atol=1e-5)
    np.testing.assert_allclose(made[1:], expected[1:], atol=1e-4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_networks.write(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def pipe(folder):
    return OutpaintPipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def result(pipe):
    return pipe(FRAMES, WIDE, detail="tiles")


def test_the_source_stays_and_all_else_is_refined(pipe, result):
    np.testing.assert_array_equal(result[:, *WIDE.observed], FRAMES)
    coarse = pipe(FRAMES, WIDE)
    assert result.shape == coarse.shape and (result != coarse).mean(axis=(1, 2, 3)).min() > 0.2


def test_a_canvas_of_the_networks_size_has_no_tiles(pipe):
    canvas, options = Canvas(24, 40, 0, 10, 24, 20), Options(detail="tiles")
    assert not isinstance(pipe.prepare(FRAMES[:, :24, :20], canvas, options), TiledJob)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_job_that_was_closed_goes_on(pipe, result, count, tmp_path, monkeypatch):
    frames = pipe.prepare(FRAMES, WIDE, Options(detail="tiles"), tmp_path).frames()
    taken = [next(frames) for _ in range(count)]
    frames.close()
    job = pipe.prepare(FRAMES, WIDE, Options(detail="tiles"), tmp_path)
    assert (job.estimate.evaluations > 0) == (count < 5), "all windows are made by then"
    np.testing.assert_array_equal(list(job.frames()), result)
    np.testing.assert_array_equal(taken, list(result[:count]))
    again = pipe.prepare(FRAMES, WIDE, Options(detail="tiles"), tmp_path)
    for part in (again, again.coarse):
        monkeypatch.setattr(part, "_make", lambda *_: pytest.fail("made twice"))
    assert again.estimate.evaluations == 0
    np.testing.assert_array_equal(list(again.frames()), result)
    with pytest.raises(UserError, match="detail"):
        pipe.prepare(FRAMES, WIDE, Options(), tmp_path)


def test_the_estimate_counts_tiles_and_progress_ends_at_the_total(pipe, monkeypatch):
    learned = set()
    monkeypatch.setattr(Rates, "learn", lambda _, clock: learned.update(stage for stage, _ in clock.spent))
    job, reports = pipe.prepare(FRAMES, WIDE, Options(detail="tiles", steps=8)), []
    # Two of eight steps, in each of three windows.
    assert job.estimate.evaluations == job.coarse.estimate.evaluations + 3 * 2 * job.grid.number
    assert job.estimate.peak_bytes >= job.coarse.estimate.peak_bytes
    list(job.frames(lambda done, total, label: reports.append((done, total))))
    assert reports[-1] == (job.total, job.total) and reports == sorted(reports)
    assert learned >= {"key frames", "finish", "tiles", "finish tiles"}, "of all stages it is known what they take"


@pytest.mark.slow
def test_batches_and_meshes_change_nothing(folder, pipe, result):
    meshed = OutpaintPipeline.from_pretrained(folder, mesh=make_mesh("data=2,tensor=2,context=2"))
    for made in (meshed(FRAMES, WIDE, detail="tiles"), pipe(FRAMES, WIDE, detail="tiles", batch=3)):
        assert np.abs(made.astype(int) - result.astype(int)).max() <= 2


def test_what_does_not_go_with_tiles_is_refused(pipe):
    for options in (Options(detail="tiles", propagate=True), Options(detail="tiles", stabilize=True)):
        with pytest.raises(UserError, match="leave mask, path, stabilize and propagate out"):
            pipe.prepare(FRAMES, WIDE, options)
    with pytest.raises(UserError, match="there is no detail 'much'"):
        pipe.prepare(FRAMES, WIDE, Options(detail="much"))


def test_with_an_overlap_tiles_are_made_around_less_of_the_source(pipe):
    job = pipe.prepare(FRAMES, WIDE, Options(detail="tiles", overlap=1))
    source = np.stack(list(job.frames()))[:, *WIDE.observed]
    trusted = job.trust[..., 0] == 1
    np.testing.assert_array_equal(source[:, trusted], FRAMES[:, trusted])
    assert 0.4 < trusted.mean() < 0.9 and (source[:, 0] != FRAMES[:, 0]).mean() > 0.5


@pytest.mark.slow
def test_no_border_of_a_tile_shows():
    """On a canvas three times as wide as tiny works at: slopes at tiles' borders are as at any cell's border."""
    scene = cv2.resize(RNG.integers(0, 256, (12, 40, 3), dtype=np.uint8), (400, 128), interpolation=cv2.INTER_CUBIC)
    film = np.stack([scene[:, time:][:, :384] for time in range(8)])
    canvas = Canvas(128, 672, 0, 144, 128, 384)
    job = OutpaintPipeline.from_pretrained("tiny").prepare(film, canvas, Options(detail="tiles"))
    assert 3 * job.coarse.native.width <= canvas.width
    slopes = np.asarray(slope_difference(np.stack(list(job.frames()))[None] / np.float32(255))[1]).mean(axis=(0, 1, 2))
    starts = {int(x) for x in job.grid.pixels.corners[..., 1].flat}
    borders = starts | {x + job.grid.pixels.weights.shape[-1] for x in starts}
    cells = [x for x in range(16, 656, 8) if not 136 <= x <= 536]
    at, elsewhere = ([slopes[x - 2] for x in cells if (x in borders) == wanted] for wanted in (True, False))
    assert at and np.mean(at) < np.percentile(elsewhere, 95)
