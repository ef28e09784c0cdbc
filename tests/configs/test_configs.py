"""Every shipped configuration: its networks counted, and the same configuration, shrunk, trained for a step."""

import math
from pathlib import Path

import jax
import numpy as np
import pytest

from gp_jax.geometry import Canvas
from gp_jax.methods.registry import load
from gp_jax.parallel import make_mesh
from gp_jax.training.config import STAGES, load_config
from gp_jax.training.log import read_log
from gp_jax.training.loop import train
from gp_jax.training.networks import component_of
from gp_jax.training.setup import prepare
from tests import small_m3ddm
from tests.training import small

FOLDER = Path(__file__).parents[2] / "configs"
SD2 = {"unet": 1_208_935_889, "global_tokens": 69_798_912}
SD15 = {"unet": 1_195_930_244, "global_tokens": 39_373_056}
TINY = {"unet": 5_507_088, "vae": 1_778_860, "clip": 631_040, "global_tokens": 588_416}


def of_interpolation(counts):
    return {"interpolation_unet" if name == "unet" else name: count for name, count in counts.items()}


COUNTS = {
    "m3ddm.py": {"m3ddm": 1_299_279_320 + 2_019, "vae": 83_653_863},  # with the statistics of batch norms
    "sd2.py:keyframes": SD2,
    "sd2.py:interpolation": of_interpolation(SD2),
    "sd15.py:keyframes": SD15,
    "sd15.py:interpolation": of_interpolation(SD15),
    "sd2_ablation.py:baseline": {"unet": 1_133_119_684},
    "sd2_ablation.py:est": {"unet": 1_183_376_849},
    "sd2_ablation.py:full": SD2,
    "tiny.py:autoencoder": {"vae": TINY["vae"]},
    "tiny.py:image": {"unet": 4_061_344, "vae": TINY["vae"]},
    "tiny.py:keyframes": TINY,
    "tiny.py:sharp": TINY,
    "tiny.py:interpolation": of_interpolation(TINY),
    "tiny.py:sharp_interpolation": of_interpolation(TINY),
    "tiny_ablation.py:image": {"unet": 601_424, "vae": TINY["vae"]},
    "tiny_ablation.py:baseline": {"unet": 805_280, "vae": TINY["vae"]},
    "tiny_ablation.py:est": {"unet": 826_448, "vae": TINY["vae"]},
    "tiny_ablation.py:full": {"unet": 816_848, "vae": TINY["vae"], "clip": 113_760, "global_tokens": 90_096},
}


def configuration(name):
    return load_config(str(FOLDER / name))


def test_all_configurations_are_listed():
    assert {name.partition(":")[0] for name in COUNTS} == {file.name for file in FOLDER.glob("*.py")}


@pytest.mark.usefixtures("weights")  # the sharp stages of tiny compare frames by LPIPS
@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_counted_and_the_docstring_tells_what_to_run(name):
    """The video modules of `changes` are in the image network's place once there is a checkpoint to start from."""
    config = configuration(name)
    run = prepare(config, make_mesh(config.mesh or "data=1", None if config.mesh else jax.devices()[:1]))
    found = dict.fromkeys(run.networks.configs, 0)
    for parameter, x in run.networks.shapes.items():
        found[component_of(parameter)] += math.prod(x.shape)
    assert found == COUNTS[name]
    text = (FOLDER / name.partition(":")[0]).read_text()
    assert f"--config configs/{name} " in " ".join(text.split()) and len(text.splitlines()) < 150
    for word in ("Hardware:", "tep time", "xpected result"):
        assert word in text


def shrunk(name, records, checkpoint):
    """The configuration with small networks and records; all that it says of training stays."""
    config = configuration(name)
    networks = small_m3ddm.NETWORKS if config.stage == "m3ddm" else small.NETWORKS
    with config.unlocked():
        for component in config.networks:
            config.networks[component] = networks[component].to_json()
        if config.changes.get("unet"):
            config.changes.unet = {x: y for x, y in config.changes.unet.items() if y in (None, False)}
        config.init_from = "" if config.stage == "autoencoder" else str(checkpoint)
        config.steps, config.batch_size, config.mesh, config.attention = 1, 8, "", "einsum"
        config.microbatches = min(config.microbatches, 2)
        config.settings, config.schedule = {"native_area": 16 * 24, "segment_frames": small.FRAMES}, {}
        if config.stage == "m3ddm":
            config.settings = {"native_area": 24 * 32, "global_frames": 2, "steps": 3}
        config.data.update({"records": (str(records),), "precomputed": False, "text": False, "workers": 0})
        config.data.update({"view_size": 16, "view_patch": 8, "downsampling": networks["vae"].downsampling})
        config.data.segment_frames = min(config.data.segment_frames, small.FRAMES)
        for seen in ("feature_frames", "global_frames"):
            config.data[seen] = min(config.data[seen], 2)
        if config.objective.get("perceptual"):
            config.objective.perceptual = 0.0  # LPIPS wants larger frames
        config.log_interval = config.checkpoints.interval = 1
        config.validation.interval = config.samples.interval = 0
    return config


# Always; the others differ from these in little that the small networks keep, and test_loop.py has all stages.
TRAINED = ("sd2.py:keyframes", "tiny.py:autoencoder")


@pytest.mark.parametrize("name", [pytest.param(x, marks=[] if x in TRAINED else pytest.mark.slow) for x in COUNTS])
def test_a_step_is_trained_saved_restored_on_another_mesh_and_sampled_from(name, request, tmp_path):
    used = ("windows", "m3ddm") if name == "m3ddm.py" else ("records", "checkpoint")
    config = shrunk(name, *map(request.getfixturevalue, used))
    assert train(config, tmp_path, mesh=make_mesh("fsdp=2", jax.devices()[:2]))
    [line] = read_log(tmp_path)
    assert np.isfinite(line["loss"]) and line["skipped"] == 0
    with config.unlocked():
        config.steps = 2
    assert train(config, tmp_path, mesh=make_mesh("data=1", jax.devices()[:1]))
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2]
    if config.stage != "autoencoder":
        method = load(STAGES[config.stage].method, tmp_path / "checkpoint")
        video = method(np.zeros((3, 16, 16, 3), np.uint8), Canvas.from_size(16, 16, 16, 24))
        assert video.shape == (3, 16, 24, 3)
