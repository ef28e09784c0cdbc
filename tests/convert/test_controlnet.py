"""A ControlNet of diffusers or of LDM becomes ours, and goes back bit by bit; what does not fit is refused."""

import diffusers
import numpy as np
import pytest
import torch
from diffusers.loaders import single_file_utils
from safetensors.numpy import load_file

from gp_jax.checkpoint.tensors import write_tensors
from gp_jax.convert import convert, describe, load
from gp_jax.errors import UserError
from gp_jax.files import read_json, write_json
from tests.convert import references
from tests.convert.test_formats import assert_same, back

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def reference():
    return references.controlnet()


@pytest.fixture
def theirs(reference, tmp_path):
    reference.save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def test_diffusers_there_and_back(theirs, reference, tmp_path):
    report = convert(theirs, tmp_path / "ours")
    assert report.loaded.keys() == {"controlnet"} and not any(report.initialised.values())
    convert(tmp_path / "ours", tmp_path / "back", to="diffusers")
    again, info = diffusers.ControlNetModel.from_pretrained(tmp_path / "back" / "controlnet", output_loading_info=True)
    assert not any(info.values())
    assert_same({k: v.numpy() for k, v in again.state_dict().items()}, reference.state_dict())
    kept = {key: value for key, value in read_json(theirs / "config.json").items() if key[0] != "_"}
    ours = read_json(tmp_path / "ours/controlnet/config.json")
    assert kept.items() >= {k: v for k, v in ours.items() if k[0] != "_" and k != "norm_joint"}.items()


def test_a_single_file_there_and_back(theirs, reference, tmp_path):
    """diffusers' own reader is the judge that our file is one; files come with and without a prefix."""
    convert(theirs, tmp_path / "control.safetensors", to="ldm")
    file = load_file(tmp_path / "control.safetensors")
    assert all(name.startswith("control_model.") for name in file)
    config = dict(reference.config)
    read = single_file_utils.convert_controlnet_checkpoint({k: torch.tensor(v) for k, v in file.items()}, config)
    assert_same({k: v.numpy() for k, v in read.items()}, reference.state_dict())
    write_tensors(tmp_path / "bare.safetensors", {k.removeprefix("control_model."): v for k, v in file.items()})
    for name in ("control", "bare"):
        network, _ = load(tmp_path / f"{name}.safetensors")
        assert_same(back(network, "controlnet", "diffusers"), reference.state_dict())


def test_a_pipeline_has_it_beside_its_unet(theirs, tmp_path):
    references.save_pipeline(tmp_path / "sd", family="sd1")
    convert(tmp_path / "sd", tmp_path / "ours")
    convert(theirs, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "back", to="diffusers")
    index = read_json(tmp_path / "back" / "model_index.json")
    assert index["_class_name"] == "StableDiffusionControlNetInpaintPipeline"
    pipe = diffusers.StableDiffusionControlNetInpaintPipeline.from_pretrained(tmp_path / "back")
    assert isinstance(pipe.controlnet, diffusers.ControlNetModel)
    assert "controlnet" in convert(tmp_path / "back", tmp_path / "again").loaded


def test_one_of_another_unet_is_refused(theirs, tmp_path):
    references.save_pipeline(tmp_path / "sd", family="sd2")
    convert(tmp_path / "sd", tmp_path / "ours")
    with pytest.raises(UserError, match=r"controlnet/ has block_out_channels=.*different models"):
        convert(theirs, tmp_path / "ours")
    assert not (tmp_path / "ours" / "controlnet").exists()


def test_faults(theirs, tmp_path):
    state = load_file(theirs / WEIGHTS)
    name = "controlnet_down_blocks.1.weight"
    faults = {
        "missing: controlnet_down_blocks.1.weight": {k: v for k, v in state.items() if k != name},
        "unexpected: controlnet_down_blocks.99.weight": state | {"controlnet_down_blocks.99.weight": state[name]},
        "controlnet_down_blocks.1.weight": state | {name: state[name][:, :-1]},
        "NaN": state | {name: np.full_like(state[name], np.nan)},
    }
    for words, broken in faults.items():
        write_tensors(theirs / WEIGHTS, broken)
        with pytest.raises(UserError, match=words):
            load(theirs)
    write_tensors(theirs / WEIGHTS, state)
    write_json(theirs / "config.json", read_json(theirs / "config.json") | {"global_pool_conditions": True})
    with pytest.raises(UserError, match="global_pool_conditions"):
        describe(theirs)
