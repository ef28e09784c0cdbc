"""What `import gp_jax` gives, and what a pipeline takes and leaves."""

import inspect
import itertools
import subprocess
import sys

import jax
import numpy as np
import pytest

import gp_jax
from gp_jax.checkpoint.folder import find_checkpoint
from gp_jax.checkpoint.parameters import flatten
from gp_jax.errors import UserError
from gp_jax.files import write_json
from gp_jax.methods.method import ArrayClip
from gp_jax.parallel import make_mesh
from tests import small_networks

CANVAS = gp_jax.Canvas.from_aspect(21, 27, aspect=2.0, anchor="left")
FRAMES = np.random.default_rng(4).integers(0, 256, (5, 21, 27, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_networks.write(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def pipe(folder):
    return gp_jax.OutpaintPipeline.from_pretrained(folder)


def test_names_come_when_they_are_used_and_import_alone_costs_nothing():
    code = "import sys, gp_jax; assert not {'jax', 'numpy', 'av'} & set(sys.modules); gp_jax.Canvas; dir(gp_jax)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(gp_jax.__all__) <= set(dir(gp_jax)) and all(getattr(gp_jax, name) for name in gp_jax.__all__)
    with pytest.raises(AttributeError, match="no attribute 'canvas'"):
        gp_jax.canvas  # noqa: B018


def test_every_option_has_a_name_in_the_signature():
    for call in (gp_jax.OutpaintPipeline.__call__, gp_jax.OutpaintPipeline.stream):
        kinds = {parameter.kind for parameter in inspect.signature(call).parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD not in kinds
        assert {"seed", "steps", "negative_prompt", "prompt_embeds", "on_step"} <= inspect.signature(
            call
        ).parameters.keys()


def test_any_method_takes_the_same_calls(pipe, folder):
    method = gp_jax.load_method("globalpaint", checkpoint=folder)
    np.testing.assert_array_equal(method(FRAMES, CANVAS, seed=3), pipe(FRAMES, CANVAS, seed=3))
    edge = gp_jax.load_method("edge")(FRAMES, CANVAS)
    assert (edge[:, :, 27:] == FRAMES[:, :, -1:]).all()
    with pytest.raises(UserError, match="edge has no option 'seed': it has none"):
        gp_jax.load_method("edge")(FRAMES, CANVAS, seed=3)
    with pytest.raises(UserError, match="globalpaint has no option 'step': it has seed, steps"):
        method(FRAMES, CANVAS, step=3)


def test_any_method_takes_clips_in_the_same_forms(pipe):
    edge, wide = gp_jax.load_method("edge"), gp_jax.load_method("edge")(FRAMES, CANVAS)
    for frames in (FRAMES, list(FRAMES), ArrayClip(FRAMES)):
        np.testing.assert_array_equal(edge(frames, CANVAS), wide)
        np.testing.assert_array_equal(list(edge.stream(frames, CANVAS)), wide)
    for method in (pipe, edge):
        for call in (method, method.stream):
            with pytest.raises(UserError, match=r"the clip is the name 'x.mp4', not frames: read it by"):
                call("x.mp4", CANVAS)
            with pytest.raises(UserError, match=r"the canvas is \(24, 48\), not a gp_jax.geometry.Canvas"):
                call(FRAMES, (24, 48))
    with pytest.raises(UserError, match="there is no method None: choose of globalpaint"):
        gp_jax.load_method(None)


def test_lists_of_clips_and_seeds_are_one_call_each(pipe):
    made = pipe([FRAMES, FRAMES[::-1]], CANVAS, seed=[0, 1])
    assert len(made) == 4
    np.testing.assert_array_equal(made[1], pipe(FRAMES, CANVAS, seed=1))
    np.testing.assert_array_equal(made[2], pipe(FRAMES[::-1], CANVAS, seed=0))


@pytest.mark.parametrize("mesh", [None, "data=2,context=2"])
def test_each_denoising_step_is_told(pipe, folder, mesh):
    """In order, with the latents of all rows, wherever they lie."""
    if mesh:
        pipe = gp_jax.OutpaintPipeline.from_pretrained(folder, mesh=make_mesh(mesh, jax.devices()[:4]))
    seen = []
    made = pipe(FRAMES, CANVAS, steps=3, on_step=lambda step, latents: seen.append((int(step), np.array(latents))))
    jax.effects_barrier()
    steps = [step for step, _ in seen]
    assert steps == [0, 1, 2] * (len(steps) // 3) and len(steps) >= 6
    assert len({x.shape for _, x in seen}) == 1 and len(seen[0][1]) == (2 if mesh else 1)
    assert all(np.abs(x - before).max() > 1e-3 for (_, before), (_, x) in itertools.pairwise(seen))
    np.testing.assert_array_equal(made, pipe(FRAMES, CANVAS, steps=3))


def test_what_is_saved_is_loaded(pipe, folder, tmp_path):
    pipe.save_pretrained(tmp_path / "saved")
    again = gp_jax.OutpaintPipeline.from_pretrained(tmp_path / "saved")
    assert again.checkpoint.settings == pipe.checkpoint.settings
    assert again.checkpoint.schedule.to_config() == pipe.checkpoint.schedule.to_config()
    np.testing.assert_array_equal(again(FRAMES, CANVAS), pipe(FRAMES, CANVAS))
    with pytest.raises(UserError, match="exists already"):
        pipe.save_pretrained(tmp_path / "saved")


def test_a_component_can_be_another(pipe, folder):
    other = small_networks.build("vae", seed=7)
    mixed = gp_jax.OutpaintPipeline.from_pretrained(folder, vae=other)
    assert mixed.checkpoint.vae is other
    assert flatten(mixed.checkpoint.unet).keys() == flatten(pipe.checkpoint.unet).keys()
    with pytest.raises(UserError, match="no component 'vea'"):
        gp_jax.OutpaintPipeline.from_pretrained(folder, vea=other)


def test_prompts_pull_and_negative_ones_push(tmp_path):
    small_networks.write_text(small_networks.write(tmp_path / "reads"))
    pipe = gp_jax.OutpaintPipeline.from_pretrained(tmp_path / "reads")
    plain, asked, pushed = (
        pipe(FRAMES, CANVAS, text_guidance=4.0, **options)
        for options in ({}, {"prompt": "a b"}, {"prompt": "a b", "negative_prompt": "b"})
    )
    assert all((a != b).any() for a, b in ((plain, asked), (asked, pushed)))
    embeds = pipe.checkpoint.embed("a b")
    np.testing.assert_array_equal(pipe(FRAMES, CANVAS, text_guidance=4.0, prompt_embeds=embeds), asked)
    for options, sentence in (
        ({"negative_prompt": "b"}, "there is no prompt: give one"),
        ({"prompt": "a", "prompt_embeds": embeds}, "both a prompt and prompt_embeds"),
        ({"prompt_embeds": embeds[..., 1:]}, r"must be \[1, L, 16\], and are \[1, 77, 15\]"),
        ({"prompt_embeds": embeds[:, 1:]}, "have 76 places, and this checkpoint's have 77"),
    ):
        with pytest.raises(UserError, match=sentence):
            pipe(FRAMES, CANVAS, **options)


def test_attention_has_names(folder, pipe):
    other = gp_jax.OutpaintPipeline.from_pretrained(folder, attention="xla")
    difference = np.abs(other(FRAMES, CANVAS).astype(int) - pipe(FRAMES, CANVAS))
    assert difference.max() <= 1
    with pytest.raises(UserError, match="no attention 'flash': choose of auto, einsum"):
        gp_jax.OutpaintPipeline.from_pretrained(folder, attention="flash")
    with pytest.raises(UserError, match="cudnn runs on a GPU, and this is a CPU: use auto"):
        gp_jax.OutpaintPipeline.from_pretrained(folder, attention="cudnn")


def test_a_folder_of_diffusers_is_told_what_to_do(tmp_path):
    write_json(tmp_path / "model_index.json", {"_class_name": "StableDiffusionInpaintPipeline"})
    with pytest.raises(UserError, match=r"is a folder of diffusers.*`gp-jax convert .* my_model/`"):
        find_checkpoint(tmp_path)
