"""Both paths of the data give one loss, and what is dropped is dropped."""

import dataclasses
import filecmp

import jax
import numpy as np
import pytest
from flax import nnx

from gp_jax.convert.run import convert
from gp_jax.errors import UserError
from gp_jax.methods.globalpaint import objective
from gp_jax.methods.latents import encode
from gp_jax.methods.placement import to_float
from gp_jax.metrics.i3d import load_i3d
from gp_jax.metrics.perceptual import load_lpips
from gp_jax.metrics.pixels import ssim_frames
from gp_jax.models.autoencoder import AutoencoderConfig
from gp_jax.models.clip import MEAN, STD
from gp_jax.models.discriminator import Discriminator, DiscriminatorConfig
from gp_jax.training.loop import train
from gp_jax.training.networks import initial
from gp_jax.training.objectives import Reconstruction
from gp_jax.training.setup import prepare
from tests.training import small
from tests.training.test_update import one_device

BATCH = small.batch(np.random.default_rng(1), rows=4)
WITH_TEXT = BATCH | {"text": np.random.default_rng(2).normal(size=(4, 1, 16)).astype(np.float16)}


@pytest.fixture(scope="module")
def run(checkpoint):
    return prepare(small.config("keyframes", "unused", checkpoint), one_device())


@pytest.fixture(scope="module")
def networks(run):
    return run.networks.bind(initial(run.networks, run.networks.configs, run.mesh))


def losses(run, networks, batch, **fields):
    objective = dataclasses.replace(run.objective, **fields)
    draws = objective.draw(jax.random.key(0), batch)
    return np.asarray(jax.jit(lambda batch: objective.losses(networks, batch, draws))(batch))


def test_precomputed_latents_and_features_give_the_loss_of_the_raw_pixels(run, networks):
    raw = losses(run, networks, BATCH)
    pixels = to_float(BATCH["pixels"])
    observed = np.where(BATCH["pixel_mask"][:, None, :, :, None] == 0, pixels, 0)
    views = (BATCH["views"] / np.float32(255) - np.array(MEAN)) / np.array(STD)
    features = networks["clip"](views.reshape(-1, *views.shape[2:]).astype(np.float32))
    precomputed = {name: x for name, x in BATCH.items() if name not in ("pixels", "views")} | {
        "latents": np.asarray(encode(networks["vae"], pixels)),
        "masked_latents": np.asarray(encode(networks["vae"], observed)),
        "features": np.asarray(features).reshape(4, 2, 4, 16),
    }
    np.testing.assert_allclose(losses(run, networks, precomputed), raw, rtol=1e-4)
    halves = {name: x.astype(np.float16) if x.dtype == np.float32 else x for name, x in precomputed.items()}
    np.testing.assert_allclose(losses(run, networks, halves), raw, rtol=0.02)


def test_precomputed_latents_are_refused_by_a_network_that_wants_no_grey(checkpoint):
    config = small.config("keyframes", "unused", checkpoint)
    config.changes.unet = {"masked_fill": "edge"}
    config.data.precomputed = True
    with pytest.raises(UserError, match="masked_fill='edge'"):
        prepare(config, one_device())


def test_dropped_conditions_do_not_matter(run, networks):
    never = {"drop_text": 0.0, "drop_tokens": 0.0, "drop_both": 0.0}
    other_text = WITH_TEXT | {"text": -WITH_TEXT["text"]}
    other_views = WITH_TEXT | {"views": 255 - WITH_TEXT["views"]}
    for fields, text_matters, views_matter in (
        (never, True, True),
        (never | {"drop_text": 1.0}, False, True),
        (never | {"drop_tokens": 1.0}, True, False),
        (never | {"drop_both": 1.0}, False, False),
    ):
        base, text, views = (losses(run, networks, x, **fields) for x in (WITH_TEXT, other_text, other_views))
        assert (base != text).all() == text_matters and (base == text).all() != text_matters
        assert (base != views).all() == views_matter and (base == views).all() != views_matter


def test_how_frames_look_is_compared_where_they_are_made(run, networks, monkeypatch):
    """Observed pixels and known frames are true, whatever the network predicts."""
    compared = []

    def distance(truth, made, side=None):
        compared.append((truth, made))
        return np.abs(truth - made).mean(axis=tuple(range(1, truth.ndim)))

    monkeypatch.setattr(objective, "lpips_distance", distance)
    monkeypatch.setattr(objective, "i3d_distance", distance)
    draws = run.objective.draw(jax.random.key(0), BATCH)
    plain, perceptual, structural, flicker, video = (
        dataclasses.replace(run.objective, **terms).losses(networks, BATCH, draws)
        for terms in ({}, {"perceptual": 0.5}, {"structural": 0.5}, {"flicker": 3.0}, {"video": 2.0})
    )
    (truth, made), videos = compared
    error = np.asarray(made - truth).reshape(BATCH["pixels"].shape)
    np.testing.assert_array_equal(np.asarray(truth).reshape(error.shape), to_float(BATCH["pixels"]))
    unknown = (BATCH["pixel_mask"][:, None] * ~BATCH["known"][:, :, None, None]).astype(bool)
    assert (error[~unknown] == 0).all() and np.abs(error[unknown]).mean() > 0.1
    np.testing.assert_array_equal(videos, np.stack((truth, made)).reshape(2, *error.shape))
    np.testing.assert_allclose(video - plain, 2.0 * np.abs(error).mean(axis=(1, 2, 3, 4)), rtol=1e-4)
    np.testing.assert_allclose(perceptual - plain, 0.5 * np.abs(error).mean(axis=(1, 2, 3, 4)), rtol=1e-4)
    similarity = ssim_frames(*videos).values  # the metric itself, which is the mean of the map
    assert 0 < similarity.min() < 0.9
    np.testing.assert_allclose(structural - plain, 0.5 * (1 - similarity).mean(axis=1), rtol=1e-4)
    change = np.abs(error[:, 1:] - error[:, :-1])
    np.testing.assert_allclose(flicker - plain, 3.0 * change.mean(axis=(1, 2, 3, 4)), rtol=1e-4)


def test_each_side_of_the_game_moves_its_own_alone():
    """The maker is told to go where the discriminator would call it true, which learns to tell the two apart."""
    critic = Discriminator(DiscriminatorConfig((4, 4)), rngs=nnx.Rngs(0))
    graph, weights = nnx.split(critic)
    rng = np.random.default_rng(0)
    truth, made = rng.uniform(-1, 1, (2, 2, 3, 16, 16, 3)).astype(np.float32)
    unknown = np.zeros(truth.shape[:4], np.float32)
    unknown[..., 8:] = 1

    def game(side):
        def loss(weights, made):
            return objective.adversary(nnx.merge(graph, weights), truth, made, unknown)[side].sum()

        return jax.grad(loss, argnums=(0, 1))(weights, made)

    def strength(gradient):
        return sum(float(np.abs(x).sum()) for x in jax.tree.leaves(gradient))

    (of_critic, of_maker), (own, none) = game(0), game(1)
    assert strength(of_critic) == 0 < strength(of_maker)
    assert strength(own) > 0 == strength(none)
    fooled, told_apart = objective.adversary(critic, truth, truth, unknown)
    logits, _ = critic(truth, unknown)
    places = np.asarray(jax.image.resize(unknown, logits.shape, "linear"))
    sure = np.average(jax.nn.softplus(-logits), axis=(1, 2, 3), weights=places)
    np.testing.assert_allclose(fooled, sure, rtol=1e-5)  # nothing tells the true frames from themselves
    np.testing.assert_allclose(
        told_apart - fooled, np.average(jax.nn.softplus(logits), axis=(1, 2, 3), weights=places), rtol=1e-4
    )


def test_a_discriminator_is_trained_along_and_goes_into_no_checkpoint(checkpoint, records, tmp_path):
    config = small.config("keyframes", records, checkpoint, steps=1)
    config.objective.adversarial = 0.1
    assert train(config, tmp_path, mesh=one_device())
    assert any(name.startswith("discriminator.") for name in prepare(config, one_device()).networks.multipliers)
    assert not (tmp_path / "checkpoint" / "discriminator").exists()
    convert(tmp_path, tmp_path / "again")
    assert filecmp.cmp(*(tmp_path / name / "unet" / "model.safetensors" for name in ("checkpoint", "again")), False)


@pytest.mark.parametrize(
    "terms, data, sentence",
    [
        ({"adversarial": 1.0}, {"precomputed": True}, r"adversarial compares pixels"),
        ({"perceptual": 1.0}, {}, "gp-jax fetch lpips"),
        ({"video": 1.0}, {}, "gp-jax fetch i3d"),
        ({"video": 1.0}, {"precomputed": True}, r"video compares pixels"),
        ({"perceptual": 1.0}, {"precomputed": True}, r"set data\.precomputed to False"),
        ({"structural": 1.0}, {"precomputed": True}, r"structural compares pixels"),
        ({"flicker": 1.0}, {"precomputed": True}, r"flicker compares pixels"),
        ({"flicker": 1.0}, {"segment_frames": 1}, "segment_frames is 1"),
        ({"sampled_steps": 1, "teacher_steps": 5}, {}, "set one of them to 0"),
    ],
)
def test_what_the_look_of_frames_needs_is_named(checkpoint, monkeypatch, tmp_path, terms, data, sentence):
    config = small.config("keyframes", "unused", checkpoint)
    config.objective.update(terms)
    config.data.update(data)
    monkeypatch.setenv("GP_JAX_CACHE", str(tmp_path))
    load_lpips.cache_clear()
    load_i3d.cache_clear()
    with pytest.raises(UserError, match=sentence):
        prepare(config, one_device())


def test_reconstruction_is_its_formula():
    class Identity:
        """Latents are pixels; a deviation of 0.5."""

        def encode(self, pixels):
            return pixels, np.full(pixels.shape, 2 * np.log(0.5), np.float32)

        def decode(self, latents):
            return latents

    config = AutoencoderConfig(block_out_channels=(8,), latent_channels=3)
    objective = Reconstruction(config, edges=0.7, kl=0.1, jitter=0.25)
    batch = {"pixels": BATCH["pixels"][:2]}
    draws = objective.draw(jax.random.key(0), batch)
    found = objective.losses({"vae": Identity()}, batch, draws)
    assert found.shape == (2,)
    for i in range(2):
        pixels, error = batch["pixels"][i] / 127.5 - 1, 0.75 * np.asarray(draws["noise"][i])
        edges = np.abs(np.diff(error, axis=1)).mean() + np.abs(np.diff(error, axis=2)).mean()
        kl = 0.5 * np.mean(pixels**2 + 0.25 - 1 - np.log(0.25))
        assert found[i] == pytest.approx(np.abs(error).mean() + 0.7 * edges + 0.1 * kl, rel=1e-4)
