"""Each fault is named and refused, and nothing is left behind."""

import builtins
import json
import pickle
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from gp_jax.checkpoint.tensors import write_tensors
from gp_jax.convert import convert
from gp_jax.convert.files import open_weights
from gp_jax.errors import UserError
from tests.convert import references

NAME = "vision_model.encoder.layers.1.mlp.fc1.weight"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tower")
    references.vision_tower().save_pretrained(folder)
    return load_file(folder / "model.safetensors"), (folder / "config.json").read_text()


@pytest.fixture
def folder(tmp_path, saved):
    """A vision tower, as transformers saves it, to be broken."""
    write_tensors(tmp_path / "source" / "model.safetensors", saved[0])
    (tmp_path / "source" / "config.json").write_text(saved[1])
    return tmp_path / "source"


def refused(source, *parts, **options):
    dest = Path(source).parent / "dest"
    with pytest.raises(UserError) as error:
        convert(source, dest, **options)
    for part in parts:
        assert part in str(error.value), error.value
    assert not dest.exists() and not list(dest.parent.glob(".dest*"))


def test_missing_unexpected_and_misshaped_tensors_are_all_named(folder, saved):
    tensors = dict(saved[0])
    tensors.pop(NAME)
    tensors["vision_model.encoder.layers.3.mlp.fc1.weight"] = np.zeros((40, 24))
    tensors["visual_projection.weight"] = np.zeros((24, 10))
    write_tensors(folder / "model.safetensors", tensors)
    refused(
        folder,
        f"missing: {NAME} (40, 24)",
        "unexpected: vision_model.encoder.layers.3.mlp.fc1.weight (40, 24)",
        "wrong shape: visual_projection.weight is (24, 10), the network has (10, 24)",
    )


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_half_precision_that_overflowed(folder, saved, value):
    tensors = {name: x.astype(np.float16) for name, x in saved[0].items()}
    tensors[NAME][2, 3] = value
    write_tensors(folder / "model.safetensors", tensors)
    refused(folder, "float16", "layers.1.expand.kernel", "NaN or infinity")


def test_numbers_that_half_precision_does_not_reach(folder, saved):
    tensors = {name: x.copy() for name, x in saved[0].items()}
    tensors[NAME][2, 3] = 7e4
    write_tensors(folder / "model.safetensors", tensors)
    refused(
        folder, "dest/clip/model.safetensors: ", "layers.1.expand.kernel has numbers beyond float16", dtype="float16"
    )
    convert(folder, folder.parent / "dest", dtype="bfloat16")


def test_truncated_files(folder):
    whole = (folder / "model.safetensors").read_bytes()
    for length in (7, 500, len(whole) - 1):
        (folder / "model.safetensors").write_bytes(whole[:length])
        refused(folder, "model.safetensors", "not a whole safetensors file")


def test_folder_without_config_or_weights(folder):
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    refused(folder, "holds no weights")
    (folder / "config.json").write_text("{broken")
    refused(folder, "cannot read")
    (folder / "config.json").unlink()
    refused(folder, "is no checkpoint")
    refused(folder.parent / "model.safetensors", "needs its config")
    refused(folder / "nowhere", "does not exist")


def test_file_of_no_known_format(tmp_path):
    write_tensors(tmp_path / "x.safetensors", {"a.b": np.zeros(3)})
    refused(tmp_path / "x.safetensors", "no known format", "a.b")
    write_tensors(tmp_path / "y.safetensors", {"motion_modules.0.x": np.zeros(3)})
    refused(tmp_path / "y.safetensors", "--motion")


def test_tensors_beside_a_known_network(folder, saved):
    write_tensors(folder / "model.safetensors", saved[0] | {"head.weight": np.zeros((2, 3))})
    refused(folder, "head.weight")


def test_single_file_without_a_tensor_that_tells_its_size(tmp_path):
    write_tensors(tmp_path / "x.ckpt.safetensors", {"encoder.mid.block_1.conv1.weight": np.zeros((3, 3, 3, 3))})
    refused(tmp_path / "x.ckpt.safetensors", "can't be told", "encoder.conv_in.weight")


def test_network_of_another_kind(tmp_path):
    (tmp_path / "source").mkdir()
    config = {"_class_name": "UNet2DConditionModel", "down_block_types": ["AttnDownBlock2D"]}
    (tmp_path / "source" / "config.json").write_text(json.dumps(config))
    write_tensors(
        tmp_path / "source" / "diffusion_pytorch_model.safetensors",
        {"down_blocks.0.resnets.0.time_emb_proj.weight": np.zeros((2, 3))},
    )
    refused(tmp_path / "source", "AttnDownBlock2D")


class Evil:
    """Unpickling it writes a file: the proof, were there one."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (Path(self.path), "ran")


@pytest.mark.parametrize("suffix", [".ckpt", ".bin", ".pt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_does_not(tmp_path, suffix, zipped):
    proof, path = tmp_path / "proof", tmp_path / f"evil{suffix}"
    state = {"state_dict": {"a": torch.zeros(2)}, "callback": Evil(str(proof))}
    if zipped:
        torch.save(state, path)
    else:
        path.write_bytes(pickle.dumps(state, protocol=2))
    refused(path, str(path), "more than tensors")
    assert not proof.exists()
    torch.load(path, weights_only=False) if zipped else pickle.loads(path.read_bytes())
    assert proof.exists(), "the pickle was harmless, and the test shows nothing"


def test_pickles_need_torch_and_say_so(tmp_path, monkeypatch):
    torch.save({"a": torch.zeros(2)}, tmp_path / "x.ckpt")
    real = builtins.__import__

    def without_torch(name, *rest):
        if name == "torch":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    refused(tmp_path / "x.ckpt", "install torch")


def test_pickle_that_is_cut_off_or_no_dictionary(tmp_path):
    path = tmp_path / "x.bin"
    torch.save({"a": torch.zeros(2000)}, path)
    path.write_bytes(path.read_bytes()[:-300])
    refused(path, "x.bin", "broken")
    torch.save([torch.zeros(2)], path)
    refused(path, "no dictionary of tensors")


@pytest.mark.parametrize(("sign", "place"), [(b"PK\x01\x02", 6), (b"PK\x06\x07", 16)])
def test_damaged_directories_of_zips(tmp_path, sign, place):
    """A version that nobody reads, and a second disk."""
    torch.save({"a": torch.ones(3)}, tmp_path / "model.bin")
    data = bytearray((tmp_path / "model.bin").read_bytes())
    data[data.rindex(sign) + place] ^= 0xDC
    (tmp_path / "model.bin").write_bytes(data)
    with pytest.raises(UserError, match="was not loaded: it is broken"):
        open_weights(tmp_path / "model.bin")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_tensors_of_pickles_keep_every_bit(tmp_path, dtype):
    tensor = (100 * torch.randn(3, 5)).to(dtype)
    torch.save({"state_dict": {"a": tensor.T, "step": 3}}, tmp_path / "x.ckpt")
    (name, lazy), *rest = open_weights(tmp_path / "x.ckpt").items()
    assert name == "a" and not rest and lazy.shape == (5, 3)
    expected = tensor.T.float().numpy().astype(ml_dtypes.bfloat16 if dtype == torch.bfloat16 else lazy.dtype)
    assert np.asarray(lazy).dtype == lazy.dtype and np.array_equal(np.asarray(lazy), expected)


def test_index_that_leaves_its_folder_or_lists_what_is_not_there(folder):
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {NAME: "../a.safetensors"}}))
    refused(folder, "outside its folder")
    index.write_text(json.dumps({"weight_map": {"x.weight": "a.safetensors"}}))
    refused(folder, "x.weight")
    index.write_text(json.dumps({"weight_map": {NAME: "b.safetensors"}}))
    refused(folder, "b.safetensors does not exist")
    index.write_text("{}")
    refused(folder, "no weight_map")
