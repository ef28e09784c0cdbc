"""Parameters as a flat dictionary, and as files.

A parameter's name is its dotted path: attribute names and list positions from the network down, such as
`down.0.residual.1.conv1.kernel`. The component of a checkpoint is a folder that holds two files:

    unet/config.json          what the network's class is built from
    unet/model.safetensors    its parameters, under these names

    save_module(unet, "checkpoint/unet", config.to_json(), dtype=jnp.bfloat16)
    unet = load_module(UNet, UNetConfig, "checkpoint/unet")

Loading is strict: the names and shapes of the file are those of the network, or nothing is loaded. Tensors are read and
written one by one, and a network that is about to be loaded is only traced, never initialised, so the memory needed is
that of the parameters.
"""

import dataclasses
import functools
import json
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Sharding
from jax.typing import DTypeLike
from safetensors import SafetensorError, safe_open

from gp_jax.errors import UserError
from gp_jax.files import replacing, write_json
from gp_jax.json_config import read_config
from gp_jax.seeds import random_key

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

Module = TypeVar("Module", bound=nnx.Module)
Tensors = Mapping[str, Any]  # by name: jax or numpy arrays, or `LazyTensor`s
Place = Callable[[dict[str, Any]], Mapping[str, Sharding]]

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


def flatten(module: nnx.Module) -> dict[str, Any]:
    """The parameters of a network by dotted path; `ShapeDtypeStruct`s where the network is abstract."""
    return {_name(path): param.get_value() for path, param in nnx.to_flat_state(nnx.state(module, nnx.Param))}


def bind(module: Module, tensors: Mapping[str, Any]) -> Module:
    """The same network with other parameters, all of them by dotted path; `module`, which may be abstract, stays."""
    graph, state = nnx.split(module)
    bound = [(path, param.replace(tensors[_name(path)])) for path, param in nnx.to_flat_state(state)]
    return nnx.merge(graph, nnx.from_flat_state(bound))


def abstract(cls: type[Module], config: Any, **options: Any) -> Module:
    """`cls(config, rngs=..., **options)` with shapes in the place of arrays: costs no memory and no random numbers."""
    return nnx.eval_shape(lambda: cls(config, rngs=_Keys(0), **options))


@functools.cache
def shapes(cls: type[nnx.Module], config: Any) -> Mapping[str, Any]:
    """The parameters of `cls(config, ...)` as `ShapeDtypeStruct`s by dotted path."""
    return MappingProxyType(flatten(abstract(cls, config)))


def initialise(
    cls: type[nnx.Module],
    config: Any,
    names: Collection[str],
    seed: int = 0,
    dtype: DTypeLike | None = None,
    shardings: Mapping[str, Sharding] | None = None,
) -> dict[str, jax.Array]:
    """Fresh values of some parameters of `cls(config, ...)`; the others are never made.

    `dtype`: None keeps theirs. `shardings`: by name; the values are made where they lie, never whole on one device.
    """

    def make():
        flat = flatten(cls(config, rngs=_Keys(seed)))
        return {name: flat[name].astype(dtype or flat[name].dtype) for name in names}

    return jax.jit(make, out_shardings=shardings and {name: shardings[name] for name in names})()


def save_module(
    module: nnx.Module, folder: str | os.PathLike, config: Mapping[str, Any], dtype: DTypeLike | None = None
) -> None:
    """Writes `config.json` and `model.safetensors`; a reader sees the old files or the new ones, never half a file.

    Args:
      module: the network; its arrays may lie on any mesh of this process.
      folder: made where it does not exist.
      config: what the network was built from.
      dtype: of the floating-point parameters in the file; None keeps theirs.
    """
    write_tensors(Path(folder, WEIGHTS_FILE), flatten(module), dtype)
    write_json(Path(folder, CONFIG_FILE), config)


def load_module(
    cls: type[Module],
    config_cls: type,
    folder: str | os.PathLike,
    *,
    param_dtype: DTypeLike | None = None,
    place: Place | None = None,
    **options: Any,
) -> Module:
    """Builds the network that `save_module` wrote.

    Args:
      cls: the network's class, called as `cls(config, rngs=..., **options)`.
      config_cls: a class with `from_json`.
      folder: of the component.
      param_dtype: of the parameters; None keeps the file's.
      place: parameters by name -> their shardings, such as `functools.partial(parameter_shardings, mesh=mesh)`.
      **options: such as `dtype`, in which the network computes.

    Raises:
      UserError: a file is missing or broken, or does not fit the network.
    """
    module = abstract(cls, read_config(config_cls.from_json, Path(folder, CONFIG_FILE)), **options)
    path = Path(folder, WEIGHTS_FILE)
    load_into(module, read_tensors(path), param_dtype=param_dtype, place=place, source=str(path))
    return module


def load_into(
    module: nnx.Module,
    tensors: Tensors,
    *,
    param_dtype: DTypeLike | None = None,
    place: Place | None = None,
    source: str = "the checkpoint",
) -> None:
    """Replaces every parameter of `module`, which may be abstract; arguments as for `load_module`.

    Raises:
      UserError: names the tensors that are missing, unexpected or of another shape (nothing is changed then), or one
        that holds NaN or infinity.
    """
    expected = flatten(module)
    check_match(expected, tensors, source)
    shardings = place(expected) if place else {}
    loaded = []
    for path, param in nnx.to_flat_state(nnx.state(module, nnx.Param)):
        name = _name(path)
        array = cast(finite(name, np.asarray(tensors[name]), source), param_dtype)
        loaded.append((path, param.replace(jax.device_put(array, shardings.get(name)))))
    nnx.update(module, nnx.from_flat_state(loaded))


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


def listed(lines: Sequence[str], most: int = 6) -> str:
    """Lines of a message, the first of many and how many more there are."""
    rest = [f"and {len(lines) - most} more"] if len(lines) > most else []
    return "\n  ".join([*lines[:most], *rest])


def finite(name: str, array: np.ndarray, source: str) -> np.ndarray:
    """`array` itself; raises UserError where it holds NaN or infinity, as half-precision exports that overflowed do."""
    if jnp.issubdtype(array.dtype, jnp.floating) and not np.isfinite(array).all():
        raise UserError(f"{source}: tensor {name} ({array.dtype}) holds NaN or infinity; use an export in float32")
    return array


def cast(array: np.ndarray, dtype: DTypeLike | None) -> np.ndarray:
    """To `dtype` where the array is floating point and a dtype is asked for; no copy where nothing changes."""
    is_float = jnp.issubdtype(array.dtype, jnp.floating)
    return array.astype(dtype, copy=False) if dtype is not None and is_float else array


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
    path: str | os.PathLike, tensors: Tensors, dtype: DTypeLike | None = None, *, overwrite: bool = True
) -> None:
    """Writes a safetensors file, one tensor in memory at a time.

    Args:
      path: its folder is made where it does not exist.
      tensors: by name.
      dtype: of the floating-point tensors in the file; None keeps theirs.
      overwrite: whether a file of that name may be replaced; raises UserError where not.
    """
    # diffusers and transformers refuse a file that does not say which framework it is for.
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors.items():
        kept = dtype is None or not jnp.issubdtype(tensor.dtype, jnp.floating)
        stored = np.dtype(tensor.dtype if kept else dtype)
        begin, end = end, end + math.prod(tensor.shape) * stored.itemsize
        header[name] = {"dtype": _DTYPE_NAMES[stored], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path, overwrite=overwrite) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(cast(np.asarray(tensor), dtype)).reshape(-1).view(np.uint8).data)


class _Keys:
    """`nnx.Rngs` with a plain counter: flax's own is slow under a trace, half a minute for 1,100 parameters."""

    def __init__(self, seed: int):
        self.seed, self.count = seed, 0

    def params(self) -> jax.Array:
        self.count += 1
        return jax.random.fold_in(random_key(self.seed), self.count)


def _name(path: tuple) -> str:
    return ".".join(map(str, path))
