"""M3DDM's frames of any size: exact with a network that says what it was told, the same after a stop."""

from fractions import Fraction
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax import nnx

from gp_jax.diffusion.samplers import rest
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.m3ddm.job import OutpaintJob
from gp_jax.methods.m3ddm.options import Options
from gp_jax.methods.m3ddm.pipeline import Model
from gp_jax.methods.m3ddm.programs import BRANCHES, MASKED, sampled_latents
from gp_jax.methods.m3ddm.refining import refine_frames
from gp_jax.methods.method import ArrayClip
from gp_jax.methods.placement import Placement, to_float
from gp_jax.methods.rounds import RoundsJob
from gp_jax.methods.tiled import TiledJob
from gp_jax.methods.tiling import Grid, Window
from gp_jax.models.autoencoder import AutoencoderConfig, AutoencoderKL
from gp_jax.parallel import make_mesh
from tests import small_m3ddm

RNG = np.random.default_rng(0)
WIDE = Canvas(45, 61, 6, 10, 33, 47)  # three times the small network's area; 4 divides neither side
FRAMES = RNG.integers(0, 256, (18, 33, 47, 3), dtype=np.uint8)  # a window of 16 and one of 2 more
TILES = Options(detail="tiles")


class Oracle(nnx.Module):
    """A network of the prediction type "sample" that returns the latents it is told, plus the mask."""

    def __call__(self, sample, timesteps, rates, tokens):
        channels = sample.shape[-1] // 2
        return sample[..., channels : 2 * channels] + sample[..., 2 * channels :]


@pytest.mark.parametrize("steps, local, whole", [(1, 1.0, 1.0), (9, 2.0, 4.0)])
def test_an_oracle_in_tiles_is_the_oracle(steps, local, whole):
    config = AutoencoderConfig(
        block_out_channels=(8,), layers_per_block=1, norm_num_groups=4, patch_size=8, linear_latents=True
    )
    vae = AutoencoderKL(config, rngs=nnx.Rngs(0))
    canvas, key = Canvas(64, 96, 13, 20, 40, 50), jax.random.key(0)
    place, grid = Placement.of(canvas, canvas, 8), Grid.of(canvas, (3, 5), 8, 2)
    path, level = rest(NoiseSchedule(prediction_type="sample", timestep_spacing="trailing"), "ddim", steps, 0.25)
    frames = RNG.integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)
    completed = RNG.normal(size=(3, 8, 12, config.latent_channels)).astype(np.float32)
    times, known, scales = np.arange(3, dtype=np.int32), np.array([True, False, False]), np.float32([local, whole])
    more = np.float32(25), np.zeros((2, 1, 8), np.float32), scales, path, level
    made = refine_frames(Oracle(), vae, key, Window(times, frames, completed, known, place, grid), *more)

    def drawn(times, pixels):
        return np.asarray(sampled_latents(vae, jax.random.fold_in(key, MASKED), times[None], pixels[None])[0])

    masked = np.where(place.pixel_mask[..., None] == 1, -1.0, to_float(frames))
    seen = drawn(times, masked) + place.latent_mask[..., None]
    nothing = drawn(times[:1], np.full_like(masked[:1], -1.0)) + 1.0
    np.testing.assert_allclose(made[0], completed[0], atol=1e-4)
    np.testing.assert_allclose(made[1:], (local * seen + (1 - local) * nothing)[1:], atol=1e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_m3ddm.write(tmp_path_factory.mktemp("m3ddm") / "ours", native_area=1024, steps=3, global_frames=4)


@pytest.fixture(scope="module")
def model(folder):
    return Model.from_pretrained(folder)


@pytest.fixture(scope="module")
def result(model):
    return np.stack(list(model.prepare(ArrayClip(FRAMES), WIDE, TILES).frames()))


def test_the_source_stays_and_all_else_is_refined(model, result):
    np.testing.assert_array_equal(result[:, *WIDE.observed], FRAMES)
    coarse = np.stack(list(model.prepare(ArrayClip(FRAMES), WIDE, Options()).frames()))
    assert result.shape == coarse.shape and (result != coarse).mean(axis=(1, 2, 3)).min() > 0.2


def test_a_canvas_of_the_networks_size_has_no_tiles(model):
    canvas = Canvas.from_size(27, 18, 27, 27)
    made = [
        np.stack(list(job.frames()))
        for job in (model.prepare(ArrayClip(FRAMES[:2, :27, :18]), canvas, asked) for asked in (TILES, Options()))
        if isinstance(job, OutpaintJob)
    ]
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize("count", [1, 17])
def test_a_job_that_was_closed_goes_on(model, result, count, tmp_path, monkeypatch):
    frames = model.prepare(ArrayClip(FRAMES), WIDE, TILES, tmp_path).frames()
    taken = [next(frames) for _ in range(count)]
    frames.close()
    np.testing.assert_array_equal(taken, result[:count])
    job = model.prepare(ArrayClip(FRAMES), WIDE, TILES, tmp_path)
    assert (job.estimate.evaluations > 0) == (count == 1), "all windows are made by then"
    np.testing.assert_array_equal(list(job.frames()), result)
    again = model.prepare(ArrayClip(FRAMES), WIDE, TILES, tmp_path)
    for part in (again, again.coarse):
        monkeypatch.setattr(part, "_make", lambda *_: pytest.fail("made twice"))
    assert again.estimate.evaluations == 0
    np.testing.assert_array_equal(list(again.frames()), result)
    with pytest.raises(UserError, match="detail"):
        model.prepare(ArrayClip(FRAMES), WIDE, Options(), tmp_path)


def test_the_estimate_counts_tiles_and_progress_ends_at_the_total(model):
    job, reports = model.prepare(ArrayClip(FRAMES), WIDE, TILES), []
    # One of four steps, in each of two windows.
    assert job.estimate.evaluations == job.coarse.estimate.evaluations + 2 * BRANCHES * job.grid.number
    list(job.frames(lambda done, total, label: reports.append((done, total))))
    assert reports[-1] == (job.total, job.total) and reports == sorted(reports)


def test_rounds_have_the_frame_rate_of_the_clip(model):
    clip = ArrayClip(FRAMES[:2])
    clip.info = SimpleNamespace(frame_rate=Fraction(30))
    job = model.prepare(clip, Canvas(66, 94, 15, 20, 33, 47), TILES)
    assert isinstance(job, RoundsJob) and all(isinstance(part, TiledJob) for part in job.jobs)
    assert [part.coarse.frame_rate for part in job.jobs] == [30.0] * 3


def test_what_does_not_go_with_tiles_is_refused(model):
    for more in ({"detail": "tiles"}, {"detail": "source"}, {"overlap": 1}):
        with pytest.raises(UserError, match=f"faithful .* leave it out, or {next(iter(more))}"):
            model.prepare(ArrayClip(FRAMES), WIDE, Options(faithful=True, **more))


@pytest.mark.slow  # two more programs, one of them for eight devices
def test_batches_and_meshes_change_nothing(folder, model, result):
    meshed = Model.from_pretrained(folder, mesh=make_mesh("data=2,tensor=2,context=2"))
    for job in (meshed.prepare(ArrayClip(FRAMES), WIDE, TILES), model.prepare(ArrayClip(FRAMES), WIDE, TILES, batch=3)):
        difference = np.abs(np.stack(list(job.frames())).astype(int) - result)
        assert difference.max() <= 5 and (difference > 1).mean() < 0.01
