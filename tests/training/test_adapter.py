"""A LoRA is trained alone, and what comes out is the trained network, however it is taken up again."""

import shutil

import numpy as np
import pytest

from gp_jax.checkpoint.components import COMPONENTS, WEIGHTS_FILE, load_module, read_configs
from gp_jax.checkpoint.parameters import flatten
from gp_jax.checkpoint.tensors import read_tensors
from gp_jax.convert import convert
from gp_jax.convert.lora import named, read_adapters
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.training.adapter import LORA
from gp_jax.training.log import read_log
from gp_jax.training.loop import train
from gp_jax.training.networks import within
from gp_jax.training.setup import prepare
from tests import small_networks
from tests.training import small
from tests.training.test_update import one_device

CANVAS = Canvas.from_pads(21, 27, 8, 7, 0, 0)
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 21, 27, 3), np.uint8)
LAYERS = r"middle\..*(query|value|conv1|expand)|conv_out"  # of both kinds, our own space-time modules among them


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    return small.make_checkpoint(tmp_path_factory.mktemp("origin"))


@pytest.fixture(scope="module")
def config(records, origin):
    def make(stage="keyframes", init_from=origin, **adapter):
        made = small.config(stage, records, init_from)
        made.adapter.update({"rank": 3, "alpha": 6.0, "modules": LAYERS, **adapter})
        made.optimizer.groups = ()
        return made

    return make


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained")
    assert train(config(), workdir, mesh=one_device())
    return workdir


def tensors(file):
    return {name: np.asarray(x) for name, x in read_tensors(file).items()}


def test_only_updates_are_trained_and_saved(config):
    run = prepare(config(), one_device())
    assert run.networks.live == (LORA,) and set(run.networks.frozen) == {"unet", "vae", "clip", "global_tokens"}
    assert set(run.state["params"]) == set(run.networks.multipliers) == set(run.state["average"])
    layers = {name.rpartition(".lora_")[0] for name in run.state["params"]}
    assert "lora.middle.transformer.spatial.cross_attention.query" in layers and "lora.conv_out" in layers
    assert any("space_time" in name for name in layers)
    for name, x in within(LORA, run.state["params"]).items():
        kernel = run.networks.shapes[f"unet.{name.rpartition('.lora_')[0]}.kernel"].shape
        assert x.shape == ((*kernel[:-1], 3) if "lora_down" in name else (3, kernel[-1]))
    assert not any("lora" in name for name in run.networks.shapes_of(["unet"]))


def test_what_is_trained_is_what_its_files_give(origin, trained):
    checkpoint = OutpaintPipeline.from_pretrained(trained / "checkpoint")
    expected = checkpoint(FRAMES, CANVAS).astype(int)
    assert np.abs(expected - OutpaintPipeline.from_pretrained(origin)(FRAMES, CANVAS)).max() > 3
    for name in ("peft", "kohya"):
        file = trained / "checkpoint" / LORA / f"{name}.safetensors"
        for fuse in (True, False):
            pipe = OutpaintPipeline.from_pretrained(origin, lora=file, fuse_lora=fuse)
            assert np.abs(pipe(FRAMES, CANVAS) - expected).max() <= 1
    # The rest is what it was.
    for name in ("vae", "clip", "global_tokens"):
        old, new = (tensors(folder / name / "model.safetensors") for folder in (origin, trained / "checkpoint"))
        assert all(np.array_equal(old[key], new[key]) for key in old)
    losses = [line["loss"] for line in read_log(trained) if "loss" in line]
    assert len(losses) == 6 and np.isfinite(losses).all()


def test_files_are_those_of_the_rank_and_scale_asked_for(origin, trained):
    kohya = tensors(trained / "checkpoint" / LORA / "kohya.safetensors")
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    assert kohya[f"{key}.alpha"] == 6 and kohya[f"{key}.lora_down.weight"].shape == (3, small_networks.WIDTH)
    assert kohya["lora_unet_conv_out.lora_down.weight"].shape == (3, small_networks.WIDTH, 3, 3)
    assert any(np.abs(x).max() > 1e-4 for name, x in kohya.items() if "lora_up" in name)
    configs = {"unet": read_configs(origin)["unet"]}
    both = [
        read_adapters(named(trained / "checkpoint" / LORA / f"{x}.safetensors"), configs) for x in ("peft", "kohya")
    ]
    for name, update in both[0]["unet"].items():
        np.testing.assert_allclose(update.delta(), both[1]["unet"][name].delta(), rtol=1e-6, atol=1e-9)


def test_a_run_that_was_cut_off_goes_on_to_the_same_bits(config, trained, tmp_path):
    def cut(done, total, label):
        if done == 5:
            raise OSError("cut off")

    with pytest.raises(OSError, match="cut off"):
        train(config(), tmp_path, mesh=one_device(), progress=cut)
    assert not (tmp_path / "checkpoint").exists()
    assert train(config(), tmp_path, mesh=one_device())
    for name in ("lora/peft", "lora/kohya", "unet/model"):
        old, new = ((x / "checkpoint" / f"{name}.safetensors").read_bytes() for x in (trained, tmp_path))
        assert old == new


def test_a_run_goes_on_beside_the_networks_that_it_began_with(config, origin, trained, tmp_path):
    moved = shutil.copytree(origin, tmp_path / "moved")
    assert train(config(init_from=moved), trained, mesh=one_device())
    weights = bytearray((moved / "vae" / WEIGHTS_FILE).read_bytes())
    weights[-1] ^= 1
    (moved / "vae" / WEIGHTS_FILE).write_bytes(weights)
    with pytest.raises(UserError, match=f"beside another vae than that of {moved}"):
        train(config(init_from=moved), trained, mesh=one_device())


def test_its_state_is_no_checkpoint(trained, tmp_path):
    with pytest.raises(UserError, match="is the state of a LoRA"):
        convert(trained, tmp_path / "out")


def test_the_interpolation_network_gets_what_is_trained_for_key_frames(config, origin, tmp_path):
    folder = small.make_checkpoint(tmp_path / "origin")
    (folder / "interpolation_unet").mkdir()
    for file in (folder / "unet").iterdir():
        (folder / "interpolation_unet" / file.name).write_bytes(file.read_bytes())
    made = config(init_from=folder)
    made.steps = 2
    assert train(made, tmp_path / "run", mesh=one_device())
    checkpoint = tmp_path / "run" / "checkpoint"
    adapters = read_adapters(named(checkpoint / LORA / "peft.safetensors"), read_configs(folder))
    for name in ("unet", "interpolation_unet"):
        both = [
            flatten(load_module(*COMPONENTS[name], place / name, adapter=adapter))
            for place, adapter in ((checkpoint, {}), (folder, adapters[name]))
        ]
        for key in both[0]:
            np.testing.assert_allclose(both[0][key], both[1][key], rtol=1e-6, atol=1e-7)


def test_a_network_that_the_outcome_has_unchanged_is_not_changed(config):
    for component, change in (("unet", {"masked_fill": "edge"}), ("vae", {"scaling_factor": 2.0})):
        made = config()
        made.changes[component] = change
        with pytest.raises(UserError, match=f"changes.{component} makes another network"):
            prepare(made, one_device())
    made = config()
    made.changes.unet = small.UNET.to_json()  # what it is
    prepare(made, one_device())


@pytest.mark.parametrize(
    ("stage", "adapter", "sentence"),
    [
        ("keyframes", {"modules": "nothing"}, "no layer of unet is 'nothing'"),
        ("keyframes", {"modules": "("}, "must be a regular expression"),
        ("keyframes", {"rank": -1}, "a whole number from 0"),
        ("keyframes", {"alpha": 0.0}, "a number above 0"),
        ("autoencoder", {}, "adapter.rank must be 0 in the stage autoencoder"),
        ("interpolation", {}, "interpolation_unet is neither in a checkpoint"),
    ],
)
def test_what_cannot_be_meant(config, stage, adapter, sentence):
    with pytest.raises(UserError, match=sentence):
        prepare(config(stage, **adapter), one_device())
