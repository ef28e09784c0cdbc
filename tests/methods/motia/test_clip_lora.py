"""A LoRA of the clip: where it lies, what is hidden from it, and that it is kept, resumed and given again."""

import jax
import numpy as np
import pytest

from gp_jax.checkpoint import parameters
from gp_jax.convert.known import KNOWN
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods import adaptation
from gp_jax.methods.method import ArrayClip
from gp_jax.methods.motia.clip_lora import first_updates, hidden_sides
from gp_jax.methods.motia.options import Options
from gp_jax.methods.motia.pipeline import Model
from gp_jax.models.unet import UNet
from tests import small_motia

CANVAS = Canvas.from_size(27, 18, 27, 27, anchor="left")
CLIP = ArrayClip(np.random.default_rng(0).integers(0, 256, (4, 3, 2, 3), np.uint8).repeat(9, 1).repeat(9, 2))
OPTIONS = {"steps": 2, "regret": 0, "adapt": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_motia.write(tmp_path_factory.mktemp("motia") / "ours")


@pytest.fixture(scope="module")
def model(folder):
    return Model.from_pretrained(folder)


def test_it_has_the_published_size():
    updates = first_updates(parameters.abstract(UNet, KNOWN["motia"]["unet"]), 0)
    assert len(updates) == 2 * 21 * (2 * 3 + 2) and sum(x.size for x in updates.values()) == 7_854_080


def test_of_each_side_a_part_of_its_own_is_hidden():
    hidden = np.stack([hidden_sides(jax.random.key(seed), (50, 100)) for seed in range(100)])
    known = ~hidden
    rows, columns = known.any(axis=2), known.any(axis=1)
    np.testing.assert_array_equal(known, rows[:, :, None] & columns[:, None])
    before = np.stack(
        [rows.argmax(1) / 50, rows[:, ::-1].argmax(1) / 50, columns.argmax(1) / 100, columns[:, ::-1].argmax(1) / 100]
    )
    assert before.min() >= 0 and 0.35 < before.max() < 0.4 and (np.abs(before.mean(axis=1) - 0.2) < 0.05).all()
    assert np.abs(np.corrcoef(before) - np.eye(4)).max() < 0.4


def test_it_is_kept_and_given_again(folder, model, tmp_path):
    file = tmp_path / "clip.safetensors"
    job = model.prepare(CLIP, CANVAS, Options(**OPTIONS, save_lora=str(file)))
    reports = []
    made = np.stack(list(job.frames(lambda *report: reports.append(report))))
    assert (6, 6, "adapting") in reports
    without = np.stack(list(model.prepare(CLIP, CANVAS, Options(**OPTIONS | {"adapt": 0})).frames()))
    again = Model.from_pretrained(folder, lora=file)
    given = np.stack(list(again.prepare(CLIP, CANVAS, Options(**OPTIONS | {"adapt": None})).frames()))
    assert np.abs(made.astype(int) - given).max() <= 1 < np.abs(made.astype(int) - without).max()
    with pytest.raises(UserError, match="one was given by --lora"):
        again.prepare(CLIP, CANVAS, Options(**OPTIONS))
    with pytest.raises(UserError, match="save_lora is of a LoRA"):
        again.prepare(CLIP, CANVAS, Options(save_lora=str(file)))


def test_a_fit_that_was_killed_ends_with_the_same_bits(model, tmp_path, monkeypatch):
    monkeypatch.setattr(adaptation, "SECONDS", 0.0)

    class Stopped(Exception):
        pass

    def stop(done, total, label):
        if (done, label) == (4, "adapting"):
            raise Stopped

    whole = model.prepare(CLIP, CANVAS, Options(**OPTIONS), tmp_path / "whole")
    frames = list(whole.frames())
    with pytest.raises(Stopped):
        list(model.prepare(CLIP, CANVAS, Options(**OPTIONS), tmp_path / "work").frames(stop))
    job = model.prepare(CLIP, CANVAS, Options(**OPTIONS), tmp_path / "work")
    assert job._fitting()[-1].times in (2, 3)
    np.testing.assert_array_equal(list(job.frames()), frames)
    one, two = (next((tmp_path / name).glob("motia adapt-*")).name for name in ("whole", "work"))
    assert one == two  # it ends with the hash of what is in it


def test_it_learns_the_clip(model):
    """Seen through the loss: the mean over the last steps is below that of the first ones."""
    job = model.prepare(CLIP, CANVAS, Options(**OPTIONS | {"adapt": 60}))
    losses = job.lora.adaptation.run(lambda _: job.lora._batch).losses
    assert np.isfinite(losses).all() and losses[-20:].mean() < losses[:20].mean()
