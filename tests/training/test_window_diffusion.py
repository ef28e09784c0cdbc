"""What M3DDM's objective tells the network of a window, and what it does not."""

import dataclasses

import jax
import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.training.networks import initial
from gp_jax.training.setup import prepare
from tests.training import small
from tests.training.test_update import one_device

BATCH = small.windows(np.random.default_rng(0), rows=4)
MASK, KNOWN = BATCH["pixel_mask"], BATCH["known"]


@pytest.fixture(scope="module")
def run(m3ddm):
    return prepare(small.m3ddm("unused", m3ddm), one_device())


@pytest.fixture(scope="module")
def vae(run):
    return run.networks.bind(initial(run.networks, run.networks.configs, run.mesh))["vae"]


class Listener:
    """In M3DDM's place; predicts nothing, and keeps what it was told."""

    def encode_global(self, latents):
        self.clip = latents
        return latents

    def __call__(self, sample, timesteps, rates, tokens):
        self.noisy, self.condition, self.mask = sample[..., :4], sample[..., 4:8], sample[..., 8]
        self.timesteps, self.rates = timesteps, rates
        return 0 * self.noisy


def told(run, vae, batch=BATCH, **fields):
    """The listener, the losses and the draws."""
    objective, listener = dataclasses.replace(run.objective, **fields), Listener()

    def losses(batch):
        draws = objective.draw(jax.random.key(0), batch)
        found = objective.losses({"vae": vae, "m3ddm": listener}, batch, draws)
        return vars(listener), found, draws

    heard, found, draws = jax.device_get(jax.jit(losses)(batch))
    vars(listener).update(heard)
    return listener, found, draws


def test_the_loss_is_the_squared_error_of_the_noise_over_all_latents(run, vae):
    _, losses, draws = told(run, vae)
    np.testing.assert_allclose(losses, (draws["noise"] ** 2).mean(axis=(1, 2, 3, 4)), rtol=1e-5)


def test_a_window_is_told_its_rate_its_masks_and_its_complete_frames(run, vae):
    heard, _, draws = told(run, vae)
    np.testing.assert_array_equal(heard.rates, BATCH["rate"])
    expected = np.where(KNOWN[:, :, None, None], 0, BATCH["latent_mask"][:, None])
    np.testing.assert_array_equal(heard.mask, expected)
    alpha = run.schedule.add_noise(np.ones_like(draws["noise"]), np.zeros_like(draws["noise"]), draws["t"])
    sigma = run.schedule.add_noise(np.zeros_like(draws["noise"]), np.ones_like(draws["noise"]), draws["t"])
    clean = (heard.noisy - sigma * draws["noise"]) / alpha
    gentle = KNOWN & (draws["t"] < 500)[:, None]
    assert gentle.any()
    np.testing.assert_allclose(heard.condition[gentle], clean[gentle], atol=1e-3)
    assert np.abs(heard.condition - clean)[~KNOWN].mean() > 0.01


def test_what_is_to_be_made_is_told_nowhere_but_in_the_noisy_latents(run, vae):
    unknown = (MASK[:, None] == 1) & ~KNOWN[:, :, None, None]
    hidden = (MASK[:, None] == 1) & BATCH["clip_hidden"][:, :, None, None]
    other = BATCH | {
        "pixels": np.where(unknown[..., None], 255 - BATCH["pixels"], BATCH["pixels"]),
        "clip": np.where(hidden[..., None], 255 - BATCH["clip"], BATCH["clip"]),
    }
    (one, _, _), (two, _, _) = told(run, vae), told(run, vae, other)
    assert (one.noisy != two.noisy).any()
    for name in ("condition", "mask", "clip"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    seen, _, _ = told(run, vae, BATCH | {"clip": 255 - BATCH["clip"]})
    assert (one.clip != seen.clip).any(axis=(2, 3, 4)).all()


def test_dropped_conditions_are_the_branches_of_guidance(run, vae):
    """None: all. Global: latents that are zero. All: a black frame's latents beside, and the mask 1."""
    full, _, _ = told(run, vae)
    no_global, _, _ = told(run, vae, drop_global=1.0)
    no_all, _, _ = told(run, vae, drop_all=1.0)
    assert full.clip.any() and not no_global.clip.any() and not no_all.clip.any()
    np.testing.assert_allclose(no_global.condition, full.condition, atol=1e-5)
    np.testing.assert_array_equal(no_all.mask, np.broadcast_to(~KNOWN[:, :, None, None], no_all.mask.shape))
    np.testing.assert_allclose(no_all.condition[KNOWN], full.condition[KNOWN], atol=1e-5)
    changed, _, _ = told(run, vae, BATCH | {"pixels": 255 - BATCH["pixels"]}, drop_all=1.0)
    np.testing.assert_allclose(changed.condition[~KNOWN], no_all.condition[~KNOWN], atol=1e-5)
    half, _, draws = told(run, vae, drop_global=0.5, drop_all=0.25)
    dropped = draws["drop"] < 0.75
    np.testing.assert_array_equal(half.clip.any(axis=(1, 2, 3, 4)), ~dropped)


@pytest.mark.parametrize(
    "section, fields, sentence",
    [
        ("data", {"precomputed": True}, "precomputed must be False"),
        ("data", {"text": True}, "text must be False"),
        ("data", {"global_frames": 0}, "global_frames must be more than 0"),
        ("objective", {"drop_global": 0.7, "drop_all": 0.4}, r"add up to 1\.1"),
    ],
)
def test_what_does_not_go_together_is_refused(section, fields, sentence):
    config = small.m3ddm("unused")
    config[section].update(fields)
    with pytest.raises(UserError, match=sentence):
        prepare(config, one_device())


def test_only_m3ddm_reads_whole_frames():
    config = small.config("keyframes", "unused")
    config.data.global_frames = 4
    with pytest.raises(UserError, match="global_frames must be 0 in the stage keyframes"):
        prepare(config, one_device())
