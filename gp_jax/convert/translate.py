"""From a part of a source to the tensors of our network, and from ours to another format's.

    network = translate(part)          # strict: every tensor has its place, or UserError names those that do not
    network.tensors                    # ours, still unread
    network.initialised                # what the other network doesn't have: EST, global tokens

Nothing is read here; tensors flow when they are written or loaded.
"""

import dataclasses
import functools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.typing import DTypeLike

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.components import COMPONENTS
from gp_jax.checkpoint.fresh import initialise
from gp_jax.checkpoint.tensors import LazyTensor, check_match, finite
from gp_jax.convert.formats import FORMATS
from gp_jax.convert.rules import covered, to_ours, to_theirs
from gp_jax.convert.sources import Part
from gp_jax.errors import UserError
from gp_jax.json_config import naming
from gp_jax.models.clip import VisionConfig
from gp_jax.models.global_tokens import GlobalTokensConfig
from gp_jax.models.unet import UNetConfig


@dataclasses.dataclass(frozen=True)
class Network:
    """A component in our words: what was found, and what has to be initialised."""

    component: str
    config: Any
    tensors: dict[str, LazyTensor]
    initialised: dict[str, jax.ShapeDtypeStruct]
    left_out: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Tensors of ours that the target format has no place for."""
    notes: tuple[str, ...] = ()

    def complete(self, seed: int = 0, dtype: DTypeLike | None = None) -> dict[str, Any]:
        """All tensors of the network, the new ones made now and with `dtype`; None: float32."""
        cls, _ = COMPONENTS[self.component]
        fresh = initialise(cls, self.config, list(self.initialised), seed, dtype) if self.initialised else {}
        return self.tensors | fresh


def translate(part: Part) -> Network:
    """Finds each tensor's place.

    Raises:
      UserError: a tensor is missing, unexpected or of another shape; all of them are named, in the source's words.
    """
    cls, config_cls = COMPONENTS[part.component]
    with naming(part.path.parent):
        config = config_cls.from_json(part.config)
    shapes = parameters.shapes(cls, config)
    rules = part.format.rules(config)
    known = covered(rules, shapes)
    check_match(to_theirs(rules, {name: shapes[name] for name in known}), part.tensors, str(part.path))
    tensors = checked(to_ours(rules, part.tensors, sorted(known)), part.path)
    initialised = {name: shape for name, shape in shapes.items() if name not in known}
    return Network(part.component, config, tensors, initialised)


def checked(tensors: Mapping[str, LazyTensor], path: Path) -> dict[str, LazyTensor]:
    """The same tensors; reading one that holds NaN or infinity raises UserError."""

    def read(name: str, tensor: LazyTensor) -> np.ndarray:
        return finite(name, tensor.read(), str(path))

    return {
        name: dataclasses.replace(tensor, read=functools.partial(read, name, tensor))
        for name, tensor in tensors.items()
    }


def exported(network: Network, kept: Collection[str]) -> Network:
    """What a report says of a network whose tensors `kept` went into another format."""
    tensors = {name: tensor for name, tensor in network.tensors.items() if name in kept}
    left_out = {name: tensor for name, tensor in network.tensors.items() if name not in kept}
    return dataclasses.replace(network, tensors=tensors, initialised={}, left_out=left_out)


def widened(network: Network) -> Network:
    """A plain UNet, whose input is the latents alone, with the inpainting input: zeros for mask and masked latents.

    Other networks come back as they are; raises UserError where the input is neither.
    """
    config = network.config
    if not isinstance(config, UNetConfig) or config.in_channels == 2 * config.out_channels + 1:
        return network
    kernel, wide = network.tensors["conv_in.kernel"], 2 * config.out_channels + 1
    if config.in_channels != config.out_channels:
        raise UserError(
            f"this UNet has {config.in_channels} input channels; "
            f"{config.out_channels} (plain) or {wide} (inpainting) can be used"
        )

    def read():
        array = kernel.read()
        zeros = np.zeros((*array.shape[:2], wide - config.in_channels, array.shape[3]), array.dtype)
        return np.concatenate([array, zeros], axis=2)

    shape = (*kernel.shape[:2], wide, kernel.shape[3])
    return dataclasses.replace(
        network,
        config=dataclasses.replace(config, in_channels=wide),
        tensors=network.tensors | {"conv_in.kernel": LazyTensor(shape, kernel.dtype, read)},
        notes=(f"conv_in widened from {config.in_channels} to {wide} input channels by zeros",),
    )


def fresh(component: str, config: Any) -> Network:
    """A component that no source has, all of it to be initialised."""
    cls, _ = COMPONENTS[component]
    return Network(component, config, {}, dict(parameters.shapes(cls, config)))


def extractor(unet: UNetConfig, tower: VisionConfig) -> GlobalTokensConfig:
    """The global token extractor between a vision tower and a UNet."""
    width = unet.cross_attention_dim
    heads = max(heads for heads in range(1, max(1, width // 64) + 1) if width % heads == 0)
    return GlobalTokensConfig(feature_width=tower.hidden_size, width=width, heads=heads, output_width=width)


def to_foreign(
    component: str, config: Any, tensors: Mapping[str, Any], format: str
) -> tuple[dict[str, Any], dict[str, LazyTensor], set[str]]:
    """The way back.

    Args:
      component: a name of `COMPONENTS`.
      config: ours.
      tensors: ours, by name.
      format: a name of `FORMATS`.

    Returns:
      The format's config, its tensors, and those of our names that have a place there.

    Raises:
      UserError: the format does not know this component, or cannot express this network.
    """
    if component not in FORMATS.get(format, {}):
        raise UserError(f"{format} has no place for {component}")
    spelling = FORMATS[format][component]
    cls, config_cls = COMPONENTS[component]
    foreign_json, kept = spelling.config(config), spelling.describable(config)
    refuse_lost(format, component, config, spelling.granted)
    described = foreign_json
    if spelling.infer:
        described = spelling.infer(to_theirs(spelling.rules(kept), parameters.shapes(cls, kept)))
    there = config_cls.from_json(described)
    refuse_lost(format, component, kept, fields_of(spelling.describable(there)))
    rules = spelling.rules(there)
    names = covered(rules, parameters.shapes(cls, there))
    made = to_theirs(rules, {name: tensor for name, tensor in tensors.items() if name in names})
    return foreign_json, made | spelling.buffers(config, made), names


def refuse_lost(format: str, component: str, config: Any, there: Mapping[str, Any]) -> None:
    """Raises UserError where fields of `config` are not `there`, which is what the format would say of them."""
    ours = fields_of(type(config).from_json(config.to_json()))  # in the form that reading gives them
    if lost := [f"{key}={ours[key]!r}" for key, value in there.items() if ours[key] != value]:
        raise UserError(f"the format {format} cannot hold this {component}: it would lose {', '.join(lost)}")


def fields_of(config: Any) -> dict[str, Any]:
    """The fields of a config, but for what it carries for others."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.name != "carried"}
