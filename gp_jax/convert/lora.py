"""LoRA files of other people, as updates of our networks.

    chosen = named("lcm.safetensors")                                   ((Path("lcm.safetensors"), 1.0),)
    adapters = read_adapters(chosen, read_configs(folder))              component -> adapter, all files together

Every tensor of a file has its place, or the file is refused: what has none belongs to another model. The key-frame and
the interpolation network are both extended image UNets, so that what a file says of `unet` goes for both, unless it has
something of its own for the interpolation network.

An update is scaled by alpha / r; kohya's files hold alpha as a tensor, PEFT's in their metadata or in
`adapter_config.json` beside them. Without any it is 1.
"""

import json
import math
import numbers
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from gp_jax.checkpoint.adapters import Adapter, Update, together
from gp_jax.checkpoint.tensors import LazyTensor
from gp_jax.convert.files import open_weights
from gp_jax.convert.lora_names import PEFT_METADATA, PREFIXES, Key, Layer, flat, layers, parse
from gp_jax.convert.rules import lazy
from gp_jax.convert.translate import checked
from gp_jax.errors import UserError
from gp_jax.files import read_json
from gp_jax.json_config import short

Chosen = tuple[tuple[Path, float], ...]  # files, and the strength of each
Lora = str | os.PathLike | Sequence[Any]  # a file, (file, strength), or a list of these

# What a folder's LoRA may be called.
_FILES = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors", "adapter_model.bin")


def named(lora: Lora | None) -> Chosen:
    """LoRA files as they may be asked for: a path, (path, strength), or a list of these.

    Raises:
      UserError: there is no such file, or a strength is no finite number.
    """
    if lora is None:
        return ()
    if isinstance(lora, str | os.PathLike):
        return ((_file(Path(lora)), 1.0),)
    if isinstance(lora, tuple) and len(lora) == 2 and isinstance(lora[1], numbers.Real):
        path, strength = lora
        if not isinstance(path, str | os.PathLike) or not abs(strength) <= sys.float_info.max:
            raise UserError(f"a LoRA is a file and a finite strength, not {short(lora)}")
        return ((_file(Path(path)), float(strength)),)
    if not isinstance(lora, list | tuple):
        raise UserError(f"a LoRA is a file, (file, strength), or a list of these, not {short(lora)}")
    return tuple(entry for part in lora for entry in named(part))


def shown(chosen: Chosen) -> str:
    """`style.safetensors:0.8, lcm.safetensors:1`."""
    return ", ".join(f"{path.name}:{strength:g}" for path, strength in chosen)


def read_adapters(chosen: Chosen, configs: Mapping[str, Any]) -> dict[str, Adapter]:
    """All files together, with their strengths.

    Args:
      chosen: of `named`.
      configs: of the networks that there are, by component.

    Raises:
      UserError: a file is broken, no LoRA, of another model, or holds NaN or infinity.
    """
    opened = [(open_lora(path, configs), strength) for path, strength in chosen]
    found = {
        part: together([(adapters[part], strength) for adapters, strength in opened if part in adapters])
        for part in PREFIXES
    }
    return {part: adapter for part, adapter in found.items() if adapter}


def open_lora(path: Path, configs: Mapping[str, Any]) -> dict[str, dict[str, Update]]:
    """A file's updates, their arrays not read yet.

    Args:
      path: of the file.
      configs: of the networks that there are, by component.

    Returns:
      By component, the adapter.

    Raises:
      UserError: the file is broken, no LoRA, or of another model; says which name is the first to tell.
    """
    tables = {part: layers(part, configs[part]) for part in PREFIXES if part in configs}
    tensors = checked(open_weights(path), path)
    if not tensors:
        raise UserError(f"{path} holds no tensors, so it is no LoRA")
    pieces: dict[tuple[str, str], dict[str, str]] = {}
    keys: dict[tuple[str, str], Key] = {}
    lost: list[str] = []
    for name in tensors:
        key = parse(path, name)
        place = (key.owner, flat(key.layer))
        if not _owners(key, tables):
            lost.append(name)
        elif key.kind in pieces.setdefault(place, {}):
            raise UserError(f"{path}: {pieces[place][key.kind]} and {name} are two spellings of one tensor")
        else:
            pieces[place][key.kind] = name
            keys[place] = key if key.kind == "down" else keys.get(place, key)
    if lost:
        raise UserError(_no_place(path, lost, parse(path, lost[0]), tables, len(tensors)))
    peft = _Peft.of(path)
    found: dict[str, dict[str, Update]] = {}
    is_apart = any(key.owner == "interpolation_unet" for key in keys.values())
    for place, names in pieces.items():
        key, made = keys[place], {}
        for component in ["unet"] if is_apart and key.owner == "unet" else _owners(key, tables):
            layer = tables[component][place[1]]
            if layer not in made:  # key frames' and interpolation's are alike
                made[layer] = _update(path, names, tensors, layer, peft.scale if key.peft else None, key)
            update = made[layer]
            adapter = found.setdefault(component, {})
            if layer.ours in adapter:
                raise UserError(f"{path}: {next(iter(names.values()))} is of a layer that another name is of too")
            adapter[layer.ours] = update
    return found


def _owners(key: Key, tables: Mapping[str, Mapping[str, Layer]]) -> list[str]:
    """The components that have this layer."""
    wanted = {"unet": ("unet", "interpolation_unet"), "": tuple(tables)}.get(key.owner, (key.owner,))
    return [component for component in wanted if flat(key.layer) in tables.get(component, ())]


def _no_place(path: Path, lost: list[str], first: Key, tables: Mapping[str, Any], count: int) -> str:
    if first.owner and first.owner not in tables:
        network = {"text": "the text tower", "unet": "the UNet"}.get(first.owner, "the interpolation network")
        return f"{path} changes {network} ({short(lost[0])}), and this checkpoint has none of its own"
    return (
        f"{path} is of another model: {len(lost)} of its {count} tensors have no place in this one, "
        f"such as {short(lost[0])}"
    )


def _update(
    path: Path, names: Mapping[str, str], tensors: Mapping[str, LazyTensor], layer: Layer, peft: Any, key: Key
) -> Update:
    for kind, other in (("down", "up"), ("up", "down")):
        if kind not in names:
            there = names.get(other) or names["alpha"]
            raise UserError(f"{path}: {there} has no {kind} beside it; fetch the file again")
    down, up = (tensors[names[kind]] for kind in ("down", "up"))
    rank = up.shape[1] if len(up.shape) > 1 else 0
    inputs, outputs = layer.weight[1:], layer.weight[0]
    if not down.shape or not up.shape or down.shape[0] != rank or rank < 1:
        raise UserError(
            f"{path}: {names['down']} {list(down.shape)} and {names['up']} {list(up.shape)} are not of one rank"
        )
    wanted = {"down": (rank, math.prod(inputs)), "up": (outputs, rank)}
    for kind, tensor in (("down", down), ("up", up)):
        if len(tensor.shape) not in (2, 4) or (tensor.shape[0], math.prod(tensor.shape[1:])) != wanted[kind]:
            raise _of_another_shape(path, names[kind], tensor, layer)
    if len(down.shape) == 4 and down.shape[1:] != (*inputs, 1, 1)[:3]:
        raise _of_another_shape(path, names["down"], down, layer)
    for name in names.values():
        if tensors[name].dtype == bool:
            raise UserError(f"{path}: {name} is of the type bool, and must be of numbers")
    scale = 1.0 if peft is None else peft(key, rank)
    if "alpha" in names:
        alpha = tensors[names["alpha"]]
        if math.prod(alpha.shape) != 1:
            raise UserError(f"{path}: {names['alpha']} is {list(alpha.shape)} and must be one number")
        scale = float(np.asarray(alpha).astype(np.float32).reshape(())) / rank
    return Update(
        lazy(lambda x: layer.leaf.forward(x.reshape(rank, *inputs)), down),
        lazy(lambda x: x.reshape(outputs, rank).T, up),
        scale,
    )


def _of_another_shape(path: Path, name: str, tensor: LazyTensor, layer: Layer) -> UserError:
    return UserError(
        f"{path} is of another model: {name} is {list(tensor.shape)}, for a weight of {list(layer.weight)} here"
    )


class _Peft(NamedTuple):
    """What PEFT says of scales: by the beginning of names, its config."""

    path: Path
    configs: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, path: Path) -> "_Peft":
        """From a file's metadata, or from `adapter_config.json` beside it."""
        beside = path.with_name("adapter_config.json")
        text = _metadata(path).get(PEFT_METADATA)
        if text is None:
            return cls(path, {"": cls._checked(path, read_json(beside))} if beside.is_file() else {})
        try:
            config = json.loads(text)
            assert isinstance(config, dict)
        except (ValueError, RecursionError, AssertionError):
            raise UserError(f"{path}: its {PEFT_METADATA} is no JSON object; fetch the file again") from None
        configs: dict[str, dict[str, Any]] = {}
        for key, value in config.items():
            prefix = next((prefix for prefix, _ in PREFIXES.values() if key.startswith(prefix)), "")
            configs.setdefault(prefix, {})[key.removeprefix(prefix)] = value
        return cls(path, {prefix: cls._checked(path, config) for prefix, config in configs.items()})

    @staticmethod
    def _checked(path: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
        if config.get("peft_type") not in (None, "LORA"):
            raise UserError(f"{path} is of the kind {short(config['peft_type'])} of PEFT, which is not supported")
        if config.get("use_dora"):
            raise UserError(f"{path} is a DoRA, which is not supported (use_dora); use a plain LoRA")
        pattern = config.get("alpha_pattern") or {}
        if not isinstance(pattern, dict):
            raise UserError(f"{path}: alpha_pattern of PEFT is {short(pattern)}, and must be by layer")
        for name, alpha in {"lora_alpha": config.get("lora_alpha", 1), **pattern}.items():
            if type(alpha) not in (int, float) or not math.isfinite(alpha):
                raise UserError(f"{path}: PEFT's alpha of {short(name)} is {short(alpha)}, and must be a finite number")
            try:
                _ending(name)
            except (re.error, RecursionError, OverflowError):
                raise UserError(f"{path}: alpha_pattern has {short(name)}, which is no regular expression") from None
        return config

    def scale(self, key: Key, rank: int) -> float:
        """Of a layer's update; r is told by its shape."""
        prefix = PREFIXES[key.owner][0] if key.owner else ""
        config = self.configs.get(prefix, self.configs.get("", {}))
        if "lora_alpha" not in config:
            return 1.0
        # The first that fits counts, as in PEFT.
        pattern = (config.get("alpha_pattern") or {}).items()
        own = [alpha for name, alpha in pattern if _ending(name).match(key.layer)]
        return (own or [config["lora_alpha"]])[0] / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _ending(pattern: str) -> re.Pattern:
    """Of layers whose name, or its end from a dot on, is a pattern of PEFT: its `get_pattern_key`."""
    return re.compile(rf"(.*\.)?({pattern})$")


def _metadata(path: Path) -> Mapping[str, str]:
    """Of a safetensors file; nothing of any other."""
    try:
        with safe_open(path, framework="np") as file:
            return file.metadata() or {}
    except SafetensorError:
        return {}


def _file(path: Path) -> Path:
    """The file itself where a folder of PEFT or diffusers was given."""
    found = next((path / name for name in _FILES if (path / name).is_file()), path)
    if not found.is_file():
        what = f"is a folder without {_FILES[0]}" if path.is_dir() else "does not exist"
        raise UserError(f"there is no LoRA {path}: it {what}")
    return found
