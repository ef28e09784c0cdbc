"""Laws of every format: what is loaded computes what the reference computes, and the way back is bit-exact."""

import diffusers
import numpy as np
import pytest
import torch
import transformers
from diffusers.loaders import single_file_utils
from safetensors.numpy import load_file

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.tensors import write_tensors
from gp_jax.convert import convert, load, to_foreign
from gp_jax.convert.sources import open_source
from gp_jax.convert.translate import translate
from gp_jax.files import read_json
from gp_jax.models.clip import TextTower, VisionTower
from tests.convert import references
from tests.convert.references import assert_unet_equal, assert_vae_equal, close, random, run


def assert_same(ours, theirs):
    """Bit by bit; `theirs` is a torch or numpy state."""
    theirs = {name: np.asarray(tensor) for name, tensor in theirs.items()}
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert np.array_equal(np.asarray(ours[name]), tensor) and ours[name].dtype == tensor.dtype, name


def back(module, component, format):
    return to_foreign(component, module.config, parameters.flatten(module), format)[1]


@pytest.mark.parametrize("name", ["sd2", "sd1", "sd1-plain"])
def test_unet_of_diffusers(tmp_path, name):
    reference = references.unet(name)
    references.save_unet(reference, tmp_path)
    unet, report = load(tmp_path)
    assert report.parameters("unet") == sum(x.size for x in parameters.flatten(unet).values())
    channels = references.UNETS[name]["in_channels"]
    assert_unet_equal(unet, reference, channels)
    exported = back(unet, "unet", "diffusers")
    if channels == 4:
        wide = exported["conv_in.weight"] = np.asarray(exported["conv_in.weight"])
        assert wide.shape[1] == 9 and not wide[:, 4:].any()
        assert "widened" in str(report)
        exported["conv_in.weight"] = wide[:, :4]
    assert_same(exported, reference.state_dict())


def test_autoencoder_of_diffusers(tmp_path):
    reference = references.vae()
    reference.save_pretrained(tmp_path)
    vae, _ = load(tmp_path)
    assert_vae_equal(vae, reference)
    assert_same(back(vae, "vae", "diffusers"), reference.state_dict())


def test_autoencoder_of_old_diffusers(tmp_path):
    reference = references.vae()
    reference.save_pretrained(tmp_path)
    state = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, name in old.items():
        state = {key.replace(f"attentions.0.{new}.", f"attentions.0.{name}."): x for key, x in state.items()}
    write_tensors(tmp_path / "diffusion_pytorch_model.safetensors", state)
    assert_same(back(load(tmp_path)[0], "vae", "diffusers"), reference.state_dict())


TRANSFORMERS = {
    "bare vision": (lambda: references.vision_tower(transformers.CLIPVisionModel), "clip"),
    "vision": (references.vision_tower, "clip"),
    "bare text": (references.text_tower, "text"),
    "text": (lambda: references.text_tower(transformers.CLIPTextModelWithProjection), "text"),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_towers_of_transformers(tmp_path, name):
    make, component = TRANSFORMERS[name]
    reference = make()
    reference.save_pretrained(tmp_path / "theirs")
    tower, _ = load(tmp_path / "theirs")
    prefix = {"bare vision": "vision_model.", "bare text": "text_model."}.get(name, "")
    assert_same(back(tower, component, "diffusers"), {prefix + k: v for k, v in reference.state_dict().items()})
    # transformers reads what we write: no tensor missing or left over.
    convert(tmp_path / "theirs", tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "again", to="diffusers")
    folder = tmp_path / "again" / {"clip": "image_encoder", "text": "text_encoder"}[component]
    again, info = type(reference).from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    assert_same({k: v.numpy() for k, v in again.state_dict().items()}, reference.state_dict())


def test_both_towers_of_a_whole_clip(tmp_path):
    reference = references.whole_clip()
    reference.save_pretrained(tmp_path)
    towers, report = load(tmp_path)
    pixels, ids = random(2, 21, 21, 3), np.array([[3, 7, 49, 0], [49, 1, 2, 3]])
    with torch.no_grad():
        images = reference.get_image_features(torch.tensor(pixels).permute(0, 3, 1, 2)).pooler_output
        texts = reference.get_text_features(torch.tensor(ids)).pooler_output
    close(run(VisionTower.pooled, towers["clip"], pixels), images)
    close(run(TextTower.pooled, towers["text"], ids), texts)
    assert report.ignored == ("logit_scale",)


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_both_towers_of_open_clip(tmp_path, quick_gelu):
    reference = references.whole_open_clip(quick_gelu)
    references.save_open_clip(reference, tmp_path / "theirs", quick_gelu)
    towers, _ = load(tmp_path / "theirs")
    pixels, ids = random(2, 21, 21, 3), np.array([[3, 7, 49, 0, 0, 0, 0, 0, 0]])
    reference.visual.output_tokens = True
    with torch.no_grad():
        pooled, tokens = reference.visual(torch.tensor(pixels).permute(0, 3, 1, 2))
        close(run(VisionTower.pooled, towers["clip"], pixels), pooled)
        close(run(VisionTower.__call__, towers["clip"], pixels), tokens)
        close(run(TextTower.pooled, towers["text"], ids), reference.encode_text(torch.tensor(ids)))
    convert(tmp_path / "theirs", tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "back", to="open_clip")
    again = load_file(tmp_path / "back" / "open_clip_model.safetensors")
    again["logit_scale"] = reference.logit_scale.detach().numpy()
    assert_same(again, reference.state_dict())
    config = read_json(tmp_path / "back" / "open_clip_config.json")["model_cfg"]
    type(reference)(**config).load_state_dict({k: torch.tensor(v) for k, v in again.items()})


@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_single_file(tmp_path, family):
    """Our writer makes the file; diffusers' own reader is the judge that it is one, ours reads it back."""
    unet, vae, text = references.unet(family), references.vae(), references.single_file_text(family)
    references.save_unet(unet, tmp_path / "folder" / "unet")
    vae.save_pretrained(tmp_path / "folder" / "vae")
    prefix = {"sd1": "cond_stage_model.transformer.", "sd2": "cond_stage_model.model."}[family]
    file = {prefix + name: x.detach().numpy() for name, x in text.state_dict().items()}
    for name in ("unet", "vae"):
        convert(tmp_path / "folder" / name, tmp_path / f"{name}.safetensors", to="ldm")
        file |= load_file(tmp_path / f"{name}.safetensors")
    theirs = {name: torch.tensor(x) for name, x in file.items()}
    read = single_file_utils.convert_ldm_unet_checkpoint(dict(theirs), dict(unet.config))
    assert_same({k: v.numpy() for k, v in read.items()}, unet.state_dict())
    read = single_file_utils.convert_ldm_vae_checkpoint(dict(theirs), dict(vae.config))
    assert_same({k: v.numpy() for k, v in read.items()}, vae.state_dict())

    extra = {"betas": np.ones(3), "model_ema.x": np.ones(2), "cond_stage_model.model.logit_scale": np.ones(())}
    path = tmp_path / {"sd1": "sd.ckpt", "sd2": "sd.safetensors"}[family]
    if family == "sd1":
        state = theirs | {name: torch.tensor(x) for name, x in extra.items()}
        torch.save({"state_dict": state, "global_step": 875_000}, path)
    else:
        write_tensors(path, file | extra)
    opened = open_source(path)
    assert set(opened.ignored) == set(extra)
    networks = {part.component: translate(part) for part in opened.parts}
    for name, reference in (("unet", unet), ("vae", vae)):
        config, state, _ = to_foreign(name, networks[name].config, networks[name].tensors, "diffusers")
        assert_same(state, reference.state_dict())
        assert type(reference).from_config(config).load_state_dict(reference.state_dict())
    convert(path, tmp_path / "again.safetensors", to="ldm")
    assert_same(load_file(tmp_path / "again.safetensors"), file)


@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_text_tower_of_a_single_file(tmp_path, family):
    """Stable Diffusion 2 uses the penultimate output; in diffusers' folders the last layer is cut off, also in ours."""
    text, ids = references.single_file_text(family), np.array([[3, 7, 49, 0]])
    prefix = {"sd1": "cond_stage_model.transformer.", "sd2": "cond_stage_model.model."}[family]
    state = {prefix + name: x.detach().numpy() for name, x in text.state_dict().items()}
    write_tensors(tmp_path / "text.safetensors", state)
    expected = references.single_file_text_output(family, text, ids)
    close(run(TextTower.__call__, load(tmp_path / "text.safetensors")[0], ids), expected)
    convert(tmp_path / "text.safetensors", tmp_path / "folder", to="diffusers")
    again = transformers.CLIPTextModel.from_pretrained(tmp_path / "folder" / "text_encoder").eval()
    assert again.config.num_hidden_layers == {"sd1": 3, "sd2": 2}[family]
    with torch.no_grad():
        close(again(torch.tensor(ids)).last_hidden_state.numpy(), expected)


def test_diffusers_reads_the_folder_that_we_write(tmp_path):
    references.save_pipeline(tmp_path / "theirs")
    report = convert(tmp_path / "theirs", tmp_path / "back", to="diffusers")
    assert not any(report.initialised.values())
    pipe = diffusers.StableDiffusionInpaintPipeline.from_pretrained(tmp_path / "back")
    before = diffusers.StableDiffusionInpaintPipeline.from_pretrained(tmp_path / "theirs")
    for name in ("unet", "vae", "text_encoder"):
        again = {k: v.numpy() for k, v in getattr(pipe, name).state_dict().items()}
        assert_same(again, getattr(before, name).state_dict())
    assert pipe.tokenizer("a cat").input_ids == before.tokenizer("a cat").input_ids
    assert pipe.scheduler.config == before.scheduler.config
