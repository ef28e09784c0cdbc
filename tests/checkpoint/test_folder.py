"""Checkpoint folders, whole and broken."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.components import save_module
from gp_jax.checkpoint.folder import load_checkpoint
from gp_jax.checkpoint.settings import Settings
from gp_jax.checkpoint.text import load_tokenizer
from gp_jax.errors import Notice, UserError
from gp_jax.models.clip import TextConfig
from tests import small_networks
from tests.convert import references


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
    written = parameters.flatten(small_networks.build("interpolation_unet"))
    read = parameters.flatten(checkpoint.interpolation_unet)
    assert all(np.array_equal(read[name], written[name]) for name in written)


def test_half_precision_leaves_the_autoencoder_alone(whole):
    checkpoint = load_checkpoint(whole, dtype=jnp.bfloat16)
    dtypes = {
        name: {p.dtype for p in parameters.flatten(getattr(checkpoint, name)).values()} for name in ("vae", "unet")
    }
    assert dtypes == {"vae": {jnp.dtype("float32")}, "unet": {jnp.dtype("bfloat16")}}


@pytest.mark.parametrize("dtype", ["int32", "float8", np.uint8, bool, 5, "float32 "])
def test_networks_compute_in_a_floating_point_type(whole, dtype):
    with pytest.raises(UserError, match="in a floating-point type, float32 or bfloat16, not in "):
        load_checkpoint(whole, dtype=dtype)


def test_parts_that_may_be_missing(folder):
    for part in ("interpolation_unet", "clip", "global_tokens"):
        shutil.rmtree(folder / part)
    checkpoint = load_checkpoint(folder)
    assert checkpoint.interpolation_unet is checkpoint.unet
    assert checkpoint.vision is None and checkpoint.extractor is None
    np.testing.assert_array_equal(checkpoint.embed(""), np.zeros((1, 1, small_networks.WIDTH)))


def test_prompts(folder):
    small_networks.write_text(folder)
    checkpoint = load_checkpoint(folder)
    null, short = (checkpoint.embed(prompt) for prompt in ("", "a b"))
    with pytest.warns(Notice, match="202 tokens and the text tower reads 77: cut off is 'b a b"):
        long = checkpoint.embed("a b " * 100)
    assert null.shape == short.shape == long.shape == (1, 77, 16)
    assert np.abs(null - short).max() > 1e-3
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(UserError, match="no tokenizer"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda folder: (folder / "config.json").unlink(), "no checkpoint of gp_jax"),
        (lambda folder: (folder / "config.json").write_text('{"native_area": 900}'), "segment_frames"),
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
    network = parameters.abstract(small_networks.UNet, small_networks.UNetConfig.from_json(config))
    parameters.load_into(network, small_networks.random_weights(parameters.flatten(network), seed=0))
    save_module(network, folder / "unet", config)
    with pytest.raises(UserError, match="inpainting"):
        load_checkpoint(folder)


def change(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    "file, changes, message",
    [
        ("config.json", {"native_area": "9216"}, "native_area is '9216'"),
        ("config.json", {"native_area": 10**9}, "native_area is"),
        ("config.json", {"segment_frames": 2}, "segment_frames is 2"),
        ("config.json", {"sampler": "dpm"}, "sampler is 'dpm'"),
        ("config.json", {"steps": 999, "guidance": float("nan")}, "guidance is nan"),
        ("config.json", {"text_guidnace": 3}, "text_guidnace=3 is not known"),
        ("config.json", {"format": "another"}, "format='another'"),
        ("unet/config.json", {"masked_fill": "gray"}, "masked_fill is 'gray'.* grey, edge"),
        ("unet/config.json", {"layers_per_block": 10**6}, "layers_per_block is"),
        ("unet/config.json", {"cross_attention_dim": 24}, "attends to vectors of 24"),
        ("interpolation_unet/config.json", {"cross_attention_dim": 24}, "attends to vectors of 24"),
        ("vae/config.json", {"latent_channels": 8}, "makes latents of 4 channels, and vae/ has 8"),
        ("clip/config.json", {"hidden_size": 32}, "clip/ makes 32"),
        ("global_tokens/config.json", {"output_width": 32}, "global_tokens/ is made for 32"),
        ("scheduler/scheduler_config.json", {"_class_name": "SASolverScheduler"}, "SASolverScheduler"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10}, "cannot be cut into 25"),
    ],
    ids=str,
)
def test_configs_that_cannot_be_meant_are_refused_before_weights_are_read(folder, file, changes, message):
    for weights_file in folder.glob("*/model.safetensors"):
        weights_file.unlink()
    change(folder / "config.json", steps=25)
    change(folder / file, **changes)
    with pytest.raises(UserError, match=message):
        load_checkpoint(folder)


TOKENIZERS = {
    "cut off": ("vocab.json", '{"a": 0, "b"', "cannot read"),
    "a list": ("vocab.json", "[1, 2]", "no JSON object"),
    "strings": ("vocab.json", '{"a": "0", "<|endoftext|>": "1", "<|startoftext|>": "2"}', "damaged"),
    "no letters": ("vocab.json", '{"a": 9, "<|startoftext|>": 1, "<|endoftext|>": 2}', "damaged"),
    "merges of unknown words": ("merges.txt", "#version: 0.2\nq z\n", "damaged"),
    "another kind": ("tokenizer_config.json", '{"tokenizer_class": "T5Tokenizer"}', "T5Tokenizer"),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_damaged_tokenizers_are_refused(tmp_path, name):
    references.tokenizer(tmp_path)
    config = TextConfig(60, 16, 16, 1, 2, 9)
    load_tokenizer(tmp_path, config)
    file, text, message = TOKENIZERS[name]
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=message):
        load_tokenizer(tmp_path, config)


def test_a_tokenizer_of_more_words_than_the_tower_is_refused(tmp_path):
    references.tokenizer(tmp_path)
    with pytest.raises(UserError, match="56 words, and the text tower 50"):
        load_tokenizer(tmp_path, TextConfig(50, 16, 16, 1, 2, 9))


def test_settings_survive_json():
    assert Settings.from_json(json.loads(json.dumps(small_networks.SETTINGS.to_json()))) == small_networks.SETTINGS
