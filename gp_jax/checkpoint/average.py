"""The mean of two checkpoints of one architecture, parameter by parameter.

Checkpoints that come from one training by different losses lie close enough together that the networks between them
work, and trade what each is good at (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv 2109.01903).
"""

import shutil
from pathlib import Path

import numpy as np

from gp_jax.checkpoint.components import WEIGHTS_FILE
from gp_jax.checkpoint.folder import find_checkpoint
from gp_jax.checkpoint.tensors import LazyTensor, check_match, read_tensors, write_tensors
from gp_jax.errors import UserError
from gp_jax.files import replacing_folder


def average(first: Path, second: Path, target: Path, share: float) -> None:
    """Writes the folder `target`, or nothing; everything but the weights comes from the second one.

    Args:
      first, second: checkpoint folders, or models of this package.
      share: of the second one, from 0 to 1.

    Raises:
      UserError: there is no such checkpoint, a network is missing in the first one or differs in a name or shape, or
        `target` is there already.
    """
    first, second = find_checkpoint(first), find_checkpoint(second)
    with replacing_folder(target, overwrite=False) as building:
        shutil.copytree(second, building, dirs_exist_ok=True)
        for file in sorted(building.glob(f"*/{WEIGHTS_FILE}")):
            other = first / file.relative_to(building)
            if not other.is_file():
                raise UserError(f"{first} has no {other.parent.name}: give two checkpoints with the same networks")
            ours, theirs = read_tensors(file), read_tensors(other)
            check_match(ours, theirs, str(other))
            write_tensors(file, {name: _mean(theirs[name], x, share) for name, x in ours.items()})


def _mean(first: LazyTensor, second: LazyTensor, share: float) -> np.ndarray:
    """In float32, stored in the type of the second."""
    a, b = (np.asarray(x).astype(np.float32) for x in (first, second))
    return ((1 - share) * a + share * b).astype(second.dtype)
