"""Runs of all stages, from records to videos: what stops them, and that stopping leaves no trace."""

import dataclasses
import os
import signal
import threading
import time

import jax
import numpy as np
import pytest

from gp_jax.checkpoint.components import WEIGHTS_FILE
from gp_jax.checkpoint.tensors import read_tensors
from gp_jax.errors import Stopped, UserError
from gp_jax.files import locked, read_json
from gp_jax.geometry import Canvas
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.training import loop
from gp_jax.training.log import read_log
from gp_jax.training.loop import train
from gp_jax.training.samples import sample_file
from tests import small_networks
from tests.training import small
from tests.training.test_update import one_device

TIMES = ("seconds_per_step", "flops_per_second")
VIDEO = {"temporal": True, "window": (2, 2, 2), "global_tokens": True, "est_multiplier": 1}


def run(config, workdir, **options):
    return train(config, workdir, mesh=one_device(), **options)


def lines(workdir):
    """The log without what depends on the clock."""
    return [{name: x for name, x in line.items() if name not in TIMES} for line in read_log(workdir)]


def parameters(folder, component):
    return {name: np.asarray(x) for name, x in read_tensors(folder / component / WEIGHTS_FILE).items()}


@pytest.fixture(scope="module")
def autoencoder(records):
    return lambda **fields: small.autoencoder(records, **fields)


@pytest.fixture(scope="module")
def uninterrupted(autoencoder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted")
    config = autoencoder()
    config.validation = {"interval": 3, "batches": 2}
    assert run(config, workdir)
    return workdir


def test_a_second_run_in_one_folder_is_refused_and_touches_nothing(autoencoder, tmp_path):
    with locked(tmp_path), pytest.raises(UserError, match=f"{tmp_path} is in use by process"):
        run(autoencoder(), tmp_path)
    assert not os.listdir(tmp_path)


def test_four_stages_end_in_a_video(records, uninterrupted, tmp_path):
    """Each stage starts from the one before; the loss of a longer run falls in test_overfit.py."""
    networks = small.NETWORKS | {"unet": small.IMAGE_UNET}
    origin, seen = uninterrupted / "checkpoint", {}
    schedule = dataclasses.asdict(small_networks.SCHEDULE)
    for stage in ("image", "keyframes", "interpolation"):
        config = small.config(stage, records, origin, steps=2, schedule=schedule)
        config.networks = {name: networks[name].to_json() for name in config.networks}
        config.settings = {"native_area": 16 * 24, "segment_frames": small.FRAMES, "steps": 2, "text_guidance": 1.0}
        if stage == "keyframes":
            config.changes.unet = VIDEO
            config.optimizer.groups = (("vae", 0.0), (small.UNTRAINED, 0.0))
        workdir = tmp_path / stage
        assert run(config, workdir)
        origin = workdir / "checkpoint"
        seen[stage] = set(os.listdir(origin)) - {"config.json", "scheduler"}
        assert all(np.isfinite(line["loss"]) for line in lines(workdir))
    assert seen["image"] == {"unet", "vae"} and seen["keyframes"] == seen["image"] | {"clip", "global_tokens"}
    assert seen["interpolation"] == seen["keyframes"] | {"interpolation_unet"}

    # What a stage does not train, it hands on as it is.
    for component in ("vae", "clip", "global_tokens", "unet"):
        before = parameters(tmp_path / ("image" if component == "vae" else "keyframes") / "checkpoint", component)
        jax.tree.map(np.testing.assert_array_equal, before, parameters(origin, component))
    frames = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    video = OutpaintPipeline.from_pretrained(origin)(frames, Canvas.from_size(16, 16, 16, 24))
    assert video.shape == (5, 16, 24, 3)
    np.testing.assert_array_equal(video[:, :, 4:20], frames)


def test_latents_leave_the_autoencoder_with_unit_deviation(uninterrupted):
    config = read_json(uninterrupted / "checkpoint" / "vae" / "config.json")
    assert config["scaling_factor"] != small.NETWORKS["vae"].scaling_factor


def test_sigterm_saves_and_the_run_goes_on_as_if_nothing_had_happened(autoencoder, uninterrupted, tmp_path):
    def stop(line):
        if line["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    config = autoencoder()
    config.validation = {"interval": 3, "batches": 2}
    assert not run(config, tmp_path, show=stop)
    stopped = max(int(name) for name in os.listdir(tmp_path / "state"))
    assert 2 < stopped < config.steps and lines(tmp_path)[-1]["step"] <= stopped
    assert not (tmp_path / "checkpoint").exists()
    assert run(config, tmp_path)
    assert lines(tmp_path) == lines(uninterrupted)
    jax.tree.map(
        np.testing.assert_array_equal,
        parameters(tmp_path / "checkpoint", "vae"),
        parameters(uninterrupted / "checkpoint", "vae"),
    )
    assert any("validation_loss" in line for line in lines(tmp_path))


def test_a_finished_run_only_writes_its_checkpoint_again(autoencoder, uninterrupted):
    before, log = parameters(uninterrupted / "checkpoint", "vae"), lines(uninterrupted)
    labels = set()
    assert run(autoencoder(), uninterrupted, progress=lambda done, total, label: labels.add(label))
    assert not any(label.startswith("compiling") for label in labels) and lines(uninterrupted) == log
    jax.tree.map(np.testing.assert_array_equal, before, parameters(uninterrupted / "checkpoint", "vae"))


def test_a_run_of_more_steps_is_not_told_as_one_of_fewer(autoencoder, uninterrupted):
    with pytest.raises(UserError, match=r"was trained for 6 steps, .* give 6 or more"):
        run(autoencoder(steps=5), uninterrupted)


def test_samples_and_the_evaluation_come_at_their_interval(records, checkpoint, tmp_path):
    config = small.config("keyframes", records, checkpoint, steps=2)
    config.samples = {"interval": 2, "clip": "sample:carphone", "aspect": 4.0, "frames": 3}
    found = []
    assert run(config, tmp_path, evaluate=lambda folder, step: found.append(folder) or {"psnr": 12.5})
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["0000002.mp4"]
    assert found == [tmp_path / "checkpoint"] and lines(tmp_path)[-1] == {"step": 2, "psnr": 12.5}


def test_a_sample_that_fails_costs_no_training_and_is_made_later(records, checkpoint, tmp_path, monkeypatch):
    config = small.config("keyframes", records, checkpoint, steps=3)
    config.samples = {"interval": 2, "clip": "sample:carphone", "aspect": 4.0, "frames": 3}

    def fail(*_):
        raise UserError("no room")

    def sample(folder, workdir, step, _):
        assert (folder / "unet").is_dir() and (workdir / "state" / str(step)).is_dir()
        sample_file(workdir, step).parent.mkdir()
        sample_file(workdir, step).touch()

    monkeypatch.setattr(loop, "write_sample", fail)
    with pytest.raises(UserError, match="step 2 is saved, but its sample failed: no room"):
        run(config, tmp_path, evaluate=lambda *_: {"psnr": 12.5})
    monkeypatch.setattr(loop, "write_sample", sample)
    for _ in range(2):
        assert run(config, tmp_path, evaluate=lambda *_: {"psnr": 12.5})
    seen = [(line["step"], "psnr" in line) for line in lines(tmp_path)]
    assert seen == [(1, False), (2, False), (2, True), (3, False)]


def test_another_batch_size_goes_on_with_the_next_examples(tmp_path, size=3):
    """Frames of two sizes take turns, by the number of the example."""
    folders = [tmp_path / "wide", tmp_path / "tall"]
    for folder, frame in zip(folders, (small.SIZE, (24, 16))):
        folder.mkdir()
        small.write_records(folder, size=frame)
    seen = []

    def config(steps, **fields):
        made = small.autoencoder(folders[0], steps=steps, **fields)
        made.data.records = tuple(map(str, folders))
        return made

    assert run(config(3), tmp_path / "run")
    assert run(config(6, batch_size=size), tmp_path / "run", show=seen.append)
    assert [line["step"] for line in seen] == [4, 5, 6] and all(np.isfinite(line["loss"]) for line in seen)
    state = read_json(tmp_path / "run" / "state" / "6" / "meta" / "metadata")
    assert state["data"] == {"examples": 3 * small.BATCH + 3 * size}


@pytest.mark.parametrize(
    "sent, words", [(signal.SIGTERM, "SIGTERM before its first"), (signal.SIGINT, "Ctrl-C before")]
)
def test_a_signal_is_heard_while_the_step_compiles(autoencoder, tmp_path, monkeypatch, sent, words):
    went_on, sent_at = threading.Event(), []

    def compile_for_long(*_):
        sent_at.append(time.monotonic())
        os.kill(os.getpid(), sent)
        went_on.wait(100)

    monkeypatch.setattr(loop, "compile_step", compile_for_long)
    with pytest.raises(Stopped, match=words):
        run(autoencoder(), tmp_path)
    assert time.monotonic() - sent_at[0] < 20
    went_on.set()


def test_too_many_steps_that_are_not_finite_end_the_run(autoencoder, tmp_path):
    config = autoencoder(max_nonfinite=1)
    config.objective.jitter = 3e38  # its noise overflows
    with pytest.raises(UserError, match="steps had a loss or a gradient that was not finite"):
        run(config, tmp_path)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"microbatches": 3}, "must divide into microbatches"),
        ({"steps": 0}, "from 1 to"),
        ({"dtype": "float8"}, "must be one of float32, bfloat16"),
        ({"samples": {"interval": 1}}, "makes no clips"),
        ({"init_from": "nowhere"}, "no checkpoint nowhere"),
        ({"mesh": "data=5"}, "does not fit the 8 devices"),
    ],
)
def test_contradictions_are_told_before_the_work_begins(autoencoder, tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        train(autoencoder(**fields), tmp_path)
