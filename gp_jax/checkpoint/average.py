"""The mean of two checkpoints of one architecture, parameter by parameter.

Checkpoints that come from one training by different losses lie close enough together that the networks between them
work, and trade what each is good at (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv 2109.01903).
"""

import shutil
from pathlib import Path

import numpy as np

from gp_jax.checkpoint.components import WEIGHTS_FILE, read_configs
from gp_jax.checkpoint.folder import SCHEDULER_FILE, find_checkpoint
from gp_jax.checkpoint.tensors import LazyTensor, check_match, read_tensors, write_tensors
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.errors import UserError
from gp_jax.files import check_outside, replacing_folder
from gp_jax.json_config import read_config, unlike


def average(first: Path, second: Path, target: Path, share: float) -> None:
    """Writes the folder `target`, or nothing; everything but the weights comes from the second one.

    Args:
      first, second: checkpoint folders, or names of this package's.
      share: of the second one, from 0 to 1.

    Raises:
      UserError: a checkpoint or a network of the second one is missing, the two are of different architectures or
        trained with different noise schedules, or `target` is there already, or within one of them.
    """
    first, second = find_checkpoint(first), find_checkpoint(second)
    for source in (first, second):
        check_outside(target, source)
    theirs, networks = read_configs(first), read_configs(second)
    if lost := sorted(networks.keys() - theirs.keys()):
        raise UserError(f"{first} has no {lost[0]}: give two checkpoints with the same networks")
    differences = {name: unlike(networks[name], theirs[name], but=("carried",)) for name in networks}
    one, other = (read_config(NoiseSchedule.from_config, folder / SCHEDULER_FILE) for folder in (second, first))
    for name, difference in {**differences, "scheduler": one.unlike(other)}.items():
        if difference:
            raise UserError(f"{second / name} has {difference} as {first / name}: give two checkpoints of one training")
    with replacing_folder(target, overwrite=False) as building:
        shutil.copytree(second, building, dirs_exist_ok=True)
        for name in networks:
            ours, others = (read_tensors(folder / name / WEIGHTS_FILE) for folder in (second, first))
            check_match(ours, others, str(first / name / WEIGHTS_FILE))
            means = {key: _mean(others[key], x, share) for key, x in ours.items()}
            write_tensors(building / name / WEIGHTS_FILE, means)


def _mean(first: LazyTensor, second: LazyTensor, share: float) -> np.ndarray:
    """In float32, stored in the type of the second."""
    a, b = (np.asarray(x).astype(np.float32) for x in (first, second))
    return ((1 - share) * a + share * b).astype(second.dtype)
