"""From the published folder to a wider video and back: the commands, one after the other."""

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from gp_jax.cli.main import main
from gp_jax.files import read_json, write_json
from gp_jax.methods import registry
from gp_jax.methods.m3ddm.method import M3DDMMethod
from gp_jax.methods.m3ddm.options import Options
from tests import small_m3ddm, small_networks
from tests.convert.test_formats import assert_same


def frames(folder, count):
    rng = np.random.default_rng(0)
    folder.mkdir()
    for index in range(count):
        pixels = rng.integers(0, 256, (3, 2, 3), dtype=np.uint8).repeat(9, axis=0).repeat(9, axis=1)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return folder


def read(folder):
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def test_published_weights_outpaint_and_go_back(tmp_path, capsys):
    """Random weights, small widths: the path is what counts. 60 frames take all three levels."""
    source = frames(tmp_path / "frames", 60)
    published = small_m3ddm.write_published(tmp_path / "published")
    diffusion = small_m3ddm.write_stable_diffusion(tmp_path / "diffusion")
    ours = tmp_path / "ours"
    assert main(["convert", str(published), str(ours), "--vae", str(diffusion)]) == 0
    settings = read_json(ours / "config.json")
    write_json(ours / "config.json", settings | {"native_area": 1024, "global_frames": 4})

    arguments = ["--size", "27x27", "--anchor", "left", "--method", "m3ddm", "--checkpoint", str(ours), "--steps", "3"]
    assert main(["outpaint", str(source), str(tmp_path / "wide"), *arguments]) == 0, capsys.readouterr().err
    made = read(tmp_path / "wide")
    assert made.shape == (60, 27, 27, 3)
    np.testing.assert_array_equal(made[:, :, :18], read(source))
    assert len(np.unique(made[:, :, 18:])) > 9

    assert main(["convert", str(ours), str(tmp_path / "back"), "--to", "m3ddm"]) == 0
    assert_same(load_file(tmp_path / "back" / "diffusion_pytorch_model.safetensors"), small_m3ddm.state())


@pytest.mark.parametrize("method, other", [("globalpaint", "m3ddm"), ("m3ddm", "globalpaint")])
def test_a_checkpoint_of_the_other_method_is_named(tmp_path, capsys, method, other):
    write = {"m3ddm": small_m3ddm.write, "globalpaint": small_networks.write}[other]
    checkpoint, source = write(tmp_path / "ours"), frames(tmp_path / "frames", 1)
    arguments = [str(source), str(tmp_path / "wide"), "--aspect", "1:1", "--method", method]
    assert main(["outpaint", *arguments, "--checkpoint", str(checkpoint)]) == 2
    said = capsys.readouterr().err
    assert said.endswith(f"is a checkpoint of {other}: run it by --method {other}\n") and said.count("gp-jax: ") <= 2
    assert not (tmp_path / "wide").exists()


def test_without_weights_it_says_where_they_come_from(tmp_path, capsys):
    source = frames(tmp_path / "frames", 1)
    assert main(["outpaint", str(source), str(tmp_path / "wide"), "--aspect", "1:1", "--method", "m3ddm"]) == 2
    assert "gp-jax convert M3DDM-Video-Outpainting/" in capsys.readouterr().err


def test_its_settings_say_all_that_its_result_depends_on(tmp_path):
    ours = small_m3ddm.write(tmp_path / "ours")
    settings = M3DDMMethod(ours).settings(Options(seed=3, faithful=True))
    assert settings.keys() == {"checkpoint", "weights", "seed", "faithful"}
    assert registry.options_of("m3ddm") is Options
