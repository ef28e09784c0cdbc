"""MOTIA's published folder becomes a checkpoint, and goes back bit by bit."""

import shutil

import diffusers
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.folder import load_parts
from gp_jax.convert import convert, describe, load
from gp_jax.convert.known import KNOWN
from gp_jax.errors import UserError
from gp_jax.files import read_json, write_json
from gp_jax.models.controlnet import ControlNet
from gp_jax.models.unet import UNet
from tests import small_motia, small_networks
from tests.convert.test_formats import assert_same
from tests.convert.test_motion import original


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return small_motia.write_published(tmp_path_factory.mktemp("motia") / "published")


def test_there_and_back(published, tmp_path):
    report = convert(published, tmp_path / "ours")
    assert report.loaded.keys() == {"unet", "vae", "text", "controlnet"} and not any(report.initialised.values())
    for path in (published, tmp_path / "ours"):  # nothing is widened on any way
        assert load(path)[0]["unet"].config.in_channels == 4
        assert sorted(str(describe(path)).splitlines()[1:]) == sorted(str(report).splitlines()[1:])
    parts = load_parts(tmp_path / "ours", "motia", ("unet", "controlnet", "vae", "text"))
    assert parts.settings.native_area == 32**2
    config, schedule = parts.networks["unet"].config, parts.schedule
    assert config.norm_joint and config.motion_everywhere and config.motion_frame_norm and config.in_channels == 4
    assert parts.networks["controlnet"].config.norm_joint
    np.testing.assert_allclose(schedule.alpha[[1, 981, 999]] ** 2, [0.99828953, 0.00195883, 0.00157896], rtol=1e-5)
    assert list(schedule.timesteps(50)[[0, -1]]) == [981, 1] and schedule.set_alpha_to_one

    report = convert(tmp_path / "ours", tmp_path / "back", to="motia")
    assert not any(report.left_out.values())
    unet, steering, motion = small_motia.networks()
    back = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "back" / "sd_blocks", safety_checker=None)
    again, info = diffusers.ControlNetModel.from_pretrained(
        tmp_path / "back" / "inpaint_blocks", output_loading_info=True
    )
    assert not any(info.values())
    for made, expected in ((back.unet, unet), (again, steering)):
        assert_same({k: v.numpy() for k, v in made.state_dict().items()}, expected.state_dict())
    modules = load_file(tmp_path / "back" / "temporal_blocks" / "mm_sd_v15_v2.safetensors")
    theirs = torch.load(published / "temporal_blocks" / "mm_sd_v15_v2.ckpt")
    assert theirs.keys() == original(motion.state_dict()).keys()
    weights = {f"module.{name}": x for name, x in modules.items() if not name.endswith(".pe")}
    assert_same(weights, {name: x for name, x in theirs.items() if not name.endswith(".pe")})
    assert convert(tmp_path / "back", tmp_path / "again").loaded.keys() == {"unet", "vae", "text", "controlnet"}


def test_what_is_missing_is_named(published, tmp_path):
    def without(name):
        folder = tmp_path / name.replace("/", "-")
        shutil.copytree(published, folder)
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return folder

    for name, message in {
        "inpaint_blocks": "has no inpaint_blocks/",
        "temporal_blocks": "has no temporal_blocks/",
        "sd_blocks": "has no sd_blocks/",
        "temporal_blocks/mm_sd_v15_v2.ckpt": "0 files of motion modules",
        "inpaint_blocks/config.json": "inpaint_blocks is no checkpoint",
    }.items():
        with pytest.raises(UserError, match=message):
            convert(without(name), tmp_path / "dest")
    index = read_json(published / "sd_blocks" / "model_index.json")
    folder = tmp_path / "temporal_blocks-mm_sd_v15_v2.ckpt"
    shutil.copy(published / "temporal_blocks" / "mm_sd_v15_v2.ckpt", folder / "temporal_blocks")
    write_json(folder / "sd_blocks" / "model_index.json", {k: v for k, v in index.items() if k != "vae"})
    with pytest.raises(UserError, match="sd_blocks has no vae"):
        convert(folder, tmp_path / "dest")
    with pytest.raises(UserError, match="motion modules of its own"):
        convert(published, tmp_path / "dest", motion=published / "temporal_blocks" / "mm_sd_v15_v2.ckpt")
    assert not (tmp_path / "dest").exists()


def test_each_method_runs_its_own_checkpoints(published, tmp_path):
    convert(published, tmp_path / "ours")
    with pytest.raises(UserError, match="is a checkpoint of motia: run it by --method motia"):
        load_parts(tmp_path / "ours", "globalpaint", ("unet", "vae"))
    other = small_networks.write(tmp_path / "other")
    with pytest.raises(UserError, match="no controlnet here"):
        convert(other, tmp_path / "back", to="motia")
    write_json(other / "config.json", {"format": "gp_jax", "method": "motia"})
    (other / "controlnet").symlink_to(tmp_path / "ours" / "controlnet")
    shutil.rmtree(other / "interpolation_unet")
    with pytest.raises(UserError, match=r"different models|plain Stable Diffusion with"):
        load_parts(other, "motia", ("unet", "controlnet", "vae"))


def test_parameters_at_full_size():
    """Stable Diffusion 1.5, mm_sd_v15_v2, control_v11p_sd15_inpaint."""
    counts = {
        name: sum(np.prod(x.shape) for x in parameters.shapes(cls, KNOWN["motia"][name]).values())
        for name, cls in (("unet", UNet), ("controlnet", ControlNet))
    }
    assert counts == {"unet": 859_520_964 + 453_209_280, "controlnet": 361_279_120}
