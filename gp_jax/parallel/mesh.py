"""The mesh: which device does what.

Four axes, always all four, so that a rule written for one machine holds on every other:

  data     whole clips, or segments, side by side; parameters are copied
  fsdp     clips side by side too, but parameters and optimizer state are cut into as many pieces
  tensor   heads and hidden widths of one layer
  context  3D windows (and, for the spatial layers, frames) of one clip

`make_mesh("data=2,context=4")` takes eight devices; an axis that is not named has size 1, and one axis may be -1:
what is left.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from gp_jax.errors import UserError
from gp_jax.json_config import short

Device = Any  # `jax.Device`, which jax has as a variable: checkers of types want a type

AXES = ("data", "fsdp", "tensor", "context")


def make_mesh(shape: str | Mapping[str, int] | None = None, devices: Sequence[Device] | None = None) -> Mesh:
    """Builds a mesh with the axes `AXES`, types Auto (GSPMD places what no rule mentions).

    Args:
      shape: "data=2,context=4", the same as a mapping, or None for all devices on `data`.
      devices: the devices to use; all of them by default.

    Raises:
      UserError: an axis that is unknown or named twice, a size that is no positive whole number (but for one -1), or
        sizes that do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = parse_mesh(shape) if isinstance(shape, str) else dict(shape or {"data": -1})
    if unknown := set(sizes) - set(AXES):
        raise UserError(f"mesh axis {short(sorted(unknown)[0])} is unknown; the axes are {', '.join(AXES)}")
    open_axes = [axis for axis, size in sizes.items() if size == -1]
    if len(open_axes) > 1 or not all(isinstance(size, int) and (size > 0 or size == -1) for size in sizes.values()):
        raise UserError(f"mesh {sizes} must have positive whole sizes and at most one -1")
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if open_axes:
        sizes[open_axes[0]] = max(1, len(devices) // fixed)
    if math.prod(sizes.values()) != len(devices):
        raise UserError(
            f"mesh {sizes} does not fit the {len(devices)} devices here; the sizes must multiply to that number"
        )
    lengths = tuple(sizes.get(axis, 1) for axis in AXES)
    return jax.make_mesh(lengths, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def platform() -> str:
    """What a program that is being traced will run on: the devices of the mesh in force, else those that are here."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    name = jax.default_backend() if device is None else device.platform
    return "gpu" if name in ("cuda", "rocm") else name


def is_alone() -> bool:
    """Whether a program that is being traced has one device, with a mesh of it in force or none."""
    return jax.sharding.get_abstract_mesh().size <= 1  # 0 where there is none


def parse_mesh(text: str) -> dict[str, int]:
    """`"data=2,context=4"` as `{"data": 2, "context": 4}`; raises UserError for other forms and an axis named twice."""
    try:
        parts = [(name.strip(), int(size)) for name, size in (part.split("=") for part in text.split(","))]
    except ValueError:
        raise UserError(f"mesh {text[:80]!r} is not of the form data=2,context=4") from None
    sizes = dict(parts)
    if len(sizes) < len(parts):
        raise UserError(f"mesh {short(text)} names an axis twice")
    return sizes
