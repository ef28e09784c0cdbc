"""Adds AnimateDiff's motion modules to an image network that was converted.

They stand behind every residual block, ours behind spatial transformers alone: those of the lowest level, which has no
transformers, are left out. Version 1 has none in the middle; ours starts fresh there.
"""

import dataclasses
from pathlib import Path

from gp_jax import weights
from gp_jax.convert.files import find_weights, open_weights
from gp_jax.convert.motion import ALIASES, RULES
from gp_jax.convert.rules import covered, rename, to_ours, to_theirs
from gp_jax.convert.translate import Network, checked
from gp_jax.errors import UserError
from gp_jax.models.unet import UNet


def add_motion(network: Network, path: str | Path) -> tuple[Network, tuple[str, ...]]:
    """Puts motion modules in the place of a UNet's fresh temporal attentions.

    Args:
      network: an image UNet, translated.
      path: a motion module's file, or the folder of a `MotionAdapter`.

    Returns:
      The network, and the names in the file that it has no place for.

    Raises:
      UserError: the file is not of that kind, or a tensor is missing, unexpected or of another shape.
    """
    path = Path(path)
    found = rename(ALIASES, open_weights(find_weights(path) if path.is_dir() else path))
    if not any(".temporal_transformer." in name for name in found):
        raise UserError(f"{path} holds no motion modules of AnimateDiff")
    config = dataclasses.replace(network.config, motion_modules=True)
    shapes = weights.shapes(UNet, config)
    middle = any(name.startswith("mid_block.") for name in found)
    names = {name for name in covered(RULES, shapes) if middle or not name.startswith("middle.")}
    expected = to_theirs(RULES, {name: shapes[name] for name in names})
    blocks = {_block(name) for name in expected}
    # Position encodings are buffers; our network computes its own.
    ours = {name: tensor for name, tensor in found.items() if _block(name) in blocks and not name.endswith(".pe")}
    weights.check_match(expected, ours, str(path))
    tensors = network.tensors | checked(to_ours(RULES, ours, sorted(names)), path)
    initialised = {name: shape for name, shape in shapes.items() if name not in tensors}
    motion = dataclasses.replace(network, config=config, tensors=tensors, initialised=initialised)
    return motion, tuple(sorted(found.keys() - ours.keys()))


def _block(name: str) -> str:
    """`down_blocks.0.motion_modules.1...` -> `down_blocks.0.`"""
    return name.partition("motion_modules.")[0]
