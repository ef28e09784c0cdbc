"""A pupil learns where a step of its teacher's path leads, and of the teacher alone at the path's end."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gp_jax.checkpoint.components import WEIGHTS_FILE
from gp_jax.checkpoint.tensors import read_tensors
from gp_jax.diffusion.samplers import trajectory
from gp_jax.errors import UserError
from gp_jax.files import write_json
from gp_jax.training.adapter import LORA
from gp_jax.training.loop import train
from gp_jax.training.networks import TEACHER, check_sources
from gp_jax.training.setup import prepare
from tests.training import small
from tests.training.test_update import one_device

BATCH = small.batch(np.random.default_rng(1), rows=4)
STEPS = 50


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    folder = small.make_checkpoint(tmp_path_factory.mktemp("origin"))
    shutil.copytree(folder / "unet", folder / "interpolation_unet", dirs_exist_ok=True)
    return folder


def pupil_of(origin, records="unused", **objective):
    config = small.config("keyframes", records, origin)
    config.objective.update({"teacher_steps": STEPS, **objective})
    return config


@pytest.fixture(scope="module")
def objective(origin):
    made = prepare(pupil_of(origin), one_device()).objective
    return dataclasses.replace(made, guidance=(1.0, 3.0), drop_text=0.0, drop_tokens=0.0, drop_both=0.0)


class Guess:
    """A network whose prediction means the clean latent `value`, the mean of the text added."""

    def __init__(self, schedule, value):
        self.schedule, self.value, self.seen = schedule, value, []

    def __call__(self, sample, t, text, tokens, frames):
        noisy = sample[..., :4]
        self.seen.append(noisy)
        clean = self.value + jnp.mean(text, axis=(1, 2))[:, None, None, None, None] + jnp.zeros_like(noisy)
        return self.schedule.target(clean, self.schedule.to_noise(clean, noisy, t), t)


def conditions_of(objective, t, text):
    """Conditions without networks, and draws; all that the batch decides is there."""
    shape = (4, *BATCH["frames"].shape[1:], *BATCH["latent_mask"].shape[1:])
    clean, noise = np.random.default_rng(0).normal(size=(2, *shape, 4)).astype(np.float32)
    batch = BATCH | {"latents": clean, "masked_latents": clean, "text": np.full((4, 1, 16), text, np.float32)}
    draws = {"noise": noise, "t": jnp.full(4, t, jnp.int32), "drop": jax.random.split(jax.random.key(0), 4)}
    return batch, draws


def loss(objective, teacher, student, t, text=0.0):
    batch, draws = conditions_of(objective, t, text)
    networks = {TEACHER: Guess(objective.schedule, teacher), objective.denoiser: Guess(objective.schedule, student)}
    losses = objective.losses(networks, batch, draws)
    return np.asarray(losses), networks, draws | {"clean": batch["latents"]}


def test_only_at_the_end_does_the_teacher_say_what_is_right(objective):
    assert np.allclose(loss(objective, 0.5, 0.5, 19)[0], 0, atol=2e-4)
    np.testing.assert_allclose(loss(objective, 0.5, 1.5, 19)[0], 1.0, rtol=0.01)
    for t in (39, 499, 999):  # there it is the pupil itself, one step further
        assert np.allclose(loss(objective, 0.5, 1.5, t)[0], 0, atol=2e-4)


def test_the_teacher_is_guided_as_its_checkpoint_says(objective):
    # Without a prompt its clean latent is 0.5, with it 0.7; a weight of 3 makes 0.5 + 3 * 0.2 of it.
    np.testing.assert_allclose(loss(objective, 0.5, 1.5, 19, text=0.2)[0], 1.7 - 1.1, rtol=0.01)


def test_the_pupil_is_asked_where_a_step_of_ddim_leads(objective):
    _, networks, draws = loss(objective, 0.5, 0.5, 499)
    schedule = dataclasses.replace(objective.schedule, timestep_spacing="trailing")
    row = next(row for row in zip(*trajectory(schedule, "ddim", STEPS).steps[:-1]) if row[0] == 499)
    noisy = objective.schedule.add_noise(draws["clean"], draws["noise"], draws["t"])
    led = row[3] * noisy + row[4] * 0.5
    first, second = networks[objective.denoiser].seen
    np.testing.assert_allclose(first, led, atol=1e-5)
    np.testing.assert_allclose(second, noisy, atol=1e-6)


def test_times_lie_on_the_teachers_path(objective):
    times = jnp.concatenate([objective.draw(jax.random.key(n), BATCH)["t"] for n in range(30)])
    assert set(np.asarray(times) % 20) == {19} and times.max() == 999 and times.min() < 100


def test_a_pupil_alone_is_trained_and_nothing_else_of_the_checkpoint_changes(records, origin, tmp_path):
    config = pupil_of(origin, records)
    config.settings.update({"sampler": "lcm", "steps": 4})
    run = prepare(config, one_device())
    assert run.networks.live == ("unet",) and TEACHER in run.networks.frozen
    assert train(config, tmp_path, mesh=one_device())
    out = tmp_path / "checkpoint"
    assert {path.name for path in out.iterdir() if path.is_dir()} == {p.name for p in origin.iterdir() if p.is_dir()}
    for part in ("vae", "clip", "global_tokens", "interpolation_unet"):
        assert (out / part / WEIGHTS_FILE).read_bytes() == (origin / part / WEIGHTS_FILE).read_bytes()
    before, after = (read_tensors(folder / "unet" / WEIGHTS_FILE) for folder in (origin, out))
    assert any((np.asarray(before[name]) != np.asarray(after[name])).any() for name in before)


def test_a_lora_can_be_the_pupil(origin):
    config = pupil_of(origin)
    config.adapter.rank, config.optimizer.groups = 2, ()
    networks = prepare(config, one_device()).networks
    assert networks.live == (LORA,) and {TEACHER, "unet"} <= set(networks.frozen)


def test_what_has_no_teacher_is_refused(origin, tmp_path):
    with pytest.raises(UserError, match="teacher_steps is 7"):
        prepare(pupil_of(origin, teacher_steps=7), one_device())
    config = pupil_of("")
    config.networks = {name: small.NETWORKS[name].to_json() for name in config.networks}
    networks = prepare(config, one_device()).networks
    with pytest.raises(UserError, match="come from a checkpoint"):
        check_sources(networks, networks.frozen)
    shutil.copytree(origin, tmp_path / "motia")
    write_json(tmp_path / "motia" / "config.json", {"method": "motia"})
    with pytest.raises(UserError, match="motia is one of motia: set it to 0"):
        prepare(pupil_of(tmp_path / "motia"), one_device())
