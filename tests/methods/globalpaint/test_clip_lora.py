"""A LoRA of the clip changes the clip, and nothing else; it is of its seed, goes on after a kill, and can be kept."""

import logging
import shutil

import jax
import numpy as np
import pytest

from gp_jax.checkpoint.parameters import digest, flatten
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods import adaptation
from gp_jax.methods.globalpaint.clip_lora import LABELS, RANK
from gp_jax.methods.globalpaint.method import GlobalPaint
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.methods.method import ArrayClip
from gp_jax.parallel import make_mesh
from tests import small_networks

CANVAS = Canvas.from_pads(21, 27, 8, 7, 0, 0)
FRAMES = np.random.default_rng(0).integers(0, 256, (9, 21, 27, 3), np.uint8)
ADAPT = {"adapt": 12, "adapt_rate": 1e-2, "seed": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_networks.write(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def pipe(folder):
    return OutpaintPipeline.from_pretrained(folder)


def prepare(pipe, work=None, frames=FRAMES, **options):
    return pipe.prepare(ArrayClip(frames), CANVAS, Options(**ADAPT | options), work)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return tmp_path_factory.mktemp("saved") / "mine" / "clip.safetensors"


@pytest.fixture(scope="module")
def adapted(pipe, saved):
    """The job of an adapted clip, its frames, and what it told."""
    job, told = prepare(pipe, save_lora=str(saved)), []
    return job, np.stack(list(job.frames(lambda *report: told.append(report)))), told


def test_of_several_loras_none_is_kept(pipe, tmp_path):
    wishes = {**ADAPT, "save_lora": str(tmp_path / "one.safetensors")}
    for call in (pipe, pipe.stream):
        with pytest.raises(UserError, match="each clip with each seed, 2 in all, and only one can be kept"):
            call([FRAMES, FRAMES], CANVAS, **wishes)
    with pytest.raises(UserError, match="4 in all"):
        pipe([FRAMES, FRAMES], CANVAS, **wishes | {"seed": [1, 2]})
    with pytest.raises(UserError, match="save_lora is of a LoRA"):
        pipe([FRAMES, FRAMES], CANVAS, save_lora="a")
    assert not [*tmp_path.iterdir()]


def test_it_changes_the_clip_and_not_the_pipeline(pipe, adapted):
    job, frames, told = adapted
    plain = pipe(FRAMES, CANVAS, seed=3)
    np.testing.assert_array_equal(frames[(slice(None), *CANVAS.observed)], FRAMES)
    assert np.abs(frames.astype(int) - plain).max() > 3
    for name, network in zip(LABELS, job.lora.networks):
        before = flatten(getattr(pipe.checkpoint, name))
        changed = {key for key, x in flatten(network).items() if x is not before[key]}
        assert changed == {f"{update.rpartition('.lora_')[0]}.kernel" for update in job.lora.fitted[name].updates}
        assert any("space_time" in key for key in changed) and any("spatial" in key for key in changed)
        losses = job.lora.fitted[name].losses
        assert losses.shape == (12,) and losses[-4:].mean() < losses[:4].mean()
        assert (12, 12, LABELS[name]) in told
        assert {min(x.shape) for x in job.lora.fitted[name].updates.values()} == {RANK}
    np.testing.assert_array_equal(pipe(FRAMES, CANVAS, seed=3), plain)


def test_what_was_kept_gives_the_same_clip(folder, adapted, saved):
    other = OutpaintPipeline.from_pretrained(folder, lora=saved)
    np.testing.assert_array_equal(other(FRAMES, CANVAS, seed=3), adapted[1])
    for name, network in zip(LABELS, adapted[0].lora.networks):
        assert digest(getattr(other.checkpoint, name)) == digest(network)


def test_examples_show_observed_pixels_alone_at_the_strides_of_the_plan(adapted):
    lora = adapted[0].lora
    height, width = lora.shape[:2]
    assert abs(np.log(width / height * 21 / 27)) < 0.2 and 700 < height * width < 1400
    keyframes, between = (lora.examples[name] for name in LABELS)
    assert [config.strides for config in keyframes] == [(3,)] and [config.known for config in between] == ["ends"]
    assert set(between[0].strides) == {1}
    pictures = type(
        "Pictures", (), {"num_frames": 9, "read": lambda self, at: np.full((len(at), *lora.shape), 7, np.uint8)}
    )
    for step in range(3):
        batch = lora._batch(pictures(), "unet", step)
        assert set(batch["t"]) <= set(lora.timesteps) and len(lora.timesteps) == 2
        assert (batch["pixels"] == 7).all() and 0 < batch["pixel_mask"].mean() < 1
        assert {name: x.shape for name, x in batch.items()} == {
            name: x.shape for name, x in lora.adaptations["unet"].shapes.items()
        }


@pytest.mark.parametrize("moment", [("adapting key frames", 5), ("adapting interpolation", 7), ("key frames", 1)])
def test_a_job_that_was_stopped_goes_on(pipe, adapted, moment, tmp_path, monkeypatch):
    monkeypatch.setattr(adaptation, "SECONDS", -1.0)
    told = []

    def stop(done, total, label):
        if (label, done) == moment:
            raise KeyboardInterrupt
        told.append((label, done))

    with pytest.raises(KeyboardInterrupt):
        list(prepare(pipe, tmp_path).frames(stop))
    with pytest.raises(UserError, match="was begun with adapt 12, not 13"):
        prepare(pipe, tmp_path, adapt=13)
    job = prepare(pipe, tmp_path)
    left = {cost.name: cost.times for cost in job.costs if "adapt" in cost.name}
    assert left["adapt-unet"] == {"adapting key frames": 8}.get(moment[0], 0)
    assert left["adapt-interpolation_unet"] == {"adapting key frames": 12, "adapting interpolation": 6}.get(
        moment[0], 0
    )
    np.testing.assert_array_equal(list(job.frames()), adapted[1])
    for name, fitted in job.lora.fitted.items():
        np.testing.assert_array_equal(fitted.losses, adapted[0].lora.fitted[name].losses)
        for key, x in fitted.updates.items():
            np.testing.assert_array_equal(x, adapted[0].lora.fitted[name].updates[key])


def test_another_clip_compiles_nothing(pipe, adapted, caplog):
    job = prepare(pipe, frames=255 - FRAMES, adapt=2, seed=4)
    assert job.estimate.seconds > 0
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        list(job.frames())
    compiled = [record.message for record in caplog.records if "Compiling" in record.message]
    assert not [line for line in compiled if "update" in line or "make_segments" in line], compiled


@pytest.mark.slow
def test_a_mesh_makes_the_same(folder, adapted):
    mesh = make_mesh("data=2,context=2", jax.devices()[:4])
    job = prepare(OutpaintPipeline.from_pretrained(folder, mesh), adapt=3)
    frames = np.stack(list(job.frames()))
    for name, fitted in job.lora.fitted.items():
        np.testing.assert_allclose(fitted.losses, adapted[0].lora.fitted[name].losses[:3], rtol=1e-3)
    assert np.isfinite(frames).all() and job.lora.networks[0].conv_in.kernel.get_value().sharding.mesh == mesh


def test_one_network_for_both_gets_one_lora_and_a_short_clip_will_do(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "one")
    shutil.rmtree(tmp_path / "one" / "interpolation_unet")
    pipe = OutpaintPipeline.from_pretrained(tmp_path / "one")
    both = prepare(pipe, adapt=2)
    assert [config.known for config in both.lora.examples["unet"]] == ["none", "ends"]
    short = prepare(pipe, frames=FRAMES[:2], adapt=2, save_lora=str(tmp_path / "short.safetensors"))
    made = list(short.frames())
    assert short.lora.fitted.keys() == {"unet"} and short.lora.networks[0] is short.lora.networks[1]
    again = OutpaintPipeline.from_pretrained(tmp_path / "one", lora=tmp_path / "short.safetensors")
    np.testing.assert_array_equal(again(FRAMES[:2], CANVAS, seed=3), made)


@pytest.mark.parametrize(
    ("options", "canvas", "sentence"),
    [
        ({"adapt": -1}, CANVAS, "adapt is a number of steps from 1 on"),
        ({"adapt_rate": 0.0}, CANVAS, "one above 0, not 12 and 0.0"),
        ({"adapt_rate": "x"}, CANVAS, "one above 0, not 12 and 'x'"),
        ({"adapt": None}, CANVAS, "adapt_rate is of a LoRA that is fitted to the clip, and none is"),
        ({"adapt": None, "adapt_rate": None, "save_lora": "a"}, CANVAS, "save_lora is of a LoRA"),
        ({}, Canvas.from_pads(21, 27, 0, 0, 0, 0), "the clip fills its canvas of 27x21 pixels"),
        ({}, Canvas.from_pads(15, 27, 8, 8, 8, 8), "27x15 pixels, too few to learn from: adapt takes 16 at least"),
        ({"save_lora": "/"}, CANVAS, "cannot write /: it is a folder"),
        ({"save_lora": __file__ + "/a"}, CANVAS, "cannot write .*Not a directory"),
    ],
)
def test_what_cannot_be_done_is_told_before(pipe, options, canvas, sentence):
    frames = np.zeros((9, canvas.source_height, canvas.source_width, 3), np.uint8)
    with pytest.raises(UserError, match=sentence):
        pipe.prepare(ArrayClip(frames), canvas, Options(**ADAPT | options))


def test_a_lora_beside_the_weights_is_refused(folder, adapted, saved):
    pipe = OutpaintPipeline.from_pretrained(folder, lora=saved, fuse_lora=False)
    with pytest.raises(UserError, match="merge it"):
        prepare(pipe)


def test_settings_tell_of_it(folder):
    assert GlobalPaint(folder).settings(Options(**ADAPT))["adapt"] == 12
