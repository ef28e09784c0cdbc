"""Reads the training state that `gp-jax train` saves, without the trainer.

    W/state/1200/state/           by Orbax: `params` and `average` (their moving average), by name such as
                                  `unet.conv_in.kernel`; the optimizer's moments are never read
    W/state/1200/meta/metadata    JSON: `networks`, the configs of the networks in the state; `scheduler` and `settings`
                                  of the checkpoint they belong to; `init_from`, the checkpoint that training started
                                  from, and `discards`, the parts of it that the training made useless

Parameters that are trained come from the average, as sampling wants them, or as they are; the frozen ones of the same
networks have no average. An autoencoder's scaling factor is still that of the start: it is measured when training ends.
"""

import contextlib
import functools
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from gp_jax.checkpoint.checksums import FILE as CHECKSUMS
from gp_jax.checkpoint.checksums import difference
from gp_jax.checkpoint.tensors import LazyTensor
from gp_jax.errors import UserError
from gp_jax.files import read_json

_GROUP_BYTES = 2**28  # read at once: Orbax takes as long to open a state as to read this much


def find_state(path: Path) -> Path | None:
    """The newest state in a working directory, or the one that `path` is, damaged or not; None where there is none."""
    path = path.absolute()  # as Orbax wants it
    if any((path / part).exists() for part in ("meta", CHECKSUMS)) and (path / "state").is_dir():
        return path
    steps = [folder for folder in (path / "state").glob("*") if folder.name.isdecimal() and folder.is_dir()]
    return max(steps, key=lambda folder: int(folder.name), default=None)


def read_meta(folder: Path) -> dict[str, Any]:
    """What is known of a state, all of whose files are as they were saved; raises UserError where it is damaged."""
    if damage := difference(folder):
        raise _damaged(folder, damage)
    meta = read_json(folder / "meta" / "metadata")
    kinds = {"networks": dict, "scheduler": dict, "settings": dict, "init_from": str, "discards": list}
    if missing := [key for key, kind in kinds.items() if not isinstance(meta.get(key), kind)]:
        raise _damaged(folder, f"meta has no {min(missing)}")
    if meta.get("checksums") and not (folder / CHECKSUMS).is_file():
        raise _damaged(folder, f"{CHECKSUMS} is missing")
    return meta


def read_networks(folder: Path, *, averaged: bool = True) -> dict[str, dict[str, LazyTensor]]:
    """The parameters of the networks in a state: component -> name -> tensor, not read yet.

    Read in the order of their names they take a few hundred megabytes of memory.

    Args:
      folder: of `find_state`, which `read_meta` has found whole.
      averaged: the moving average in the place of what is trained.

    Raises:
      UserError: the state is damaged; reading a tensor may raise it too.
    """
    import orbax.checkpoint as ocp  # takes 0.2 s to import, and who outpaints reads no state

    tree = _guarded(folder, lambda: ocp.PyTreeCheckpointHandler().metadata(epath.Path(folder, "state")).tree)
    replaced = tree["average"] if averaged else ()
    networks: dict[str, dict[str, LazyTensor]] = {
        component: {} for component in read_json(folder / "meta" / "metadata")["networks"]
    }
    # A discriminator that was trained along is of no checkpoint.
    names = sorted(name for name in tree["params"] if name.partition(".")[0] in networks)
    places = {name: "average" if name in replaced else "params" for name in names}

    @functools.lru_cache(maxsize=1)
    def read_group(names: tuple[str, ...]) -> dict[str, np.ndarray]:
        return _guarded(folder, lambda: _restore(folder, {name: places[name] for name in names}))

    for names in _groups({name: tree[place][name] for name, place in places.items()}):
        for name in names:
            component, _, own = name.partition(".")
            leaf = tree[places[name]][name]
            read = functools.partial(lambda names, name: read_group(names)[name], names, name)
            networks[component][own] = LazyTensor(tuple(leaf.shape), np.dtype(leaf.dtype), read)
    return networks


def _groups(leaves: dict[str, Any]) -> list[tuple[str, ...]]:
    """The names, in their order, in groups of about `_GROUP_BYTES`."""
    groups, size = [[]], 0
    for name, leaf in leaves.items():
        size += math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize
        if size > _GROUP_BYTES and groups[-1]:
            groups.append([])
            size = 0
        groups[-1].append(name)
    return [tuple(group) for group in groups]


def _restore(folder: Path, places: dict[str, str]) -> dict[str, np.ndarray]:
    import orbax.checkpoint as ocp

    wanted: dict[str, dict[str, Any]] = {}
    for name, place in places.items():
        wanted.setdefault(place, {})[name] = ocp.RestoreArgs(restore_type=np.ndarray)
    restore = ocp.args.PyTreeRestore(item=wanted, restore_args=wanted, partial_restore=True)
    found = ocp.PyTreeCheckpointHandler().restore(epath.Path(folder, "state"), args=restore)
    return {name: found[place][name] for name, place in places.items()}


def _guarded(folder: Path, work: Any) -> Any:
    try:
        with quiet():
            return work()
    except Exception as error:  # whatever a broken file makes a reader raise
        raise _damaged(folder, str(error).strip().partition("\n")[0][:200]) from error


def _damaged(folder: Path, reason: str) -> UserError:
    return UserError(f"the training state {folder} is damaged ({reason}): give an older one beside it")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps Orbax from logging tracebacks of what it cannot read: whoever reads it tells that in a sentence."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
