"""A LoRA changes what is made, the same whether merged or beside the weights, and is part of what a job is of."""

import itertools

import numpy as np
import pytest

import gp_jax
from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.adapters import Update
from gp_jax.checkpoint.components import read_configs
from gp_jax.cli.main import main
from gp_jax.convert.lora import named, read_adapters
from gp_jax.convert.lora_names import written
from gp_jax.convert.lora_writers import write_kohya, write_peft
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.globalpaint.method import GlobalPaint
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.methods.method import ArrayClip
from gp_jax.parallel import make_mesh
from gp_jax.video import VideoReader, VideoWriter
from tests import small_networks

CANVAS = Canvas.from_pads(21, 27, 8, 7, 0, 0)
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 21, 27, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = small_networks.write(tmp_path_factory.mktemp("checkpoint"))
    small_networks.write_text(folder)
    return folder


def adapter_of(component, config, seed):
    """Of all layers, our own among them."""
    rng, made = np.random.default_rng(seed), {}
    for name, layer in written(component, config).items():
        rank, (outputs, *inputs) = int(rng.integers(1, 4)), layer.weight
        down = rng.normal(size=(rank, *inputs)) / np.sqrt(np.prod(inputs))
        up = 0.3 * rng.normal(size=(rank, outputs))
        made[name] = Update(layer.leaf.forward(down.astype(np.float32)), up.astype(np.float32))
    return made


@pytest.fixture(scope="module")
def files(folder, tmp_path_factory):
    """For the UNets, in both ways of writing, and for the text tower."""
    configs, folder = read_configs(folder), tmp_path_factory.mktemp("loras")
    for number, (write, component) in enumerate(itertools.product((write_peft, write_kohya), ("unet", "text"))):
        part = configs[component], adapter_of(component, configs[component], number)
        write(folder / f"{number}.safetensors", {component: part})
    return [folder / f"{number}.safetensors" for number in range(4)]


def made(pipe, **options):
    return pipe(FRAMES, CANVAS, seed=1, prompt="a b", text_guidance=3.0, **options).astype(int)


def test_merged_or_beside_it_makes_the_same(folder, files, tmp_path):
    plain = made(OutpaintPipeline.from_pretrained(folder))
    lora = [(files[0], 0.7), files[1], (files[2], -0.4), (files[3], 1)]
    merged = OutpaintPipeline.from_pretrained(folder, lora=lora)
    beside = OutpaintPipeline.from_pretrained(folder, lora=lora, fuse_lora=False)
    clip = made(merged)
    assert np.abs(made(beside) - clip).max() <= 1  # of 255: where rounding falls
    assert np.abs(plain - clip).max() > 20
    none = OutpaintPipeline.from_pretrained(folder, lora=[(file, 0) for file in files])
    np.testing.assert_array_equal(made(none), plain)
    # What is saved is the changed network, whichever way it was held.
    for pipe, name in ((merged, "merged"), (beside, "beside")):
        pipe.save_pretrained(tmp_path / name)
        assert np.abs(made(OutpaintPipeline.from_pretrained(tmp_path / name)) - clip).max() <= 1


@pytest.mark.parametrize("number", [0, 1])
def test_each_network_that_a_file_speaks_of_is_changed(folder, files, number):
    plain, changed = (OutpaintPipeline.from_pretrained(folder, lora=lora).checkpoint for lora in (None, files[number]))
    names = [("unet", "interpolation_unet"), ("text",)][number]
    for name in ("unet", "interpolation_unet", "vae", "extractor", "text"):
        old, new = (parameters.digest(getattr(x, name)) for x in (plain, changed))
        assert (old != new) == (name in names)


@pytest.mark.parametrize("write", [write_peft, write_kohya])
def test_what_a_file_says_of_both_networks_each_has_for_itself(folder, write, tmp_path):
    configs = read_configs(folder)
    parts = {
        name: (configs[name], adapter_of(name, configs[name], seed))
        for seed, name in enumerate(("unet", "interpolation_unet", "text"))
    }
    write(tmp_path / "all.safetensors", parts)
    read = read_adapters(named(tmp_path / "all.safetensors"), configs)
    assert read.keys() == parts.keys()
    for name, (_, adapter) in parts.items():
        assert read[name].keys() == adapter.keys()
        for layer, update in adapter.items():
            np.testing.assert_allclose(read[name][layer].delta(), update.delta(), rtol=1e-6, atol=1e-7)


def test_a_work_folder_is_of_one_lora_and_strength(folder, files, tmp_path):
    def prepare(lora):
        pipe = OutpaintPipeline.from_pretrained(folder, lora=lora)
        return pipe.prepare(ArrayClip(FRAMES), CANVAS, Options(), tmp_path / "work")

    frames = list(prepare((files[0], 0.7)).frames())
    again = list(prepare((files[0], 0.7)).frames())
    np.testing.assert_array_equal(frames, again)
    for lora, told in [
        ((files[0], 0.8), "'0.safetensors:0.7', not '0.safetensors:0.8'"),
        ((files[2], 0.7), "'0.safetensors:0.7', not '2.safetensors:0.7'"),
        (None, "'0.safetensors:0.7', not by default"),
    ]:
        with pytest.raises(UserError, match=f"was begun with lora {told}"):
            prepare(lora)
    # Another file under the same name.
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / files[0].name).write_bytes(files[2].read_bytes())
    with pytest.raises(UserError, match=r"another checkpoint \(unet, interpolation_unet\)"):
        prepare((tmp_path / "other" / files[0].name, 0.7))


def test_a_method_is_named_by_its_loras(folder, files):
    settings = [
        GlobalPaint(folder, lora=lora).settings(Options())
        for lora in (None, files[0], (files[0], 0.5), (files[2], 1), [files[0], files[2]])
    ]
    assert all(a != b for a, b in itertools.combinations(settings, 2)) and "lora" not in settings[0]
    frames = GlobalPaint(folder, lora=files[0])(FRAMES, CANVAS)
    np.testing.assert_array_equal(frames, OutpaintPipeline.from_pretrained(folder, lora=files[0])(FRAMES, CANVAS))
    assert (frames != GlobalPaint(folder)(FRAMES, CANVAS)).any()


def test_what_takes_no_lora_says_so(folder, files, tmp_path):

    with pytest.raises(UserError, match="m3ddm takes no LoRA"):
        gp_jax.load_method("m3ddm", checkpoint=folder, lora=files[0])
    with pytest.raises(UserError, match="the method edge has no networks"):
        gp_jax.load_method("edge", lora=files[0])
    unet = small_networks.build("unet")
    with pytest.raises(UserError, match="for the checkpoint's own unet"):
        OutpaintPipeline.from_pretrained(folder, lora=files[0], unet=unet)
    with pytest.raises(UserError, match="changes the text tower"):
        OutpaintPipeline.from_pretrained("tiny", lora=files[1])


def test_the_command_takes_files_and_strengths(folder, files, tmp_path, capsys):
    with VideoWriter(tmp_path / "clip", 25) as writer:
        for frame in FRAMES:
            writer.write(frame)
    places = [str(tmp_path / "clip"), str(tmp_path / "out")]
    command = ["outpaint", *places, "--pad", "8,7,0,0", "--checkpoint", str(folder)]
    (tmp_path / "half.safetensors").write_bytes(files[0].read_bytes()[:-1])
    for file, told in (
        ("half.safetensors", "is not a whole safetensors file"),
        ("none.safetensors:2", "there is no LoRA"),
        ("clip", "is a folder without"),
    ):
        assert main([*command, "--lora", str(tmp_path / file)]) == 2
        assert told in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main([*command, "--lora", f"{files[0]}:0.8", "--lora", str(files[2])]) == 0
    assert f"{files[0].name} at 0.8 and {files[2].name} at 1" in capsys.readouterr().out
    pipe = OutpaintPipeline.from_pretrained(folder, lora=[(files[0], 0.8), files[2]])
    np.testing.assert_array_equal(list(VideoReader(tmp_path / "out")), pipe(FRAMES, CANVAS))


def test_a_mesh_changes_nothing(folder, files):
    for fuse in (True, False):
        options = {"lora": [(files[0], 0.7), files[1]], "fuse_lora": fuse}
        alone = OutpaintPipeline.from_pretrained(folder, **options)
        spread = OutpaintPipeline.from_pretrained(folder, make_mesh("data=2,fsdp=2,tensor=2"), **options)
        assert np.abs(made(alone) - made(spread)).max() <= 1
