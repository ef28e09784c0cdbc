"""Checkpoint folders, whole and broken."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from gp_jax import weights
from gp_jax.errors import UserError
from gp_jax.models.clip import TextConfig, TextTower
from gp_jax.pipelines.checkpoint import Settings, load_checkpoint
from tests import small_networks


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return small_networks.write(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def test_what_was_written_is_read(whole):
    checkpoint = load_checkpoint(whole)
    assert checkpoint.settings == small_networks.SETTINGS
    assert checkpoint.schedule == small_networks.SCHEDULE
    written = weights.flatten(small_networks.build("interpolation_unet"))
    read = weights.flatten(checkpoint.interpolation_unet)
    assert all(np.array_equal(read[name], written[name]) for name in written)


def test_half_precision_leaves_the_autoencoder_alone(whole):
    checkpoint = load_checkpoint(whole, dtype=jnp.bfloat16)
    dtypes = {name: {p.dtype for p in weights.flatten(getattr(checkpoint, name)).values()} for name in ("vae", "unet")}
    assert dtypes == {"vae": {jnp.dtype("float32")}, "unet": {jnp.dtype("bfloat16")}}


def test_parts_that_may_be_missing(folder):
    for part in ("interpolation_unet", "clip", "global_tokens"):
        shutil.rmtree(folder / part)
    checkpoint = load_checkpoint(folder)
    assert checkpoint.interpolation_unet is checkpoint.unet
    assert checkpoint.vision is None and checkpoint.extractor is None
    np.testing.assert_array_equal(checkpoint.embed(""), np.zeros((1, 1, small_networks.WIDTH)))


def test_prompts(folder):
    config = TextConfig(
        vocab_size=260, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    tower = weights.abstract(TextTower, config)
    weights.load_into(tower, small_networks.random_weights(weights.flatten(tower), seed=0))
    weights.save_module(tower, folder / "text", config.to_json())
    (folder / "tokenizer").mkdir()
    with pytest.raises(UserError, match="no tokenizer"):
        load_checkpoint(folder)

    words = ["a", "b", "a</w>", "b</w>", "<|startoftext|>", "<|endoftext|>"]
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    checkpoint = load_checkpoint(folder)
    null, short, long = (checkpoint.embed(prompt) for prompt in ("", "a b", "a b " * 100))
    assert null.shape == short.shape == long.shape == (1, 77, 16)
    assert np.abs(null - short).max() > 1e-3


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda folder: (folder / "config.json").unlink(), "no checkpoint of gp_jax"),
        (lambda folder: (folder / "config.json").write_text('{"native_area": 9}'), "segment_frames"),
        (lambda folder: shutil.rmtree(folder / "vae"), "vae"),
        (lambda folder: (folder / "scheduler" / "scheduler_config.json").unlink(), "scheduler"),
        (lambda folder: shutil.copytree(folder / "vae", folder / "unet", dirs_exist_ok=True), "UNet"),
    ],
)
def test_broken_folders(folder, spoil, message):
    spoil(folder)
    with pytest.raises(UserError, match=message):
        load_checkpoint(folder)


def test_names_without_a_checkpoint(tmp_path):
    with pytest.raises(UserError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "nothing")


def test_image_networks_of_another_kind_are_refused(folder):
    config = json.loads((folder / "unet" / "config.json").read_text()) | {"in_channels": 4}
    network = weights.abstract(small_networks.UNet, small_networks.UNetConfig.from_json(config))
    weights.load_into(network, small_networks.random_weights(weights.flatten(network), seed=0))
    weights.save_module(network, folder / "unet", config)
    with pytest.raises(UserError, match="inpainting"):
        load_checkpoint(folder)


def test_settings_survive_json():
    assert Settings.from_json(json.loads(json.dumps(small_networks.SETTINGS.to_json()))) == small_networks.SETTINGS
