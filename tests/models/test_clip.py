"""The towers against transformers and open_clip, with small random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import nnx

from gp_jax.checkpoint import parameters
from gp_jax.convert import load
from gp_jax.errors import UserError
from gp_jax.models.clip import MEAN, STD, TextConfig, TextTower, VisionConfig, VisionTower, preprocess
from tests.convert import references
from tests.convert.references import close, random, run

IDS = np.array([[3, 7, 49, 0, 0, 0, 0], [49, 1, 2, 3, 4, 5, 6]])


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_vision_tower_equals_transformers(tmp_path, activation):
    reference = references.vision_tower(activation=activation)
    reference.save_pretrained(tmp_path)
    tower, _ = load(tmp_path)
    pixels = random(2, 21, 21, 3)
    with torch.no_grad():
        expected = reference(torch.tensor(pixels).permute(0, 3, 1, 2))
    close(run(VisionTower.pooled, tower, pixels), expected.image_embeds)
    close(run(lambda tower, x: tower(x, final_norm=False), tower, pixels), expected.last_hidden_state[:, 1:])


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_text_tower_equals_transformers(tmp_path, activation):
    reference = references.text_tower(transformers.CLIPTextModelWithProjection, activation)
    reference.save_pretrained(tmp_path)
    tower, _ = load(tmp_path)
    with torch.no_grad():
        expected = reference(torch.tensor(IDS))
    close(run(TextTower.__call__, tower, IDS), expected.last_hidden_state)
    close(run(TextTower.pooled, tower, IDS), expected.text_embeds)


def test_text_is_causal():
    tower = TextTower(TextConfig(64, 8, 16, 2, 2, 9), rngs=nnx.Rngs(0))
    late = IDS.copy()
    late[:, 4:] += 1
    a, b = (run(TextTower.__call__, tower, ids) for ids in (IDS, late))
    assert np.array_equal(a[:, :4], b[:, :4]) and not np.allclose(a[:, 4:], b[:, 4:])


def test_pooling_finds_the_end_in_old_and_new_configs():
    config = TextConfig(50, 8, 16, 2, 2, 9, eos_token_id=49)
    new = TextTower(config, rngs=nnx.Rngs(0))
    old = TextTower(TextConfig(50, 8, 16, 2, 2, 9, eos_token_id=2), rngs=nnx.Rngs(0))
    assert np.array_equal(*(run(TextTower.pooled, tower, IDS) for tower in (new, old)))


@pytest.mark.parametrize("config", [VisionConfig(projection_dim=None), VisionConfig(image_size=64), TextConfig()])
def test_config_survives_its_json(config):
    assert type(config).from_json(config.to_json()) == config


def test_unknown_activation_is_refused():
    with pytest.raises(UserError, match="hidden_act is 'relu'"):
        VisionConfig.from_json({"hidden_act": "relu"})


def test_preprocess_keeps_constant_images_and_the_range():
    grey = preprocess(jnp.zeros((1, 5, 9, 3)), 21)
    np.testing.assert_allclose(grey[0, 3, 4], (0.5 - np.array(MEAN)) / np.array(STD), rtol=1e-5)
    noise = preprocess(jax.random.uniform(jax.random.key(0), (1, 48, 40, 3), minval=-1.0), 8)
    pixels = noise * np.array(STD) + np.array(MEAN)
    assert noise.shape == (1, 8, 8, 3) and pixels.min() >= -1e-6 and pixels.max() <= 1 + 1e-6


def test_computes_in_the_dtype_asked_for():
    config = VisionConfig(24, 40, 2, 3, 3, 21, 7, projection_dim=None)
    tower = parameters.abstract(VisionTower, config, dtype=jnp.bfloat16)
    assert jax.eval_shape(lambda tower, x: tower(x), tower, random(1, 21, 21, 3)).dtype == jnp.bfloat16
