"""Tensors by name, and the safetensors files that hold them: read and written one by one, never all at once."""

import dataclasses
import functools
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from safetensors import SafetensorError, safe_open

from gp_jax.errors import UserError
from gp_jax.files import replacing

Tensors = Mapping[str, Any]  # by name: jax or numpy arrays, or `LazyTensor`s

# Names of the safetensors format, as in its public specification.
_DTYPES = {
    "F64": jnp.float64,
    "F32": jnp.float32,
    "F16": jnp.float16,
    "BF16": jnp.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_DTYPE_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}


@dataclasses.dataclass(frozen=True)
class LazyTensor:
    """A tensor that is read when `numpy.asarray` asks for it, and not kept."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.read(), dtype=dtype)


def read_tensors(path: str | os.PathLike) -> dict[str, LazyTensor]:
    """The tensors of a safetensors file, none read yet; raises UserError where the file is missing or broken."""
    if not os.path.isfile(path):
        raise UserError(f"{path} is no file" if os.path.exists(path) else f"{path} does not exist")
    try:
        file = safe_open(path, framework="np", backend="pread")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a whole safetensors file ({error}); fetch it again") from None
    tensors = {}
    for name in file.keys():  # noqa: SIM118 - the handle has keys, but is no mapping
        piece = file.get_slice(name)
        if piece.get_dtype() not in _DTYPES:
            raise UserError(f"{path}: tensor {name} has the unknown dtype {piece.get_dtype()}")
        dtype = np.dtype(_DTYPES[piece.get_dtype()])
        tensors[name] = LazyTensor(tuple(piece.get_shape()), dtype, functools.partial(file.get_tensor, name))
    return tensors


def write_tensors(
    path: str | os.PathLike,
    tensors: Tensors,
    dtype: DTypeLike | None = None,
    *,
    overwrite: bool = True,
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Writes a safetensors file, one tensor in memory at a time.

    Args:
      path: its folder is made where it does not exist.
      tensors: by name.
      dtype: of the floating-point tensors in the file; None keeps theirs.
      overwrite: whether a file of that name may be replaced.
      metadata: of the file, beside what it is written for.

    Raises:
      UserError: a number is too large for `dtype`, or the file may not or cannot be written.
    """
    # diffusers and transformers refuse a file that does not say which framework it is for.
    header: dict[str, dict[str, Any]] = {"__metadata__": {"format": "pt", **metadata}}
    end = 0
    for name, tensor in tensors.items():
        kept = dtype is None or not is_floating(tensor)
        stored = np.dtype(tensor.dtype if kept else dtype)
        begin, end = end, end + math.prod(tensor.shape) * stored.itemsize
        header[name] = {"dtype": _DTYPE_NAMES[stored], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path, overwrite=overwrite) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in tensors.items():
            array = np.asarray(tensor)
            with np.errstate(over="ignore"):
                stored = cast(array, dtype)
            if stored is not array and (np.isinf(stored) & np.isfinite(array)).any():
                raise UserError(f"{path}: {name} has numbers beyond {stored.dtype}: take bfloat16 or {array.dtype}")
            file.write(np.ascontiguousarray(stored).reshape(-1).view(np.uint8).data)


def check_match(expected: Tensors, found: Tensors, source: str) -> None:
    """Raises UserError with names and shapes in which `found` is not `expected`, the first of many."""
    problems = [f"missing: {name} {tuple(expected[name].shape)}" for name in sorted(expected.keys() - found.keys())]
    problems += [f"unexpected: {name} {tuple(found[name].shape)}" for name in sorted(found.keys() - expected.keys())]
    problems += [
        f"wrong shape: {name} is {tuple(found[name].shape)}, the network has {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & found.keys())
        if tuple(expected[name].shape) != tuple(found[name].shape)
    ]
    if problems:
        raise UserError(f"{source} does not fit the network, nothing was loaded:\n  {listed(problems)}")


def finite(name: str, array: np.ndarray, source: str) -> np.ndarray:
    """`array` itself; raises UserError where it holds NaN or infinity, as half-precision exports that overflowed do."""
    if is_floating(array) and not np.isfinite(array).all():
        raise UserError(f"{source}: tensor {name} ({array.dtype}) holds NaN or infinity; use an export in float32")
    return array


def cast(array: np.ndarray, dtype: DTypeLike | None) -> np.ndarray:
    """To `dtype` where the array is floating point and a dtype is asked for; no copy where nothing changes."""
    return array.astype(dtype, copy=False) if dtype is not None and is_floating(array) else array


def is_floating(tensor: Any) -> bool:
    """Whether anything with a dtype holds floating-point numbers, not counters."""
    return jnp.issubdtype(tensor.dtype, jnp.floating)


def listed(lines: Sequence[str], most: int = 6) -> str:
    """Lines of a message, the first of many and how many more there are."""
    rest = [f"and {len(lines) - most} more"] if len(lines) > most else []
    return "\n  ".join([*lines[:most], *rest])
