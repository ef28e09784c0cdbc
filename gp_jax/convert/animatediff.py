"""Adds AnimateDiff's motion modules to an image network that was converted, for GlobalPaint and for MOTIA.

They stand behind every residual block; those of levels without transformers make the UNet one with `motion_everywhere`.
Versions 1 and 3 have none in the middle; ours starts fresh there, which changes nothing.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.components import CONFIG_FILE
from gp_jax.checkpoint.tensors import LazyTensor, check_match
from gp_jax.convert.families import refuse_strangers
from gp_jax.convert.files import find_weights, open_weights
from gp_jax.convert.motion import ALIASES, MOTION_ADAPTER, PUBLISHED, RULES, Adapter
from gp_jax.convert.rules import covered, rename, to_ours, to_theirs
from gp_jax.convert.translate import Network, checked
from gp_jax.errors import UserError
from gp_jax.json_config import naming, read_config, read_fields
from gp_jax.models.motion import interleaved
from gp_jax.models.unet import UNet, UNetConfig
from gp_jax.models.unet_config import ATTENTION_BLOCKS

_BETAS = "motion modules of AnimateDiff were trained with beta_schedule linear, steps_offset 1"


def add_motion(network: Network, path: str | Path) -> Network:
    """Puts motion modules in the place of a UNet's fresh temporal attentions.

    Args:
      network: an image UNet, translated.
      path: a motion module's file, or the folder of a `MotionAdapter`.

    Raises:
      UserError: the file is not of that kind, or a tensor is missing, unexpected or of another shape.
    """
    path = Path(path)
    stored = open_weights(find_weights(path) if path.is_dir() else path)
    refuse_strangers(path, stored)
    with naming(path):
        found = rename(ALIASES, stored)
    if not any(".temporal_transformer." in name for name in found):
        raise UserError(f"{path} holds no motion modules of AnimateDiff")
    adapter = not any(".temporal_transformer." in name for name in stored)
    fields = _adapter_fields(path if path.is_dir() else path.parent) if adapter else PUBLISHED
    fields = {"motion_positions": UNetConfig.motion_positions, **fields, **_check_positions(path, found)}
    # Position encodings are buffers; our network computes its own.
    given = {name: tensor for name, tensor in found.items() if not name.endswith(".pe")}
    blocks = {_block(name) for name in given}
    config = dataclasses.replace(network.config, motion_modules=True, **fields)
    config = dataclasses.replace(config, motion_everywhere=not blocks.isdisjoint(_without_transformers(config)))
    with naming(path):
        config = UNetConfig.from_json(config.to_json())
    shapes = parameters.shapes(UNet, config)
    names = {name for name in covered(RULES, shapes) if "mid_block." in blocks or not name.startswith("middle.")}
    check_match(to_theirs(RULES, {name: shapes[name] for name in names}), given, str(path))
    tensors = network.tensors | checked(to_ours(RULES, given, sorted(names)), path)
    initialised = {name: shape for name, shape in shapes.items() if name not in tensors}
    return dataclasses.replace(
        network, config=config, tensors=tensors, initialised=initialised, notes=(*network.notes, _BETAS)
    )


def assembled(networks: Mapping[str, Network], motion: Path) -> dict[str, Network]:
    """MOTIA's networks of a Stable Diffusion's and a ControlNet's.

    Both take the norms of their residual blocks over all frames, and the UNet has motion modules and nothing else of a
    video network (https://github.com/G-U-N/Be-Your-Outpainter, 53748d1).

    Args:
      networks: translated, by component; those that were not asked for may be missing.
      motion: the file of motion modules.

    Raises:
      UserError: as `add_motion`.
    """
    made = dict(networks)
    if unet := made.get("unet"):
        image = {"temporal": False, "window": None, "global_tokens": False}
        config = dataclasses.replace(unet.config, norm_joint=True, **image)
        made["unet"] = dataclasses.replace(add_motion(dataclasses.replace(unet, config=config), motion), notes=())
    if steering := made.get("controlnet"):
        config = dataclasses.replace(steering.config, norm_joint=True)
        made["controlnet"] = dataclasses.replace(steering, config=config)
    return made


def _without_transformers(config: UNetConfig) -> set[str]:
    """`down_blocks.3.`, `up_blocks.0.`: the levels without transformers."""
    sides = {"down_blocks": config.down_block_types, "up_blocks": config.up_block_types}
    return {
        f"{side}.{level}."
        for side, kinds in sides.items()
        for level, kind in enumerate(kinds)
        if not ATTENTION_BLOCKS[kind]
    }


def _adapter_fields(folder: Path) -> dict[str, Any]:
    """Our fields from the `config.json` of a `MotionAdapter`, whose group norm takes all frames together."""
    adapter = read_config(lambda config: read_fields(Adapter, config, MOTION_ADAPTER, "adapter"), folder / CONFIG_FILE)
    return {
        "motion_heads": adapter.motion_num_attention_heads,
        "motion_groups": adapter.motion_norm_num_groups,
        "motion_positions": adapter.motion_max_seq_length,
        "motion_frame_norm": False,
    }


def _check_positions(path: Path, tensors: Mapping[str, LazyTensor]) -> dict[str, int]:
    """How many frames the position encodings in a file reach, if there are any; raises UserError on other encodings."""
    lengths = set()
    for name, tensor in tensors.items():
        if not name.endswith(".pe"):
            continue
        if len(tensor.shape) != 3 or tensor.shape[0] != 1 or tensor.shape[2] % 2 or not 1 <= tensor.shape[1] <= 4096:
            raise UserError(f"{path}: {name} has the shape {tensor.shape}, and must have [1, positions, channels]")
        values, (_, length, width) = np.asarray(tensor, np.float32), tensor.shape
        if not np.allclose(values[0], interleaved(np.arange(length), width), atol=1e-2):
            raise UserError(f"{path}: {name} are positions of its own making, which are not supported, only sinusoids")
        lengths.add(length)
    return {"motion_positions": min(lengths)} if lengths else {}


def _block(name: str) -> str:
    """`down_blocks.0.motion_modules.1...` -> `down_blocks.0.`"""
    return name.partition("motion_modules.")[0]
