"""Files that are taken for weights of this family and are none: one sentence each, before anything is read of them."""

import io
import json
import pickle
import resource
import zipfile

import numpy as np
import pytest
import torch

from gp_jax.checkpoint.tensors import write_tensors
from gp_jax.convert import describe
from gp_jax.convert.files import open_weights
from gp_jax.errors import UserError


def refused(path, message):
    with pytest.raises(UserError, match=message) as error:
        describe(path)
    text = str(error.value)
    assert str(path) in text and len(text) < 350 + len(str(path)) and "\n" not in text
    return text


# Some tensor of each family's files, as its name is there.
FAMILIES = {
    "conditioner.embedders.1.model.ln_final.weight": "SDXL",
    "add_embedding.linear_1.weight": "SDXL",
    "model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight": "Stable Diffusion 3",
    "transformer_blocks.0.attn.add_k_proj.weight": "Stable Diffusion 3",
    "double_blocks.0.img_attn.qkv.weight": "Flux",
    "model.diffusion_model.double_blocks.0.img_mod.lin.weight": "Flux",
    "single_transformer_blocks.0.attn.to_q.weight": "Flux",
    "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": "a LoRA",
    "unet.down_blocks.0.attentions.0.proj_in.lora_A.weight": "a LoRA",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight": "a LoRA",
    "lora_te_text_model_encoder_layers_0_mlp_fc1.hada_w1_a": "a LoRA",
    "controlnet_blocks.0.weight": "a ControlNet of a transformer",
    "image_proj.latents": "IP-Adapter",
    "emb_params": "textual inversion",
    "<my-cat>": "textual inversion",
    "model.diffusion_model.input_blocks.1.0.time_stack.in_layers.0.weight": "Stable Video Diffusion",
    "down_blocks.0.resnets.0.spatial_res_block.norm1.weight": "Stable Video Diffusion",
    "down_blocks.0.temp_convs.0.conv1.0.weight": "text-to-video",
    "blocks.0.self_attn.q.weight": "diffusion transformer",
    "transformer_blocks.0.attn1.to_q.weight": "diffusion transformer",
    "adaln_single.linear.weight": "diffusion transformer",
    "encoder.block.0.layer.0.SelfAttention.q.weight": "T5",
    "model.layers.0.self_attn.q_proj.weight": "language model",
}


@pytest.mark.parametrize("name", FAMILIES)
def test_other_families_are_told_by_their_tensors(tmp_path, name):
    many = {f"down_blocks.0.resnets.{i}.time_emb_proj.weight": np.zeros(1, np.float16) for i in range(99)}
    write_tensors(tmp_path / "x.safetensors", {**many, name: np.zeros(2, np.float16)})
    refused(tmp_path / "x.safetensors", FAMILIES[name])


BEGINNINGS = {
    "an empty file": (b"", "is empty"),
    "a pointer of git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "a web page": (b"<!DOCTYPE html>\n<html><body>Access denied</body></html>" * 9, "web page"),
    "a web page after a blank line": (b"\n  <html><body>404 Not Found</body></html>" * 9, "web page"),
    "GGUF": (b"GGUF\x03\x00\x00\x00" + bytes(99), "GGUF"),
    "ONNX": (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0" + bytes(99), "ONNX"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
    "gzip": (b"\x1f\x8b\x08\x08" + b"1" * 99, "archive"),
    "an error as JSON": (b'{"error": "Repository not found"}' * 9, "not a whole safetensors file"),
    "noise": (bytes(range(256)) * 9, "not a whole safetensors file"),
}


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt", ".bin"])
@pytest.mark.parametrize("name", BEGINNINGS)
def test_other_kinds_of_files_are_told_by_their_beginning(tmp_path, name, suffix):
    content, message = BEGINNINGS[name]
    (tmp_path / f"x{suffix}").write_bytes(content)
    refused(tmp_path / f"x{suffix}", message)


def test_every_length_of_a_header_may_begin_a_file_of_tensors(tmp_path):
    """A length of 60 begins with the byte of `<`, one of 71 with that of `G`; none is taken for something else."""
    for count in range(1, 40):
        write_tensors(tmp_path / "x.safetensors", {"a" * count: np.zeros(1, np.float16)})
        assert open_weights(tmp_path / "x.safetensors").keys() == {"a" * count}


def test_a_folder_in_the_place_of_weights(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "config.json").write_text("{}")
    (tmp_path / "x" / "model.safetensors").mkdir()
    refused(tmp_path / "x", "holds no weights")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop", "does not exist")


@pytest.mark.filterwarnings("ignore")
def test_other_zip_archives(tmp_path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "script.pt")
    refused(tmp_path / "script.pt", "TorchScript")
    with zipfile.ZipFile(tmp_path / "x.ckpt", "w") as archive:
        archive.writestr("model.safetensors", "x" * 99)
    refused(tmp_path / "x.ckpt", "zip archive")


def test_what_unpacks_to_more_than_it_is_takes_no_memory(tmp_path):
    """A file of some megabytes that would take 6 GB."""
    path, plain = tmp_path / "bomb.ckpt", tmp_path / "plain.ckpt"
    torch.save({"a": torch.zeros(3)}, plain)
    zeros = bytes(2**20)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in source.infolist():
            with archive.open(entry.filename, "w", force_zip64=True) as file:
                file.write(source.read(entry))
                for _ in range(256 * entry.filename.endswith("data/0")):
                    file.write(zeros)
    assert path.stat().st_size < 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, "compressed")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**16  # kilobytes


PLAIN = torch.arange(12.0).reshape(3, 4)
TENSORS = {
    "fp8": (lambda: PLAIN.to(torch.float8_e4m3fn), "float8_e4m3fn"),
    "complex": (lambda: PLAIN.to(torch.complex64), "complex64"),
    "quantised": (lambda: torch.quantize_per_tensor(PLAIN, 0.1, 0, torch.qint8), "quantised"),
    "sparse": (PLAIN.to_sparse, "sparse"),
    "compressed rows": (PLAIN.to_sparse_csr, "sparse"),
    "meta": (lambda: torch.empty(3, 4, device="meta"), "without values"),
    "expanded": (lambda: torch.zeros(1).expand(2**20, 2**20), "larger than what is stored"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_are_no_arrays_are_refused_by_name(tmp_path, name):
    make, message = TENSORS[name]
    torch.save({"state_dict": {"first.weight": PLAIN, "second.weight": make()}}, tmp_path / "x.ckpt")
    refused(tmp_path / "x.ckpt", message)


@pytest.mark.filterwarnings("ignore")
def test_safetensors_of_other_types_are_refused_by_name(tmp_path):
    from safetensors.torch import save_file

    save_file({"a.weight": PLAIN.to(torch.float8_e4m3fn)}, tmp_path / "x.safetensors")
    refused(tmp_path / "x.safetensors", "a.weight .*F8_E4M3")


CONTENTS = {
    "numbers for names": ({0: PLAIN}, "the key 0"),
    "no tensors": ({"epoch": 3, "optimizer": {}}, "no tensors but .*epoch"),
    "a list": ([PLAIN], "no dictionary"),
    "a tensor": (PLAIN, "no dictionary"),
    "textual inversion": ({"string_to_token": {"*": 265}, "string_to_param": {"*": PLAIN}}, "string_to_param"),
    "nothing": ({}, "no tensors but an empty dictionary"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_pickles_of_other_things(tmp_path, name):
    content, message = CONTENTS[name]
    torch.save(content, tmp_path / "x.bin")
    refused(tmp_path / "x.bin", message)


def test_parameters_shared_tensors_and_nested_states_are_read(tmp_path):
    state = {"a": torch.nn.Parameter(PLAIN), "b": PLAIN.T, "c": PLAIN[1:]}
    for key in ("state_dict", "model", "module"):
        torch.save({key: state, "epoch": 3}, tmp_path / "x.pt")
        read = open_weights(tmp_path / "x.pt")
        assert read.keys() == state.keys()
        assert all(np.array_equal(np.asarray(read[name]), state[name].detach()) for name in state)


@pytest.mark.parametrize("zipped", [True, False])
def test_the_refusal_of_a_pickle_gives_no_advice_to_open_it(tmp_path, zipped):
    path = tmp_path / "x.ckpt"
    torch.save({"a": io.BytesIO}, path) if zipped else path.write_bytes(pickle.dumps({"a": io.BytesIO}, protocol=2))
    text = refused(path, "more than tensors")
    assert "weights_only" not in text and "trust" not in text and "BytesIO" in text


INDEXES = {
    "a number": ({"a": 5}, "names a shard 5"),
    "nothing": ({"a": None}, "names a shard None"),
    "itself": ({"a": "model.safetensors.index.json"}, "names a shard"),
    "another folder": ({"a": "../x.safetensors"}, "outside its folder"),
    "an absolute path": ({"a": "/etc/x.safetensors"}, "outside its folder"),
    "a shard that is not there": ({"a": "y.safetensors"}, "does not exist"),
    "a name that can be none": ({"a": "\0\ud800.safetensors"}, "does not exist"),
    "a tensor twice": ({"a": "one.safetensors", "b": "two.safetensors"}, "in another shard"),
    "no tensors": ({}, "no weight_map"),
    "a list": (["one.safetensors"], "no weight_map"),
}


@pytest.mark.parametrize("name", INDEXES)
def test_indexes_of_shards(tmp_path, name):
    where, message = INDEXES[name]
    for shard in ("one", "two"):
        write_tensors(tmp_path / f"{shard}.safetensors", {"a": np.zeros(2), "b": np.zeros(2)})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    with pytest.raises(UserError, match=message):
        open_weights(index)


FOLDERS = {
    "SDXL": ({"unet": "UNet2DConditionModel", "text_encoder": "CLIPTextModel", "text_encoder_2": "X"}, "SDXL"),
    "SD3": ({"transformer": "SD3Transformer2DModel", "vae": "AutoencoderKL"}, "transformer"),
    "Stable Video Diffusion": ({"unet": "UNetSpatioTemporalConditionModel"}, "UNetSpatioTemporalConditionModel"),
    "AnimateDiff": ({"unet": "UNetMotionModel", "motion_adapter": "MotionAdapter"}, "UNetMotionModel"),
    "another autoencoder": ({"vae": "AutoencoderTiny"}, "AutoencoderTiny"),
    "another text tower": ({"text_encoder": "T5EncoderModel"}, "T5EncoderModel"),
    "a number": ({"unet": 3}, "of the class 3"),
    "nothing": ({}, "names no component"),
}


@pytest.mark.parametrize("only", [None, ["text"]])
@pytest.mark.parametrize("name", FOLDERS)
def test_folders_of_other_pipelines(tmp_path, name, only):
    classes, message = FOLDERS[name]
    index = {key: ["diffusers", value] for key, value in classes.items()}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=message):
        describe(tmp_path, only=only)


@pytest.mark.parametrize("name", ["SD3Transformer2DModel", "UNetMotionModel", "AutoencoderTiny"])
def test_folders_of_other_networks(tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": name}))
    refused(tmp_path, f"_class_name='{name}' is not supported")
