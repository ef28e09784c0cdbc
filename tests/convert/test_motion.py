"""AnimateDiff's motion modules: a network that has them computes what diffusers' `UNetMotionModel` computes."""

import dataclasses
import re

import diffusers
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from gp_jax.checkpoint.parameters import shapes as shapes_of
from gp_jax.checkpoint.tensors import write_tensors
from gp_jax.convert import describe, load
from gp_jax.convert.animatediff import add_motion
from gp_jax.convert.motion import PUBLISHED, RULES, position_encodings
from gp_jax.convert.rules import to_theirs
from gp_jax.convert.sources import open_source
from gp_jax.convert.translate import translate
from gp_jax.convert.writers import write_animatediff
from gp_jax.errors import UserError
from gp_jax.models.motion import interleaved
from gp_jax.models.unet import UNet, UNetConfig
from tests.convert import references
from tests.convert.references import close, random, randomised, run
from tests.convert.test_formats import assert_same

# Transformers in every level, so that every motion module has its place.
UNET = references.SD1 | {
    "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,
    "layers_per_block": 1,
}

SD15 = {
    "in_channels": 4,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
    "use_linear_projection": False,
}


def adapter(middle, layers=1, unet=UNET, **options):
    options |= {"motion_layers_per_block": layers, "use_motion_mid_block": middle}
    return randomised(diffusers.MotionAdapter(unet["block_out_channels"], **options))


def original(state):
    """The names that AnimateDiff's own files have, position encodings among them."""
    names = {"norm1": "norms.0", "norm2": "norms.1", "norm3": "ff_norm"}
    names |= {"attn1": "attention_blocks.0", "attn2": "attention_blocks.1"}
    renamed = {}
    for key, value in state.items():
        if key.endswith("pos_embed.pe"):  # diffusers has one for both attentions
            continue
        key = re.sub(r"(motion_modules\.\d)", r"\1.temporal_transformer", key)
        for new, old in names.items():
            key = re.sub(rf"(transformer_blocks\.0)\.{new}\.", rf"\1.{old}.", key)
        renamed[f"module.{key}"] = value
        if key.endswith("to_q.weight"):
            encoding = np.array(interleaved(np.arange(24), value.shape[0]))
            renamed[f"module.{key}".replace("to_q.weight", "pos_encoder.pe")] = torch.tensor(encoding)[None]
    return renamed


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image") / "unet"
    reference = randomised(diffusers.UNet2DConditionModel(**UNET))
    reference.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("attended", [True, False])
def test_equals_diffusers_over_several_frames(tmp_path, attended):
    # One level: compiling is what takes time. The groups of both are the same, for `UNetMotionModel` makes the modules
    # with those of its UNet, and `save_motion_modules` writes them down as the adapter's.
    small = UNET | {"block_out_channels": (32,), "norm_num_groups": 16}
    kinds = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D") if attended else ("DownBlock2D", "UpBlock2D")
    small |= {"down_block_types": kinds[:1], "up_block_types": kinds[1:]}
    reference = randomised(diffusers.UNet2DConditionModel(**small))
    reference.save_pretrained(tmp_path / "unet")
    motion = adapter(True, unet=small, motion_num_attention_heads=4, motion_norm_num_groups=16)
    motion.save_pretrained(tmp_path / "adapter")
    unet, report = load(tmp_path / "unet", motion=tmp_path / "adapter")
    video = diffusers.UNetMotionModel.from_unet2d(reference, motion).eval()
    sample, text = random(1, 9, 5, 8, 6), random(1, 4, 64)
    with torch.no_grad():
        theirs = video(torch.tensor(sample), 371, torch.tensor(text).repeat(5, 1, 1)).sample
    steps = np.array([371])
    ours = run(lambda unet, *inputs: unet(*inputs), unet, sample.transpose(0, 2, 3, 4, 1), steps, text)
    close(ours, theirs.permute(0, 2, 3, 4, 1))
    assert not any("space_time.temporal" in name or ".motion." in name for name in report.initialised["unet"])
    assert unet.config.motion_everywhere != attended and not report.ignored


@pytest.mark.parametrize("middle", [False, True])
def test_original_file_and_back(tmp_path, image, middle):
    motion = adapter(middle)
    file = tmp_path / "mm.ckpt"
    torch.save({"state_dict": original(motion.state_dict())}, file)
    network = add_motion(translate(open_source(image).parts[0]), file)
    fresh = any(name.startswith("middle.transformer.space_time.temporal") for name in network.initialised)
    assert fresh != middle
    assert network.config.motion_positions == 24
    write_animatediff(tmp_path / "mm.safetensors", [network])
    back = {f"module.{name}": x for name, x in load_file(tmp_path / "mm.safetensors").items()}
    assert_same(back, original(motion.state_dict()))


@pytest.mark.parametrize(
    "version, middle, positions, count, parameters",
    [("v1", False, 24, 20, 417_137_600), ("v2", True, 32, 21, 453_209_280), ("v3", False, 32, 20, 417_137_600)],
)
def test_published_versions_at_full_size(version, middle, positions, count, parameters):
    """By shapes alone: every module of the file has its place, also where there are no transformers."""
    config = UNetConfig.from_json(SD15 | {"window": None, "motion_modules": True, "motion_everywhere": True})
    config = dataclasses.replace(config, motion_positions=positions, **PUBLISHED)
    shapes = to_theirs(RULES, shapes_of(UNet, config))
    file = {name: x for name, x in shapes.items() if middle or not name.startswith("mid_block.")}
    assert len({name.partition(".temporal_transformer.")[0] for name in file}) == count
    encodings = position_encodings(config, {name: np.empty((0, x.shape[0])) for name, x in file.items()})
    assert {x.shape[:2] for x in encodings.values()} == {(1, positions)} and len(encodings) == 2 * count
    assert sum(np.prod(x.shape) for x in file.values()) == parameters


def test_the_format_tells_how_a_module_was_trained(tmp_path, image):
    motion = adapter(middle=False, motion_max_seq_length=24)
    motion.save_pretrained(tmp_path / "adapter")
    torch.save(original(motion.state_dict()), tmp_path / "mm.ckpt")
    unet = translate(open_source(image).parts[0])
    for path, frame_norm in ((tmp_path / "adapter", False), (tmp_path / "mm.ckpt", True)):
        config = add_motion(unet, path).config
        assert (config.motion_frame_norm, config.motion_positions) == (frame_norm, 24)
        assert type(config).from_json(config.to_json()) == config
    (tmp_path / "adapter" / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json"):
        add_motion(unet, tmp_path / "adapter")


def test_positions_of_another_kind_are_refused(tmp_path, image):
    state = original(adapter(middle=False).state_dict())
    name = next(key for key in state if key.endswith(".pe"))
    unet = translate(open_source(image).parts[0])
    for encoding in (state[name] + 0.1, state[name][0], state[name][..., :5]):
        torch.save({**state, name: encoding}, tmp_path / "mm.ckpt")
        with pytest.raises(UserError, match=r"\.pe "):
            add_motion(unet, tmp_path / "mm.ckpt")


def test_faults(tmp_path, image):
    state = {k: v.numpy() for k, v in original(adapter(middle=False).state_dict()).items()}
    name = "module.down_blocks.1.motion_modules.0.temporal_transformer.proj_in.weight"
    lost = {key: value for key, value in state.items() if key != name}
    write_tensors(tmp_path / "mm.safetensors", lost)
    with pytest.raises(UserError, match=r"missing: down_blocks\.1.*proj_in\.weight"):
        describe(image, motion=tmp_path / "mm.safetensors")
    adapter(middle=False, layers=2).save_pretrained(tmp_path / "adapter")
    with pytest.raises(UserError, match=r"unexpected: down_blocks\.0\.motion_modules\.1\."):
        describe(image, motion=tmp_path / "adapter")
    with pytest.raises(UserError, match="no motion modules"):
        describe(image, motion=image)
