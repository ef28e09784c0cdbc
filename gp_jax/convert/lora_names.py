"""How LoRA files spell layers: from any spelling to the layer of ours whose kernel is changed, and back.

A key is a prefix, the name of a layer, and what it is of the layer's update:

    kohya           lora_unet_ mid_block_attentions_0_proj_in          .lora_down.weight   .lora_up.weight   .alpha
    diffusers, old  unet. mid_block.attentions.0. ... .processor.to_q  _lora.down.weight   _lora.up.weight
    PEFT            base_model.model. mid_block.attentions.0.proj_in   .lora_A.weight      .lora_B.weight

Of the three parts each may be any of its column. The layers are those of the tables by which whole networks are
converted (formats.py), so that a layer has one name for both; what only our networks have is called as here. Where dots
have become underscores, nothing tells the two apart any more, so all names are compared in that form.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.components import COMPONENTS
from gp_jax.convert.formats import FORMATS
from gp_jax.convert.rules import CONV, LINEAR, Leaf, Place, places
from gp_jax.errors import UserError
from gp_jax.json_config import short

# Other algorithms, by a part of the names that they leave.
_OTHERS = (
    (r"dora_scale|lora_magnitude_vector", "a DoRA, which changes directions and lengths of weights apart"),
    (r"hada_w|hada_t", "a LoHa, a Hadamard product of two LoRAs"),
    (r"lokr_w|lokr_t", "a LoKr, a Kronecker product"),
    (r"lora_mid|lora\.mid", "a LoCon in Tucker's form, of three factors"),
    (r"\.diff(_b)?$|\.(w_norm|b_norm|set_weight)$", "the full difference of two models"),
    (r"oft_|boft_", "an OFT, which rotates weights"),
    (r"ia3_|\.on_input$", "an IA3, which scales activations"),
    (r"\.(a1|a2|b1|b2)\.weight$", "a GLoRA"),
    (r"lora_te2_|text_encoder_2\.", "a LoRA of SDXL, with two text towers"),
)
# The end of a key, and what it is. PEFT may name the adapter within: `.lora_A.default.weight`.
_ENDS = (
    (r"(\.lora_down|\.lora\.down|_lora\.down|\.lora_linear_layer\.down|\.lora_A(\.[^.]+)?)\.weight", "down"),
    (r"(\.lora_up|\.lora\.up|_lora\.up|\.lora_linear_layer\.up|\.lora_B(\.[^.]+)?)\.weight", "up"),
    (r"\.alpha", "alpha"),
)
# The beginning of a key, and whose layers follow; without any, those of either.
_WRAPPED = r"(base_model\.model\.)?"
_BEGINNINGS = (
    (r"lora_unet_", "unet"),
    (r"lora_interpolation_unet_", "interpolation_unet"),
    (r"lora_te1?_", "text"),
    (rf"{_WRAPPED}unet\.{_WRAPPED}", "unet"),
    (rf"{_WRAPPED}interpolation_unet\.{_WRAPPED}", "interpolation_unet"),
    (rf"{_WRAPPED}text_encoder\.{_WRAPPED}", "text"),
    (_WRAPPED, ""),
)
# Component -> the beginnings of its keys as they are written, PEFT's and kohya's.
PREFIXES = {
    "unet": ("unet.", "lora_unet_"),
    "interpolation_unet": ("interpolation_unet.", "lora_interpolation_unet_"),
    "text": ("text_encoder.", "lora_te_"),
}
PEFT_METADATA = "lora_adapter_metadata"  # of a safetensors file: JSON, what PEFT's config is to it
# Within the name of a layer, what diffusers' old forms write otherwise.
_ALIASES = (
    (r"\.processor(?=\.|$)", ""),
    (r"self_attn\.to_([qkv])$", r"self_attn.\1_proj"),
    (r"self_attn\.to_out$", "self_attn.out_proj"),
    (r"\.to_out$", ".to_out.0"),
    (r"^(?=(embeddings|encoder|final_layer_norm)\.)", "text_model."),
)
# The spellings of layers, the first being the one that is written.
_SPELLINGS = ("diffusers", "ldm", "animatediff")
_END = re.compile("|".join(f"(?P<{kind}>{pattern})" for pattern, kind in _ENDS))


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer of ours that can have an update.

    Attributes:
      ours: its dotted path in our network.
      theirs: in the spelling that is written.
      leaf: the way between the two layouts of its kernel.
      weight: the shape of their kernel, [O, I] or [O, I, h, w].
    """

    ours: str
    theirs: str
    leaf: Leaf
    weight: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Key:
    """A key taken apart; `owner` is a component, or empty where the key does not say it, and `peft` who wrote it."""

    owner: str
    layer: str
    kind: str
    peft: bool


def parse(path: Path, key: str) -> Key:
    """Takes a key apart; raises UserError where it is none of a LoRA."""
    for pattern, algorithm in _OTHERS:
        if re.search(pattern, key):
            raise UserError(f"{path} is {algorithm}, which is not supported (it holds {short(key)}); use a plain LoRA")
    ending = next((match for match in _END.finditer(key) if match.end() == len(key)), None)
    if ending is None:
        raise UserError(f"{path} is no LoRA: it holds {short(key)}")
    pattern, owner = next((p, owner) for p, owner in _BEGINNINGS if re.match(p, key))
    layer = re.sub(f"^{pattern}", "", key[: ending.start()], count=1)
    for alias, name in _ALIASES:
        layer = re.sub(alias, name, layer)
    return Key(owner, layer, str(ending.lastgroup), ending[0].startswith((".lora_A", ".lora_B")))


def flat(name: str) -> str:
    """A layer's name as kohya writes it."""
    return name.replace(".", "_")


@functools.lru_cache(maxsize=8)
def layers(component: str, config: Any) -> Mapping[str, Layer]:
    """The layers of a network, by all their names, as `flat` makes them."""
    found: dict[str, Layer] = {}
    for layer in _spelled(component, config):
        found.setdefault(flat(layer.theirs), layer)
    return found


def written(component: str, config: Any) -> dict[str, Layer]:
    """The same by our names."""
    found: dict[str, Layer] = {}
    for layer in _spelled(component, config):
        found.setdefault(layer.ours, layer)
    return found


def _spelled(component: str, config: Any) -> Iterator[Layer]:
    shapes = parameters.shapes(COMPONENTS[component][0], config)
    kernels = {name: x for name, x in shapes.items() if name.endswith(".kernel") and len(x.shape) in (2, 4)}
    for format in (FORMATS[name].get(component.removeprefix("interpolation_")) for name in _SPELLINGS):
        if format:
            yield from _layers(places(format.rules(config), kernels), kernels)
    own = {
        name: Place(name.removesuffix("kernel") + "weight", (LINEAR if len(x.shape) == 2 else CONV)[0])
        for name, x in kernels.items()
    }
    yield from _layers(own, kernels)


def _layers(found: Mapping[str, Place], kernels: Mapping[str, Any]) -> Iterator[Layer]:
    for name, (theirs, leaf) in found.items():
        if theirs.endswith(".weight") and leaf.part[1] == 1:  # a part of a packed kernel is no layer there
            weight = leaf.backward(np.broadcast_to(np.uint8(0), kernels[name].shape)).shape
            yield Layer(name.removesuffix(".kernel"), theirs.removesuffix(".weight"), leaf, weight)
