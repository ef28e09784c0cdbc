"""Devices that are not here, to compile for.

    absent_devices(["1", "8", "256"])              CPU devices: so many of them, whatever this machine has
    absent_devices(["v5e:4x4", "v5p:4x8x8"])       TPU slices, by generation and shape; needs libtpu, but no TPU

A program compiled for them tells its memory, FLOPs and collectives; it can't be run.
"""

import contextlib
import importlib.util
import math
import os
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from gp_jax.errors import UserError
from gp_jax.parallel.mesh import Device


def absent_devices(names: Sequence[str]) -> list[list[Device]]:
    """The devices of each name; to be called before anything asks for devices.

    Raises:
      UserError: a name is neither a number above 0 nor a TPU slice, libtpu is not installed, or JAX has been used
        already.
    """
    if any(name.isdecimal() and int(name) == 0 for name in names):
        raise UserError("there is nothing to compile for on 0 devices: give 1 or more")
    most = max((int(name) for name in names if name.isdecimal()), default=0)
    if most:
        with contextlib.suppress(RuntimeError):  # JAX is in use, and may have enough of them
            jax.config.update("jax_num_cpu_devices", most)
        if len(jax.devices("cpu")) < most:
            raise UserError(f"{most} CPU devices have to be asked for before anything else uses JAX")
    return [jax.devices("cpu")[: int(name)] if name.isdecimal() else _tpu_slice(name) for name in names]


def _tpu_slice(name: str) -> list[Device]:
    generation, _, shape = name.partition(":")
    sides = shape.split("x")
    if not generation or not all(side.isdecimal() for side in sides):
        raise UserError(f"{name!r} is neither a number of CPU devices nor a TPU slice such as v5p:2x2x2")
    sides = [int(side) for side in sides]
    # Hosts of a slice hold 4 or 8 chips unless told otherwise, so that a single chip is no slice by itself.
    options = {"chips_per_host_bounds": [1, 1, 1]} if math.prod(sides) == 1 else {}
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # do not look for the metadata of the TPU that is not there
    # No chip is taken, so other programs may go on with theirs.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices)
    except Exception as error:  # libtpu is missing, or does not know the slice: it has no type of its own for that
        reason = str(error).strip().partition("\n")[0][:200]
        missing = "; it needs `pip install 'gp_jax[tpu]'`" if importlib.util.find_spec("libtpu") is None else ""
        raise UserError(f"cannot compile for {name}{missing}: {reason}") from None
