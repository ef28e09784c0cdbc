"""LoRA files of each family, made with the libraries that people make them with, do here what they do there."""

import collections
import dataclasses
import json
import math
import re

import diffusers
import jax
import numpy as np
import peft
import pytest
import torch
from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
from safetensors.torch import load_file, save_file

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.components import COMPONENTS, load_module, save_module
from gp_jax.convert import load
from gp_jax.convert.known import KNOWN
from gp_jax.convert.lora import named, open_lora, read_adapters
from gp_jax.convert.lora_names import flat, layers, written
from gp_jax.convert.lora_writers import write_kohya, write_peft
from gp_jax.errors import UserError
from gp_jax.models.clip import TextConfig, TextTower
from gp_jax.models.unet import UNet, UNetConfig
from tests.convert import references

STRENGTHS = 0, 0.7, 1
# Every layer that such files change, ranks and alphas by layer.
LAYERS = [
    *("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
    *("conv1", "conv2", "conv_shortcut", "time_emb_proj", "downsamplers.0.conv", "upsamplers.0.conv"),
]
UNEVEN = {"rank_pattern": {"to_k": 3, "conv1": 5}, "alpha_pattern": {"proj_in": 6, "conv2": 1}}
EVEN = {"rank_pattern": {"to_k": 3, "conv1": 5}, "alpha_pattern": {"to_k": 3, "conv1": 5}}  # scale 1 throughout


def lora_config(layers, **options):
    return peft.LoraConfig(r=4, target_modules=layers, init_lora_weights=False, **{"lora_alpha": 2, **options})


class Case:
    """A reference network with a LoRA, and the same network as ours, without."""

    def __init__(self, folder, name="sd1", **options):
        self.unet = references.unet(name)
        references.save_unet(self.unet, folder / "theirs")
        self.folder = folder / "ours"
        ours, _ = load(folder / "theirs")
        self.config = ours.config
        save_module(ours, self.folder, self.config.to_json())
        torch.manual_seed(1)
        self.unet.add_adapter(lora_config(LAYERS, **{**UNEVEN, **options}))
        self.inputs = references.random(2, 9, 8, 6), np.array([3, 977]), references.random(2, 5, 64)
        self.expected = [self.theirs(strength) for strength in STRENGTHS]

    def theirs(self, strength, unet=None):
        unet = unet or self.unet
        unet.set_adapters(unet.active_adapters(), [strength])
        with torch.no_grad():
            return unet(*map(torch.tensor, self.inputs)).sample.permute(0, 2, 3, 1).numpy()

    def ours(self, lora, fuse):
        adapters = read_adapters(named(lora), {"unet": self.config})
        unet = load_module(UNet, UNetConfig, self.folder, adapter=adapters["unet"], fuse=fuse)
        sample, steps, text = self.inputs
        return np.asarray(forward(unet, sample.transpose(0, 2, 3, 1)[:, None], steps, text)[:, 0])

    def check(self, file):
        for fuse in (True, False):
            for strength, expected in zip(STRENGTHS, self.expected):
                np.testing.assert_allclose(self.ours((file, strength), fuse), expected, atol=1e-5, rtol=1e-5)
        assert np.abs(self.expected[0] - self.expected[2]).max() > 0.1

    @property
    def weights(self):
        return peft.get_peft_model_state_dict(self.unet)


@jax.jit
def forward(network, *inputs):
    return network(*inputs)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("uneven"))


@pytest.fixture(scope="module")
def even(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("even"), "sd2", lora_alpha=4, **EVEN)


def test_peft_of_diffusers(uneven, tmp_path):
    metadata = uneven.unet.peft_config["default"].to_dict()
    diffusers.StableDiffusionPipeline.save_lora_weights(
        tmp_path, unet_lora_layers=uneven.weights, unet_lora_adapter_metadata=metadata
    )
    assert all(name.startswith("unet.") for name in load_file(tmp_path / "pytorch_lora_weights.safetensors"))
    uneven.check(tmp_path)


def test_peft_of_a_model_saved_by_itself(uneven, tmp_path):
    uneven.unet.save_lora_adapter(tmp_path)
    uneven.check(tmp_path / "pytorch_lora_weights.safetensors")


def test_peft_beside_its_config(uneven, tmp_path):
    wrapped = peft.PeftModel(references.unet("sd1"), lora_config(LAYERS, **UNEVEN))
    peft.set_peft_model_state_dict(wrapped, {f"base_model.model.{name}": x for name, x in uneven.weights.items()})
    wrapped.save_pretrained(tmp_path)
    assert all(name.startswith("base_model.model.") for name in load_file(tmp_path / "adapter_model.safetensors"))
    uneven.check(tmp_path)
    named_within = {
        name.replace(".weight", ".default.weight"): x
        for name, x in load_file(tmp_path / "adapter_model.safetensors").items()
    }
    save_file(named_within, tmp_path / "adapter_model.safetensors")
    uneven.check(tmp_path)


def kohya(case, flat=False):
    """A file as kohya's scripts write it; `flat`: layers that are 1x1 convolutions as matrices."""
    made, pattern = {}, UNEVEN["alpha_pattern"]
    for name, x in case.weights.items():
        layer, _, which = name.removesuffix(".weight").rpartition(".lora_")
        key = "lora_unet_" + layer.replace(".", "_")
        alpha = next((a for end, a in pattern.items() if layer.endswith(end)), 2)
        made[f"{key}.lora_{'down' if which == 'A' else 'up'}.weight"] = x[..., 0, 0] if flat and "_proj" in key else x
        made[f"{key}.alpha"] = torch.tensor(float(alpha))
    return {name: x.contiguous().clone() for name, x in made.items()}


@pytest.mark.parametrize("flat", [False, True])
def test_kohya(uneven, tmp_path, flat):
    file = tmp_path / "style.safetensors"
    tensors = kohya(uneven)
    if flat:
        tensors = {name: x[..., 0, 0] if x.shape[2:] == (1, 1) else x for name, x in tensors.items()}
    save_file({name: x.contiguous() for name, x in tensors.items()}, file)
    uneven.check(file)
    if not flat:  # it is what diffusers takes for such a file
        layers, alphas = diffusers.StableDiffusionPipeline.lora_state_dict(str(file), unet_config=uneven.unet.config)
        other = references.unet("sd1")
        other.load_lora_adapter(layers, prefix="unet", network_alphas=alphas)
        np.testing.assert_allclose(uneven.theirs(0.7, other), uneven.expected[1], atol=1e-5, rtol=1e-5)


def test_old_forms_of_diffusers(even, tmp_path):
    tensors = {f"unet.{name}": x.contiguous() for name, x in convert_state_dict_to_diffusers(even.weights).items()}
    assert any(name.endswith("to_q.lora.down.weight") for name in tensors)
    save_file(tensors, tmp_path / "newer.safetensors")
    even.check(tmp_path / "newer.safetensors")
    older = {}
    for name, x in even.weights.items():
        for ours, theirs in (("lora_A", "lora.down"), ("lora_B", "lora.up")):
            name = name.replace(ours, theirs)
        for layer, theirs in (("to_q", "to_q"), ("to_k", "to_k"), ("to_v", "to_v"), ("to_out.0", "to_out")):
            name = name.replace(f".{layer}.lora.", f".processor.{theirs}_lora.")
        older[name] = x.contiguous()
    assert any(name.endswith("attn1.processor.to_out_lora.up.weight") for name in older)
    torch.save(older, tmp_path / "older.bin")
    even.check(tmp_path / "older.bin")


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks for it
def test_text_tower(tmp_path):
    tower = references.text_tower()
    tower.save_pretrained(tmp_path / "theirs")
    ours, _ = load(tmp_path / "theirs")
    save_module(ours, tmp_path / "ours", ours.config.to_json())
    wrapped = peft.PeftModel(tower, lora_config(["q_proj", "v_proj", "out_proj", "fc1", "fc2"]))
    ids = np.array([[48, 3, 4, 49, 49, 49, 49, 49, 49]])
    with torch.no_grad():
        expected = wrapped(torch.tensor(ids)).last_hidden_state.numpy()
    layers = peft.get_peft_model_state_dict(wrapped)
    layers = {name.removeprefix("base_model.model."): x.contiguous() for name, x in layers.items()}
    whole = {n if n.startswith("text_model.") else f"text_model.{n}": x for n, x in layers.items()}
    files = {
        "peft": {f"text_encoder.{name}": x / 2**0.5 for name, x in whole.items()},
        "bare": {name: x / 2**0.5 for name, x in layers.items()},
        "old": {f"text_encoder.{name}": x / 2**0.5 for name, x in convert_state_dict_to_diffusers(whole).items()},
        "kohya": {},
    }
    files["older"] = {
        re.sub(r"self_attn\.(\w+?)_proj\.lora_linear_layer", r"self_attn.to_\1_lora", name): x
        for name, x in files["old"].items()
    }
    for name, x in whole.items():
        layer, _, which = name.removesuffix(".weight").rpartition(".lora_")
        files["kohya"][f"lora_te_{layer.replace('.', '_')}.lora_{'down' if which == 'A' else 'up'}.weight"] = x
        files["kohya"][f"lora_te_{layer.replace('.', '_')}.alpha"] = torch.tensor(2.0)
    assert any(".q_proj.lora_linear_layer.down.weight" in name for name in files["old"])
    for name, tensors in files.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
        adapters = read_adapters(named(tmp_path / f"{name}.safetensors"), {"text": ours.config, "unet": UNetConfig()})
        for fuse in (True, False):
            tower = load_module(TextTower, TextConfig, tmp_path / "ours", adapter=adapters["text"], fuse=fuse)
            np.testing.assert_allclose(np.asarray(forward(tower, ids)), expected, atol=1e-5, rtol=1e-5)


def test_several_add_up(uneven, tmp_path):
    save_file(kohya(uneven), tmp_path / "style.safetensors")
    file = tmp_path / "style.safetensors"
    for fuse in (True, False):
        both = uneven.ours([(file, 1.7), (file, -1)], fuse)
        np.testing.assert_allclose(both, uneven.expected[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("write", [write_peft, write_kohya])
def test_what_is_written_is_read_there_and_here(uneven, tmp_path, write):
    save_file(kohya(uneven), tmp_path / "style.safetensors")
    adapter = read_adapters(named(tmp_path / "style.safetensors"), {"unet": uneven.config})["unet"]
    # Alphas of attention's layers, where they differ, diffusers gives to layers that are not there.
    scales = {name: 4 / x.rank if "attention" in name else i % 3 + 1.0 for i, (name, x) in enumerate(adapter.items())}
    adapter = {name: x._replace(up=x.up / scales[name], scale=scales[name]) for name, x in adapter.items()}
    write(tmp_path / "again.safetensors", {"unet": (uneven.config, adapter)})
    uneven.check(tmp_path / "again.safetensors")
    other = references.unet("sd1")
    pipeline = diffusers.StableDiffusionPipeline
    layers, alphas, metadata = pipeline.lora_state_dict(
        str(tmp_path / "again.safetensors"), unet_config=uneven.unet.config, return_lora_metadata=True
    )
    other.load_lora_adapter(layers, prefix="unet", network_alphas=alphas, metadata=metadata)
    np.testing.assert_allclose(uneven.theirs(0.7, other), uneven.expected[1], atol=1e-5, rtol=1e-5)


SMALL = UNetConfig(
    block_out_channels=(32,),
    down_block_types=("CrossAttnDownBlock2D",),
    up_block_types=("CrossAttnUpBlock2D",),
    layers_per_block=1,
    attention_head_dim=2,
    cross_attention_dim=32,
    norm_num_groups=4,
)
TO_Q = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
PROJ = "lora_unet_mid_block_attentions_0_proj_in"


def tensors_of(layer=TO_Q, down=(4, 32), up=(32, 4), alpha=None):
    made = {f"{layer}.lora_down.weight": torch.ones(down), f"{layer}.lora_up.weight": torch.ones(up)}
    return made | ({} if alpha is None else {f"{layer}.alpha": torch.tensor(alpha)})


def read(path, tensors, **options):
    save_file(tensors, path, **options)
    return read_adapters(named(path), {"unet": SMALL})


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        (tensors_of() | {f"{TO_Q}.dora_scale": torch.ones(32, 1)}, "is a DoRA"),
        ({f"{TO_Q}.hada_w1_a": torch.ones(32, 4)}, "is a LoHa"),
        ({f"{TO_Q}.lokr_w1": torch.ones(4, 4)}, "is a LoKr"),
        ({f"{TO_Q}.diff": torch.ones(32, 32)}, "is the full difference"),
        (tensors_of() | {f"{TO_Q}.lora_mid.weight": torch.ones(4, 4, 3, 3)}, "Tucker"),
        (tensors_of("lora_te2_text_model_encoder_layers_0_mlp_fc1"), "SDXL"),
        (tensors_of("lora_te_text_model_encoder_layers_0_mlp_fc1"), "changes the text tower"),
        ({"conv_in.weight": torch.ones(3)}, "is no LoRA: it holds 'conv_in.weight'"),
        ({}, "holds no tensors"),
        (tensors_of() | tensors_of("lora_unet_other"), "2 of its 4 tensors have no place in this one, such as 'lora_u"),
        (tensors_of("lora_unet_mid_block_attentions.0_to"), "have no place"),
        (tensors_of(down=(4, 48)), r"is of another model: .*lora_down.weight is \[4, 48\], for a weight of \[32, 32\]"),
        (tensors_of(up=(48, 4)), r"is of another model: .*lora_up.weight is \[48, 4\]"),
        (tensors_of(down=(4, 32, 3, 3), up=(32, 4, 1, 1)), "is of another model"),
        (tensors_of(down=(5, 32)), "not of one rank"),
        (tensors_of(down=(0, 32), up=(32, 0)), "not of one rank"),
        (tensors_of(down=(), up=()), "not of one rank"),
        (tensors_of(down=(4, 32, 1)), "is of another model"),
        (tensors_of(alpha=float("nan")), "alpha .*NaN or infinity"),
        (tensors_of(alpha=[1.0, 2.0]), "must be one number"),
        ({f"{TO_Q}.alpha": torch.tensor(1.0)}, "alpha has no down beside it"),
        ({f"{TO_Q}.lora_down.weight": torch.ones(4, 32)}, "lora_down.weight has no up beside it"),
        ({f"{TO_Q}.lora_up.weight": torch.ones(32, 4)}, "lora_up.weight has no down beside it"),
        ({name: x * float("inf") for name, x in tensors_of().items()}, "NaN or infinity"),
        ({name: x.to(torch.bool) for name, x in tensors_of().items()}, "must be of numbers"),
        (
            tensors_of() | {"unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight": torch.ones(3)},
            "are two spellings of one tensor",
        ),
    ],
)
def test_what_is_no_lora_for_this_model_is_told_in_a_sentence(tmp_path, tensors, sentence):
    with pytest.raises(UserError, match=sentence) as told:
        read(tmp_path / "style.safetensors", tensors)
    assert str(tmp_path / "style.safetensors") in str(told.value) and "\n" not in str(told.value)


def test_broken_files_and_strengths(tmp_path):
    read(tmp_path / "whole.safetensors", tensors_of())
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-7])
    for lora, sentence in [
        (tmp_path / "half.safetensors", "not a whole safetensors file"),
        (tmp_path / "none.safetensors", "does not exist"),
        (tmp_path, "is a folder without adapter_model.safetensors"),
        ((tmp_path / "whole.safetensors", float("nan")), "finite strength"),
        ((tmp_path / "whole.safetensors", -(10**400)), "finite strength"),
        (3, "a LoRA is a file"),
        ([3], "a LoRA is a file"),
        ((3, 4.0), "a LoRA is a file"),
    ]:
        with pytest.raises(UserError, match=sentence):
            read_adapters(named(lora), {"unet": SMALL})


@pytest.mark.parametrize(
    ("pattern", "alpha"),
    [
        ({}, 8),
        ({"to_q": 2}, 2),
        ({r"attn\d\.to_[qv]": 2, "to_q": 3}, 2),
        ({"o_q": 2, "^to_q": 2, r"attn2\..*": 2}, 8),
        ({r"^mid_block\..*": 2}, 2),
    ],
)
def test_patterns_of_peft_are_regular_expressions(tmp_path, pattern, alpha):
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_"
    tensors = {f"{name}A.weight": torch.ones(4, 32), f"{name}B.weight": torch.ones(32, 4)}
    settings = json.dumps({"unet.lora_alpha": 8, "unet.alpha_pattern": pattern})
    read(tmp_path / "a.safetensors", tensors, metadata={"lora_adapter_metadata": settings})
    (update,) = open_lora(tmp_path / "a.safetensors", {"unet": SMALL})["unet"].values()
    assert update.scale == alpha / 4


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"unet.lora_alpha": "2"}, "must be a finite number"),
        ({"unet.lora_alpha": 1, "unet.alpha_pattern": {"to_(": 2}}, "no regular expression"),
        ({"unet.lora_alpha": 1, "unet.alpha_pattern": [3]}, "must be by layer"),
        ({"unet.use_dora": True}, "is a DoRA"),
        ({"unet.peft_type": "LOHA"}, "of the kind 'LOHA' of PEFT"),
        ([1], "no JSON object"),
    ],
)
def test_what_peft_may_not_say(tmp_path, settings, sentence):
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_"
    tensors = {f"{name}A.weight": torch.ones(4, 32), f"{name}B.weight": torch.ones(32, 4)}
    with pytest.raises(UserError, match=sentence):
        read(tmp_path / "a.safetensors", tensors, metadata={"lora_adapter_metadata": json.dumps(settings)})


@pytest.mark.parametrize(
    ("layer", "ours"),
    [
        ("lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q", "middle.transformer.spatial.self_attention.query"),
        ("unet.middle.transformer.space_time.feed_forward.expand", "middle.transformer.space_time.feed_forward.expand"),
        (
            "mid_block.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.1.processor.to_out",
            "middle.transformer.space_time.temporal.attention.1.output",
        ),
    ],
)
def test_other_names_of_layers(tmp_path, layer, ours):
    """Those of the original files, ours, and those of AnimateDiff's motion modules."""
    config = dataclasses.replace(SMALL, motion_modules="motion" in layer)
    end = {"lora_": ".lora_{}.weight", "unet.": ".lora.{}.weight"}.get(layer[:5], "_lora.{}.weight")
    outputs = parameters.shapes(UNet, config)[f"{ours}.kernel"].shape[-1]
    made = {layer + end.format("down"): torch.ones(2, 32), layer + end.format("up"): torch.ones(outputs, 2)}
    save_file(made, tmp_path / "a.safetensors")
    adapters = read_adapters(named(tmp_path / "a.safetensors"), {"unet": config})
    assert list(adapters["unet"]) == [ours]


def test_one_layer_under_two_names_is_refused(tmp_path):
    with pytest.raises(UserError, match="is of a layer that another name is of too"):
        read(tmp_path / "a.safetensors", tensors_of() | tensors_of(TO_Q.replace("lora_unet_mid_block", "mid_block")))


def test_rank_stabilised_scales(tmp_path):
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_"
    tensors = {f"{name}A.my-style.weight": torch.ones(4, 32), f"{name}B.my-style.weight": torch.ones(32, 4)}
    settings = {"unet.lora_alpha": 6, "unet.use_rslora": True}
    found = read(tmp_path / "a.safetensors", tensors, metadata={"lora_adapter_metadata": json.dumps(settings)})
    np.testing.assert_allclose(next(iter(found["unet"].values())).delta(), 4 * 6 / 4**0.5)


def test_both_unets_get_what_is_said_of_one(tmp_path):
    save_file(tensors_of(alpha=2.0), tmp_path / "a.safetensors")
    adapters = read_adapters(named((tmp_path / "a.safetensors", -3)), {"unet": SMALL, "interpolation_unet": SMALL})
    update = adapters["unet"]["middle.transformer.spatial.self_attention.query"]
    assert adapters.keys() == {"unet", "interpolation_unet"} and update.rank == 4
    np.testing.assert_allclose(update.delta(), -3 * 4 * 2 / 4, rtol=1e-6)
    with pytest.raises(UserError, match="changes the interpolation network"):
        save_file(tensors_of(TO_Q.replace("unet", "interpolation_unet", 1)), tmp_path / "b.safetensors")
        read_adapters(named(tmp_path / "b.safetensors"), {"unet": SMALL})


def test_no_two_layers_have_one_name():
    """kohya's underscores hide where a name ends: no network of the kinds that there are may have two alike."""
    for name in ("stable-diffusion-inpainting", "stable-diffusion-2-inpainting"):
        for component in ("unet", "text"):
            shapes = parameters.shapes(COMPONENTS[component][0], KNOWN[name][component])
            table = layers(component, KNOWN[name][component])
            kernels = {x.removesuffix(".kernel") for x in shapes if x.endswith(".kernel")}
            assert {layer.ours for layer in written(component, KNOWN[name][component]).values()} == kernels
            assert all(flat(layer.theirs) == key for key, layer in table.items())
            assert {layer.ours for layer in table.values()} == kernels


def test_lcm_lora_fits_the_inpainting_network(tmp_path):
    """278 layers of Stable Diffusion 1.5, of rank 64 in 67,252,224 parameters (rivals.md); here of rank 1."""
    config = KNOWN["stable-diffusion-inpainting"]["unet"]
    table = written("unet", dataclasses.replace(config, temporal=False, window=None, global_tokens=False))
    spared = r"conv_in|conv_out|time_embedding\..*"
    found = {x.theirs: x.weight for x in table.values() if not re.fullmatch(spared, x.theirs)}
    ends = [next(end for end in LAYERS if name.endswith(f".{end}")) for name in found]
    assert collections.Counter(ends) == {
        **{"to_q": 32, "to_k": 32, "to_v": 32, "to_out.0": 32, "ff.net.0.proj": 16, "ff.net.2": 16},
        **{"proj_in": 16, "proj_out": 16, "conv1": 22, "conv2": 22, "time_emb_proj": 22, "conv_shortcut": 14},
        **{"downsamplers.0.conv": 3, "upsamplers.0.conv": 3},
    }
    assert sum(64 * (math.prod(weight[1:]) + weight[0]) for weight in found.values()) == 67_252_224
    tensors = {}
    for name, (outputs, *inputs) in found.items():
        key, one = f"lora_unet_{flat(name)}", (1, 1) if len(inputs) == 3 else ()
        tensors[f"{key}.lora_down.weight"] = torch.zeros(1, *inputs, dtype=torch.float16)
        tensors[f"{key}.lora_up.weight"] = torch.zeros(outputs, 1, *one, dtype=torch.float16)
        tensors[f"{key}.alpha"] = torch.tensor(1.0, dtype=torch.float16)
    save_file(tensors, tmp_path / "pytorch_lora_weights.safetensors")
    adapter = read_adapters(named(tmp_path), {"unet": config})["unet"]
    assert config.in_channels == 9 and len(adapter) == 278
    shapes = parameters.shapes(UNet, config)
    assert all(update.delta().shape == shapes[f"{name}.kernel"].shape for name, update in adapter.items())
