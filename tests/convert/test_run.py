"""What `convert` writes, from every way a component's weights may lie on disk."""

import json
import tracemalloc

import diffusers
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.folder import SHIPPED
from gp_jax.checkpoint.settings import read_settings
from gp_jax.convert import convert, load
from gp_jax.convert.files import open_weights
from gp_jax.errors import UserError
from gp_jax.files import read_json, reserved, write_json
from tests import small_networks
from tests.convert import references
from tests.convert.test_formats import assert_same


@pytest.fixture(scope="module")
def tower():
    return references.vision_tower()


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diffusers") / "sd2"
    references.save_pipeline(folder)
    return folder


LAYOUTS = {
    "safetensors": {},
    "fp16 variant": {"variant": "fp16"},
    "shards": {"max_shard_size": "8KB"},
    "shards of the fp16 variant": {"max_shard_size": "8KB", "variant": "fp16"},
    "pickle": {"pickle": True},
    "pickled shards": {"pickle": True, "shards": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_a_weight_file_gives_the_same_tensors(tmp_path, tower, layout):
    options = dict(LAYOUTS[layout])
    pickled, shards = options.pop("pickle", False), options.pop("shards", False)
    tower.save_pretrained(tmp_path / "a", **options)
    if pickled:
        (tmp_path / "a" / "model.safetensors").unlink()
        state = dict(tower.state_dict())
        halves = [dict(list(state.items())[::2]), dict(list(state.items())[1::2])] if shards else [state]
        names = [f"pytorch_model-{i}.bin" for i in range(2)] if shards else ["pytorch_model.bin"]
        for half, name in zip(halves, names):
            torch.save(half, tmp_path / "a" / name)
        where = {key: name for half, name in zip(halves, names) for key in half}
        if shards:
            (tmp_path / "a" / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    if "max_shard_size" in options:
        assert len(list((tmp_path / "a").glob("*.safetensors"))) > 2
    convert(tmp_path / "a", tmp_path / "b")
    convert(tmp_path / "b", tmp_path / "c", to="diffusers")
    assert_same(load_file(tmp_path / "c" / "image_encoder" / "model.safetensors"), tower.state_dict())


def test_a_whole_folder_becomes_a_checkpoint_and_goes_back(tmp_path, pipeline):
    ours = tmp_path / "ours"
    report = convert(pipeline, ours)
    assert {path.name for path in ours.iterdir()} == {"config.json", "unet", "vae", "text", "tokenizer", "scheduler"}
    assert read_json(ours / "config.json")["native_area"] == 512 * 512
    assert read_json(ours / "scheduler" / "scheduler_config.json")["beta_schedule"] == "scaled_linear"
    modules, again = load(ours)
    for name, module in modules.items():
        assert report.parameters(name) == sum(x.size for x in parameters.flatten(module).values())
        assert not again.initialised[name] and not report.loaded[name].keys() & report.initialised[name].keys()
    for line in ("unet ", "vae ", "text ", "new: middle.transformer.space_time (", "new: stride_embedding ("):
        assert line in str(report)
    # What is new ends in zeros, and is not zero all over.
    new = {name: parameters.flatten(modules["unet"])[name] for name in report.initialised["unet"]}
    assert not new["middle.transformer.space_time.temporal.output.kernel"].any()
    assert new["middle.transformer.space_time.temporal.query.kernel"].any()

    report = convert(ours, tmp_path / "back", to="diffusers")
    assert report.left_out["unet"].keys() == new.keys()
    for name in ("unet", "vae"):
        states = (
            load_file(root / name / "diffusion_pytorch_model.safetensors") for root in (tmp_path / "back", pipeline)
        )
        assert_same(*states)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtypes_are_cast_on_request_and_then_kept(tmp_path, pipeline, dtype):
    convert(pipeline, tmp_path / "half", dtype=dtype, only=["vae"])
    convert(tmp_path / "half", tmp_path / "again")
    for folder in ("half", "again"):
        tensors = open_weights(tmp_path / folder / "vae" / "model.safetensors")
        assert {tensor.dtype for tensor in tensors.values()} == {jnp.dtype(dtype)}
    whole, half = (parameters.flatten(load(path)[0]) for path in (pipeline / "vae", tmp_path / "half"))
    assert all(np.array_equal(whole[name].astype(dtype), half[name]) for name in whole)


def test_components_are_added_but_never_replaced(tmp_path, pipeline, tower):
    tower.save_pretrained(tmp_path / "tower")
    references.save_unet(references.unet("sd1"), tmp_path / "unet", temporal=False)
    convert(tmp_path / "unet", tmp_path / "ours")
    report = convert(tmp_path / "tower", tmp_path / "ours")
    assert report.loaded.keys() == {"clip", "global_tokens"}
    modules, _ = load(tmp_path / "ours")
    config = modules["global_tokens"].config
    assert (config.feature_width, config.output_width) == (24, modules["unet"].config.cross_attention_dim)
    before = (tmp_path / "ours" / "unet" / "model.safetensors").stat()
    with pytest.raises(UserError, match="has clip already"):
        convert(tmp_path / "tower", tmp_path / "ours")
    with pytest.raises(UserError, match="has no text; it has clip"):
        convert(tmp_path / "tower", tmp_path / "ours", only=["text"])
    assert (tmp_path / "ours" / "unet" / "model.safetensors").stat() == before
    convert(pipeline, tmp_path / "ours", only=["text"])
    assert (tmp_path / "ours" / "tokenizer").is_dir()
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="is no tokenizer"):
        convert(tmp_path / "tower", tmp_path / "another", tokenizer=tmp_path / "other")
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(UserError, match="exists already"):
        convert(tmp_path / "tower", tmp_path / "other")


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_component_is_added_whole_or_not_at_all(tmp_path, tower, monkeypatch, hard_links):
    def fail(*_):
        raise OSError(28, "No space left on device")

    if not hard_links:
        monkeypatch.setattr("os.link", fail)
    tower.save_pretrained(tmp_path / "tower")
    references.save_unet(references.unet("sd1"), tmp_path / "unet", temporal=False)
    convert(tmp_path / "unet", tmp_path / "ours")
    (tmp_path / "ours" / "notes").write_text("of the user")
    before = contents(tmp_path / "ours")
    with monkeypatch.context() as patch, pytest.raises(UserError, match=f"cannot write {tmp_path / 'ours'}: No space"):
        patch.setattr("gp_jax.checkpoint.folder.write_json", fail)
        convert(tmp_path / "tower", tmp_path / "ours")
    assert contents(tmp_path / "ours") == before
    convert(tmp_path / "tower", tmp_path / "ours")
    after = contents(tmp_path / "ours")
    assert before.items() < after.items()
    assert {path.parts[0] for path in after.keys() - before.keys()} == {"clip", "global_tokens"}
    assert {path.name for path in tmp_path.iterdir()} == {"tower", "unet", "ours"}


def test_two_programs_do_not_make_the_same(tmp_path, tower):
    tower.save_pretrained(tmp_path / "tower")
    with reserved(tmp_path / "ours"), pytest.raises(UserError, match="in use by process"):
        convert(tmp_path / "tower", tmp_path / "ours")
    convert(tmp_path / "tower", tmp_path / "ours")


def test_the_checkpoint_of_this_package_is_a_source_by_its_name(tmp_path):
    """Its `config.json` names no method, as those written before there were several."""
    report = convert("tiny", tmp_path / "ours", only=("vae",))
    assert set(report.loaded) == {"vae"} and not report.notes
    written = read_json(tmp_path / "ours" / "config.json")
    assert written.pop("method") == "globalpaint"
    assert written == read_json(SHIPPED / "tiny" / "config.json")


def test_settings_and_scheduler_come_with_the_denoiser(tmp_path, tower):
    def written(name):
        folder = tmp_path / name
        return read_json(folder / "config.json"), read_json(folder / "scheduler" / "scheduler_config.json")

    tower.save_pretrained(tmp_path / "tower")
    small_networks.write(tmp_path / "theirs")
    file = tmp_path / "theirs" / "scheduler" / "scheduler_config.json"
    convert(tmp_path / "tower", tmp_path / "ours")
    convert(tmp_path / "theirs", tmp_path / "ours", only=["vae"])
    convert(tmp_path / "theirs", tmp_path / "ours", only=["unet"])
    assert written("ours") == written("theirs")
    convert("tiny", tmp_path / "of tiny", only=["clip"])
    convert(tmp_path / "theirs", tmp_path / "of tiny", only=["unet"])
    assert written("of tiny") == written("theirs")
    write_json(file, read_json(file) | {"prediction_type": "sample", "timestep_spacing": "linspace"})
    with pytest.raises(UserError, match="ours/scheduler has prediction_type=v_prediction, not sample as interpol"):
        convert(tmp_path / "theirs", tmp_path / "ours", only=["interpolation_unet"])
    write_json(file, read_json(file) | {"prediction_type": "v_prediction"})
    convert(tmp_path / "theirs", tmp_path / "ours", only=["interpolation_unet"])


def test_prediction_type_must_be_given_where_weights_do_not_tell_it(tmp_path):
    references.save_unet(references.unet("sd2-plain"), tmp_path / "unet")
    with pytest.raises(UserError, match="--prediction-type"):
        convert(tmp_path / "unet", tmp_path / "ours")
    convert(tmp_path / "unet", tmp_path / "ours", prediction_type="v_prediction")
    scheduler = read_json(tmp_path / "ours" / "scheduler" / "scheduler_config.json")
    assert scheduler["prediction_type"] == "v_prediction"
    with pytest.raises(UserError, match="known to predict v_prediction: leave --prediction-type epsilon out"):
        convert(tmp_path / "ours", tmp_path / "again", prediction_type="epsilon")


@pytest.mark.parametrize("to, only", [("ldm", "clip"), ("ldm", "interpolation_unet"), ("diffusers", "global_tokens")])
def test_where_nothing_has_a_place_nothing_is_written(tmp_path, to, only):
    with pytest.raises(UserError, match=f"{to} has no place for {only}"):
        convert("tiny", tmp_path / "new" / "theirs.safetensors", to=to, only=[only])
    assert not list(tmp_path.iterdir())


def test_tensors_flow_one_by_one(tmp_path):
    """Python's own count of memory, numpy's arrays included, stays far below the file's size."""
    references.vision_tower(width=256, layers=8).save_pretrained(tmp_path / "a")
    size = (tmp_path / "a" / "model.safetensors").stat().st_size
    convert(tmp_path / "a", tmp_path / "warm-up")
    tracemalloc.start()
    convert(tmp_path / "a", tmp_path / "b")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size / 4


@pytest.mark.parametrize(
    ("name", "sampler"), [("LCMScheduler", "lcm"), ("TCDScheduler", "tcd"), ("PNDMScheduler", "ddim")]
)
def test_a_distilled_model_is_sampled_as_it_was_distilled(tmp_path, name, sampler):
    references.save_pipeline(tmp_path / "theirs")
    file = tmp_path / "theirs" / "scheduler" / "scheduler_config.json"
    getattr(diffusers, name).from_config(read_json(file)).save_pretrained(file.parent)
    convert(tmp_path / "theirs", tmp_path / "ours")
    settings = read_settings(read_json(tmp_path / "ours" / "config.json"))
    assert settings.sampler == sampler
    assert (settings.steps, settings.text_guidance) == ((25, 7.5) if sampler == "ddim" else (4, 1.0))
