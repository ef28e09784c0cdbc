"""M3DDM's published folder becomes a checkpoint, and goes back bit by bit."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from gp_jax.checkpoint.folder import load_checkpoint, load_parts
from gp_jax.checkpoint.tensors import write_tensors
from gp_jax.convert import convert, load
from gp_jax.errors import UserError
from gp_jax.files import read_json, write_json
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.models.m3ddm.config import M3DDMConfig
from gp_jax.models.m3ddm.network import M3DDM
from tests import small_m3ddm, small_networks
from tests.convert.test_formats import assert_same

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory):
    return small_m3ddm.write_stable_diffusion(tmp_path_factory.mktemp("stable-diffusion"))


@pytest.fixture
def published(tmp_path):
    return small_m3ddm.write_published(tmp_path / "published")


def pickled(folder):
    """As it is published: an OrderedDict in a .bin."""
    state = {name: torch.tensor(x) for name, x in small_m3ddm.state().items()}
    (folder / WEIGHTS).unlink()
    torch.save(state, folder / "diffusion_pytorch_model.bin")
    return folder


def lightning(folder):
    """One file, no config: heads and groups are the published ones."""
    state = {f"model.unet.{name}": torch.tensor(x) for name, x in small_m3ddm.state(PLUS).items()}
    torch.save({"state_dict": state, "epoch": 3, "optimizer_states": [{"lr": 1e-5}]}, folder / "last.ckpt")
    return folder / "last.ckpt"


PLUS = M3DDMConfig(block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=16)


def test_there_and_back(tmp_path, published, diffusion):
    report = convert(published, tmp_path / "ours", vae=diffusion)
    assert report.loaded.keys() == {"m3ddm", "vae"} and not any(report.initialised.values())
    assert {path.name for path in (tmp_path / "ours").iterdir()} == {"config.json", "m3ddm", "vae", "scheduler"}
    parts = load_parts(tmp_path / "ours", "m3ddm", ("m3ddm", "vae"))
    assert isinstance(parts.networks["m3ddm"], M3DDM) and isinstance(parts.networks["vae"], AutoencoderKL)
    assert parts.networks["m3ddm"].config == dataclasses.replace(small_m3ddm.NETWORK, carried="{}")
    assert parts.settings.method == "m3ddm" and parts.settings.steps == 50 and parts.settings.native_area == 256**2
    assert parts.schedule.beta_schedule == "scaled_linear"

    report = convert(tmp_path / "ours", tmp_path / "back", to="m3ddm")
    assert not report.left_out["m3ddm"]
    assert_same(load_file(tmp_path / "back" / WEIGHTS), small_m3ddm.state())
    assert read_json(tmp_path / "back" / "config.json") == small_m3ddm.NETWORK.to_json()


def test_a_pickle_and_a_checkpoint_of_lightning(tmp_path, published, diffusion):
    convert(pickled(published), tmp_path / "one", vae=diffusion / "vae")
    assert (tmp_path / "one" / "scheduler").is_dir()
    convert(tmp_path / "one", tmp_path / "back", to="m3ddm")
    assert_same(load_file(tmp_path / "back" / WEIGHTS), small_m3ddm.state())

    report = convert(lightning(tmp_path), tmp_path / "two")
    assert "give it by --vae" in str(report)
    assert load(tmp_path / "two")[0].config == PLUS
    with pytest.raises(UserError, match="has no vae/"):
        load_parts(tmp_path / "two", "m3ddm", ("m3ddm", "vae"))
    convert(diffusion / "vae", tmp_path / "two")
    load_parts(tmp_path / "two", "m3ddm", ("m3ddm", "vae"))
    convert(tmp_path / "two", tmp_path / "back two", to="m3ddm")
    assert_same(load_file(tmp_path / "back two" / WEIGHTS), small_m3ddm.state(PLUS))


def test_missing_fields_of_the_config_are_the_published_ones():
    assert M3DDMConfig.from_json({}) == M3DDMConfig()
    assert M3DDMConfig.from_json({"_class_name": "UNet3DConditionModel", "sample_size": 32}).attention_head_dim == 8
    for key, value in {
        "flip_sin_to_cos": False,
        "up_block_types": ["UpBlock3D"] * 4,
        "attention_head_dim": 7,
        "temporal_heads": 2,
    }.items():
        with pytest.raises(UserError, match=key):
            M3DDMConfig.from_json({key: value})


def refused(dest, message, source, **options):
    with pytest.raises(UserError, match=message) as error:
        convert(source, dest, **options)
    assert len(str(error.value).splitlines()) <= 2  # of tensors, the second line names the first ones
    assert not dest.exists()


def test_faults(tmp_path, published, diffusion):
    dest = tmp_path / "dest"
    counter = "global_img_encoder.resnet_layer.1.layers.0.layer.2.normalization.num_batches_tracked"
    write_tensors(published / WEIGHTS, {k: x for k, x in small_m3ddm.state().items() if k != counter})
    refused(dest, rf"missing: {counter} \(\)", published, vae=diffusion)
    write_tensors(published / WEIGHTS, small_m3ddm.state() | {"fps_embedding.linear_3.bias": np.zeros(3)})
    refused(dest, r"unexpected: fps_embedding\.linear_3\.bias", published, vae=diffusion)
    write_tensors(published / WEIGHTS, small_m3ddm.state())
    (published / WEIGHTS).write_bytes((published / WEIGHTS).read_bytes()[:-1])
    refused(dest, "not a whole safetensors file", published, vae=diffusion)
    whole = pickled(published) / "diffusion_pytorch_model.bin"
    whole.write_bytes(whole.read_bytes()[:-1000])
    refused(dest, "broken", published, vae=diffusion)


@pytest.mark.parametrize("change", [{"scaling_factor": 0.13025}, {"latent_channels": 16}], ids=str)
def test_a_wrong_autoencoder(tmp_path, published, change):
    wrong = small_m3ddm.write_stable_diffusion(tmp_path / "wrong", dataclasses.replace(small_m3ddm.VAE, **change))
    refused(tmp_path / "dest", "autoencoder of Stable Diffusion 1.5", published, vae=wrong)
    refused(tmp_path / "dest", "holds no autoencoder", published, vae=published)


def test_what_there_is_too_much_or_nothing_of(tmp_path, published, diffusion):
    refused(tmp_path / "dest", "no M3DDM here", diffusion / "vae", to="m3ddm")
    refused(tmp_path / "dest", "has an autoencoder of its own", diffusion / "vae", vae=diffusion)
    refused(tmp_path / "dest", "name vae there too", published, vae=diffusion, only=["m3ddm"])
    refused(tmp_path / "dest", "known to predict epsilon", published, prediction_type="v_prediction")


def test_a_wrong_scheduler(tmp_path, published):
    wrong = small_m3ddm.write_stable_diffusion(tmp_path / "wrong")
    path = wrong / "scheduler" / "scheduler_config.json"
    write_json(path, read_json(path) | {"prediction_type": "v_prediction"})
    refused(tmp_path / "dest", "predict v_prediction", published, vae=wrong)


def test_each_method_runs_its_own_checkpoints(tmp_path, diffusion):
    ours, other = small_m3ddm.write(tmp_path / "ours"), small_networks.write(tmp_path / "other")
    with pytest.raises(UserError, match="is a checkpoint of m3ddm: run it by --method m3ddm"):
        load_checkpoint(ours)
    with pytest.raises(UserError, match="is a checkpoint of globalpaint: run it by --method globalpaint"):
        load_parts(other, "m3ddm", ("m3ddm", "vae"))
    with pytest.raises(UserError, match="belongs to m3ddm: convert it into a folder of its own"):
        convert(tmp_path / "published", other)
    (ours / "config.json").write_text(json.dumps({"format": "gp_jax", "method": "x"}))
    with pytest.raises(UserError, match="method is 'x', none of globalpaint, m3ddm"):
        load_checkpoint(ours)
