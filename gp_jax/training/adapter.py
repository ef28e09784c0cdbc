"""Training of a LoRA alone: the section `adapter` of a configuration.

    --config.adapter.rank=16                 train updates of rank 16 beside the diffusion network, and nothing else

The network itself is a constant of the training then, held in `config.dtype` and read again by every run; what is
trained, saved and averaged are the updates, parameters of a component of their own:

    lora.middle.transformer.spatial.self_attention.query.lora_down.kernel        [I, r]

The outcome is the checkpoint that training started from with the updates merged, and `lora/` in it, which holds them in
the two ways that LoRAs are published in. The checkpoint is what its origin with `--lora lora/peft.safetensors` is: of a
LoRA for `unet` the interpolation network gets it too.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Sharding
from ml_collections import ConfigDict

from gp_jax.checkpoint.adapters import Update, apart, merged
from gp_jax.checkpoint.components import COMPONENTS, CONFIG_FILE, WEIGHTS_FILE
from gp_jax.checkpoint.fresh import initialise
from gp_jax.checkpoint.tensors import read_tensors
from gp_jax.convert.lora_names import written
from gp_jax.convert.lora_writers import write_kohya, write_peft
from gp_jax.errors import UserError
from gp_jax.files import read_json
from gp_jax.json_config import short
from gp_jax.models.low_rank import DOWN, UP, with_low_rank

LORA = "lora"  # stands before the names of what is trained, as a component's name does; and the folder of its files
# Who else gets what is trained beside one network, as with `--lora`.
_SHARED = {"unet": ("unet", "interpolation_unet"), "interpolation_unet": ("interpolation_unet",)}


@dataclasses.dataclass(frozen=True)
class Adapter:
    """What is trained beside a network.

    Attributes:
      component: the network.
      ranks: (layer, r) of each layer that gets an update.
      scale: of all updates.
    """

    component: str
    ranks: tuple[tuple[str, int], ...]
    scale: float

    @property
    def build(self) -> Any:
        """Builds the network with its updates, called as its class is."""
        options = {"build": COMPONENTS[self.component][0], "ranks": self.ranks, "scale": self.scale}
        return functools.partial(with_low_rank, **options)

    def fresh(
        self, config: Any, names: Mapping[str, Any], seed: int, shardings: Mapping[str, Sharding]
    ) -> dict[str, jax.Array]:
        """The updates that training starts with, float32, by their names in the network."""
        return initialise(self.build, config, sorted(names), seed, jnp.float32, shardings)

    def updates(self, tensors: Mapping[str, Any]) -> dict[str, Update]:
        """What is trained, by its names in the network, as an adapter."""
        return apart(tensors, self.scale)[1]

    def parts(self, origin: Path, updates: Mapping[str, Update]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        """The networks of the checkpoint `origin` that get these updates: component -> config.json and tensors."""
        return {
            name: (read_json(origin / name / CONFIG_FILE), merged(read_tensors(origin / name / WEIGHTS_FILE), updates))
            for name in _SHARED[self.component]
            if (origin / name).is_dir()
        }

    def write(self, folder: Path, config: Any, updates: Mapping[str, Update]) -> None:
        """The files of a LoRA."""
        for write, name in ((write_peft, "peft"), (write_kohya, "kohya")):
            write(folder / f"{name}.safetensors", {self.component: (config, updates)})


def adapter_of(
    component: str, configs: Mapping[str, Any], config: ConfigDict, sources: Mapping[str, Path | None]
) -> Adapter | None:
    """What a configuration wants trained beside a network; None where it trains the network itself.

    Args:
      component: the diffusion network.
      configs: of the networks.
      config: the whole configuration.
      sources: the folders that their parameters come from.

    Raises:
      UserError: the network is in no checkpoint, or no layer is chosen.
    """
    wish = config.adapter
    if not wish.rank:
        return None
    if sources[component] is None:
        raise UserError(
            f"config.adapter trains a LoRA of {component}, which init_from has none of: give a checkpoint that has"
        )
    layers = [name for name in written(component, configs[component]) if re.fullmatch(wish.modules, name)]
    if not layers:
        raise UserError(f"config.adapter.modules: no layer of {component} is {short(wish.modules)}")
    return Adapter(component, tuple((name, wish.rank) for name in sorted(layers)), wish.alpha / wish.rank)


def is_update(name: str) -> bool:
    """Whether a parameter of a network belongs to an update."""
    return name.endswith((f".{DOWN}", f".{UP}"))
