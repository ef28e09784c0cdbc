"""Clips in, wider clips out, by the public interface, with small random networks."""

import itertools
import logging
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from gp_jax.errors import Notice, UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.methods.method import ArrayClip
from gp_jax.parallel import make_mesh
from tests import small_networks

CANVAS = Canvas.from_aspect(21, 27, aspect=2.0, anchor="left")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_networks.write(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def pipe(folder):
    return OutpaintPipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def result(pipe):
    """The clip of 17 frames, outpainted with seed 0."""
    return pipe(clip(17), CANVAS, seed=0)


def clip(length: int) -> np.ndarray:
    return np.random.default_rng(length).integers(0, 256, (length, 21, 27, 3), dtype=np.uint8)


def sides(video: np.ndarray) -> np.ndarray:
    return np.asarray(video)[:, :, 27:].astype(int)


@pytest.mark.parametrize("length", [1, 2, 17])
def test_observed_pixels_come_back_exactly(pipe, length):
    frames = clip(length)
    video = pipe(frames, CANVAS)
    assert video.shape == (length, 21, 42, 3) and video.dtype == np.uint8
    np.testing.assert_array_equal(video[:, :, :27], frames)
    assert sides(video).std() > 1


def test_programs_that_users_have_make_the_same(folder, result, tmp_path):
    """The tests' programs are compiled without most optimizations (conftest.py), those of this process with all."""
    work = """if True:
        import sys, numpy as np
        from gp_jax.geometry import Canvas
        from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
        folder, clip, made = sys.argv[1:]
        pipe = OutpaintPipeline.from_pretrained(folder)
        np.save(made, pipe(np.load(clip), Canvas.from_aspect(21, 27, aspect=2.0, anchor="left"), seed=0))
    """
    np.save(tmp_path / "clip.npy", clip(17))
    ours = ("JAX_DISABLE_MOST_OPTIMIZATIONS", "JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS")
    theirs = {name: value for name, value in os.environ.items() if name not in ours}
    command = [sys.executable, "-c", work, folder, tmp_path / "clip.npy", tmp_path / "made.npy"]
    subprocess.run(command, env=theirs, check=True)
    difference = sides(np.load(tmp_path / "made.npy")) - sides(result)
    assert np.abs(difference).max() <= 1 and (difference == 0).mean() > 0.99  # floats differ in the last digits


def test_same_seed_same_clip_other_seed_other_sides(pipe, result):
    np.testing.assert_array_equal(pipe(clip(17), CANVAS, seed=0), result)
    other = pipe(clip(17), CANVAS, seed=1)
    assert (np.abs(sides(other) - sides(result)).max(axis=(1, 2, 3)) > 1).all()


def test_programs_depend_on_shapes_alone(pipe, caplog):
    """Another place of the source, seed, sampler and weight of guidance compile nothing."""
    pipe(clip(5), CANVAS, guidance=1.5)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for anchor in ("center", "right"):
            pipe(clip(5), Canvas.from_aspect(21, 27, 2.0, anchor), seed=3, guidance=2.5, sampler="euler")
        assert not [record.message for record in caplog.records if "compil" in record.message.lower()]


def test_samplers_that_add_noise_share_a_program(pipe, caplog):
    pipe(clip(5), CANVAS, sampler="lcm")
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        made = [pipe(clip(5), CANVAS, sampler="tcd", eta=eta) for eta in (0.0, 0.3)]
        made.append(pipe(clip(5), CANVAS, sampler="dmd2", seed=3))
        assert not [record.message for record in caplog.records if "compil" in record.message.lower()]
    assert (made[0] != made[1]).any() and (made[1] != made[2]).any()


def test_fresh_noise_belongs_to_frame_and_step(pipe, folder):
    """However segments are batched, on whatever mesh."""
    options = {"sampler": "tcd", "eta": 1.0, "steps": 3}
    one = pipe(clip(17), CANVAS, **options, batch=1)
    meshed = OutpaintPipeline.from_pretrained(folder, mesh=make_mesh("data=2,tensor=2,context=2"))
    for other in (pipe(clip(17), CANVAS, **options, batch=3), meshed(clip(17), CANVAS, **options)):
        difference = sides(other) - sides(one)
        assert np.abs(difference).max() <= 1 and (difference == 0).mean() > 0.99  # floats differ in the last digits


def test_guidance_that_a_sampler_does_not_bear_is_told(pipe):
    with pytest.warns(Notice, match="guidance is 3, .* lcm .* bear 2 at most"):
        pipe.prepare(clip(2), CANVAS, Options(sampler="lcm", guidance=3.0))
    pipe.prepare(clip(2), CANVAS, Options(sampler="ddim_trailing", guidance=3.0))


def test_any_frame_matters_to_the_others(pipe, result):
    for index in range(17):
        frames = clip(17)
        frames[index] = 255 - frames[index]
        changed = np.abs(sides(pipe(frames, CANVAS, seed=0)) - sides(result)).max(axis=(1, 2, 3)) > 0
        assert np.delete(changed, index).mean() > 0.5


def test_batches_and_meshes_change_nothing(folder, result):
    meshed = OutpaintPipeline.from_pretrained(folder, mesh=make_mesh("data=2,tensor=2,context=2"))
    difference = sides(meshed(clip(17), CANVAS)) - sides(result)  # on two data slices, so in batches of two
    assert np.abs(difference).max() <= 1 and (difference == 0).mean() > 0.99  # floats differ in the last digits


def test_frames_stream_with_progress(pipe, result):
    """The first frame comes before all is done, and no frame is asked for long before its time."""
    asked, reports = [], []

    class Reader(ArrayClip):
        def frames_at(self, indices):
            for index in indices:
                asked.append(index)
                yield self.frames[index]

    stream = pipe.stream(Reader(clip(17)), CANVAS, seed=0, progress=lambda *report: reports.append(report))
    first = next(stream)
    assert reports[0] == (0, reports[-1][1], "reading") and reports[-1][0] < reports[-1][1]
    np.testing.assert_array_equal(np.stack([first, *stream]), result)
    assert reports[-1][0] == reports[-1][1]
    assert all(a[0] <= b[0] for a, b in itertools.pairwise(reports))


def test_sequential_plan(pipe, result):
    video = pipe(clip(17), CANVAS, seed=0, plan="sequential")
    np.testing.assert_array_equal(video[:, :, :27], clip(17))
    assert np.abs(sides(video) - sides(result)).max() > 1


def test_a_complete_canvas_returns_the_clip(pipe):
    np.testing.assert_array_equal(pipe(clip(2), Canvas.from_size(21, 27, 21, 27)), clip(2))


def test_frames_in_memory_stream_too(pipe, result):
    for frames in (clip(17), list(clip(17))):
        np.testing.assert_array_equal(next(pipe.stream(frames, CANVAS, seed=0)), result[0])
    np.testing.assert_array_equal(pipe(list(clip(17)), CANVAS, seed=0), result)


@pytest.mark.parametrize("call", ["__call__", "stream"])
@pytest.mark.parametrize(
    "frames, canvas, message",
    [
        (clip(2), 16 / 9, r"the canvas is 1.77.*Canvas.from_aspect"),
        (clip(2), (21, 42), "the canvas is"),
        (clip(2), None, "the canvas is None"),
        ("clip.mp4", CANVAS, "VideoReader"),
        (None, CANVAS, "uint8"),
        (3, CANVAS, "uint8"),
    ],
)
def test_what_is_no_clip_or_no_canvas_is_said(pipe, call, frames, canvas, message):
    with pytest.raises(UserError, match=message):
        getattr(pipe, call)(frames, canvas)


@pytest.mark.parametrize(
    "frames, options, message",
    [
        (clip(2), {"plan": "random"}, "no plan 'random'"),
        (clip(2), {"plan": []}, r"no plan \[\]"),
        (clip(2), {"prompt": "a cat"}, "cannot read a prompt"),
        (clip(2), {"sampler": "none"}, "no sampler"),
        (clip(2), {"sampler": "tcd", "eta": 1.5}, "eta is 1.5"),
        (clip(2), {"eta": 0.3}, "takes no eta"),
        (clip(2), {"sampler": "lcm", "steps": 51}, "50 steps at most"),
        *((clip(2), {"steps": steps}, "steps") for steps in (0, -1, 2.5, True, 10**6, float("nan"))),
        *((clip(2), {"guidance": scale}, "guidance is a finite") for scale in (float("nan"), float("inf"), "1", True)),
        (clip(2), {"text_guidance": -float("inf")}, "text_guidance is a finite"),
        *((clip(2), {"seed": seed}, "a seed is a whole number") for seed in (-1, 2**64, 1.0, True)),
        *((clip(2), {"overlap": wide}, "overlap is a whole number from 0 on") for wide in (-1, 1.5, "2", True)),
        *((clip(2), {"batch": many}, "batch is a whole number from 1 on") for many in (0, -1, 2.0)),
        ([clip(2)[0], clip(2)[0, 1:]], {}, "not of one size"),
        (clip(2)[:0], {}, "no frames"),
        (clip(2)[:, 1:], {}, "27x20"),
        (clip(2)[0], {}, "uint8"),
        (clip(2) / 255, {}, "uint8"),
    ],
)
def test_bad_requests(pipe, frames, options, message):
    with pytest.raises(UserError, match=message):
        pipe(frames, CANVAS, **options)


def test_seeds_that_agree_in_their_lower_half_are_others(pipe, result):
    assert np.abs(sides(pipe(clip(17), CANVAS, seed=2**32)) - sides(result)).max() > 1


@pytest.mark.parametrize("part, value", [("unet", np.nan), ("interpolation_unet", np.inf), ("vae", np.nan)])
def test_a_network_that_makes_no_numbers_is_refused(folder, part, value):
    pipe = OutpaintPipeline.from_pretrained(folder)
    network = getattr(pipe.checkpoint, part)
    convolution = network.decoder.conv_out if part == "vae" else network.conv_out
    convolution.bias[...] = convolution.bias[...].at[0].set(value)
    with pytest.raises(UserError, match=r"made NaN or infinity of the frames \d+ to \d+"):
        pipe(clip(17), CANVAS)
