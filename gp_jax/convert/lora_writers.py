"""Our adapters as LoRA files that other programs read.

    write_peft("lora/peft.safetensors", {"unet": (config, adapter)})
    write_kohya("lora/kohya.safetensors", {"unet": (config, adapter)})

Layers that only our networks have are called as here; other programs do not know them.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from gp_jax.checkpoint.adapters import Adapter, Update
from gp_jax.checkpoint.tensors import write_tensors
from gp_jax.convert.lora_names import PEFT_METADATA, PREFIXES, Layer, flat, written

Parts = Mapping[str, tuple[Any, Adapter]]


def write_peft(path: str | os.PathLike, parts: Parts) -> None:
    """Writes adapters as diffusers and PEFT read them; arguments as for `write_kohya`."""
    tensors, metadata = {}, {}
    for component, (config, adapter) in parts.items():
        prefix, table = PREFIXES[component][0], written(component, config)
        ranks, alphas = {}, {}
        for name, update in adapter.items():
            theirs = table[name].theirs
            down, up = _foreign(update, table[name])
            tensors[f"{prefix}{theirs}.lora_A.weight"], tensors[f"{prefix}{theirs}.lora_B.weight"] = down, up
            ranks[theirs], alphas[theirs] = update.rank, update.scale * update.rank
        rank, alpha = (max(set(x.values()), key=list(x.values()).count) for x in (ranks, alphas))
        settings = {
            "peft_type": "LORA",
            "r": rank,
            "lora_alpha": alpha,
            "rank_pattern": {name: r for name, r in ranks.items() if r != rank},
            "alpha_pattern": {name: a for name, a in alphas.items() if a != alpha},
            "target_modules": list(ranks),
        }
        metadata |= {f"{prefix}{key}": value for key, value in settings.items()}
    write_tensors(path, tensors, metadata={PEFT_METADATA: json.dumps(metadata)})


def write_kohya(path: str | os.PathLike, parts: Parts) -> None:
    """Writes adapters as most programs for images read them.

    Args:
      path: of the safetensors file.
      parts: component -> the config of the network, and its adapter, float arrays. What is written of the key-frame
        network, `unet`, goes for the interpolation network too, where that has nothing of its own; see convert/lora.py.

    Raises:
      UserError: the file cannot be written.
    """
    tensors = {}
    for component, (config, adapter) in parts.items():
        prefix, table = PREFIXES[component][1], written(component, config)
        for name, update in adapter.items():
            theirs = prefix + flat(table[name].theirs)
            tensors[f"{theirs}.lora_down.weight"], tensors[f"{theirs}.lora_up.weight"] = _foreign(update, table[name])
            tensors[f"{theirs}.alpha"] = np.float32(update.scale * update.rank)
    write_tensors(path, tensors, metadata={"ss_network_module": "networks.lora"})


def _foreign(update: Update, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """[r, I] and [O, r], or [r, I, h, w] and [O, r, 1, 1]."""
    down, up = layer.leaf.backward(np.asarray(update.down)), np.asarray(update.up).T
    return down, up if down.ndim == 2 else up[:, :, None, None]
