"""Parameters of a network as a flat dictionary.

A parameter's name is its dotted path: attribute names and list positions from the network down, such as
`down.0.residual.1.conv1.kernel`.

    flatten(network)["conv_in.kernel"]                     [3, 3, 9, 320]
    load_into(abstract(UNet, config), read_tensors(file))  traced, never initialised: the memory of the parameters

Loading is strict: the names and shapes that come are those of the network, or nothing is loaded.
"""

import functools
import hashlib
import weakref
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx
from jax.sharding import Sharding
from jax.typing import DTypeLike

from gp_jax.checkpoint.tensors import Tensors, cast, check_match, finite
from gp_jax.parallel.gather import gathered, placed
from gp_jax.parallel.processes import on_first
from gp_jax.seeds import random_key

Module = TypeVar("Module", bound=nnx.Module)
Place = Callable[[dict[str, Any]], Mapping[str, Sharding]]

# Of networks that live: kind and config, parameters, and digest. Arrays of jax never change, but networks get others.
_digests: weakref.WeakKeyDictionary[nnx.Module, tuple[str, dict[str, Any], str]] = weakref.WeakKeyDictionary()


def flatten(module: nnx.Module) -> dict[str, Any]:
    """The parameters of a network by dotted path; `ShapeDtypeStruct`s where the network is abstract."""
    return {_name(path): param.get_value() for path, param in nnx.to_flat_state(nnx.state(module, nnx.Param))}


def digest(module: nnx.Module) -> str:
    """sha256 of a network as it is in memory: its config, and the names, dtypes, shapes and numbers of its parameters.

    Equal networks have equal digests, wherever their parameters lie; where several processes have cut them, all ask.
    The numbers are read once, as long as the parameters are these arrays: each shot of a film asks for it.
    """
    about, leaves = f"{type(module).__name__} {getattr(module, 'config', None)}", flatten(module)
    before, known, told = _digests.get(module, ("", {}, ""))
    same = (leaf is known[name] and isinstance(leaf, jax.Array) for name, leaf in leaves.items())
    if before == about and known.keys() == leaves.keys() and all(same):
        return told
    total = hashlib.sha256(about.encode())
    for name, leaf in gathered(leaves):
        if leaf is None:
            continue
        array = np.ascontiguousarray(leaf)
        total.update(f"{name} {array.dtype} {array.shape}".encode())
        total.update(array.reshape(-1).view(np.uint8).data)
    told = on_first(total.hexdigest)
    _digests[module] = about, leaves, told
    return told


def bind(module: Module, tensors: Mapping[str, Any]) -> Module:
    """The same network with other parameters, all of them by dotted path; `module`, which may be abstract, stays."""
    graph, state = nnx.split(module)
    bound = [(path, param.replace(tensors[_name(path)])) for path, param in nnx.to_flat_state(state)]
    return nnx.merge(graph, nnx.from_flat_state(bound))


def abstract(cls: Callable[..., Module], config: Any, **options: Any) -> Module:
    """`cls(config, rngs=..., **options)` with shapes in the place of arrays: costs no memory and no random numbers.

    All are hashable. Networks that are built alike, such as those for key frames and between them, are traced once.
    """
    return nnx.merge(*_traced(cls, config, tuple(sorted(options.items()))), copy=True)


@functools.lru_cache(maxsize=32)
def _traced(cls: Callable[..., nnx.Module], config: Any, options: tuple[tuple[str, Any], ...]) -> Any:
    return nnx.split(nnx.eval_shape(lambda: cls(config, rngs=_OneKey(), **dict(options))))


@functools.cache
def shapes(cls: Callable[..., nnx.Module], config: Any) -> Mapping[str, Any]:
    """The parameters of `cls(config, ...)` as `ShapeDtypeStruct`s by dotted path."""
    return MappingProxyType(flatten(abstract(cls, config)))


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
        loaded.append((path, param.replace(placed(array, shardings[name]) if place else jax.device_put(array))))
    nnx.update(module, nnx.from_flat_state(loaded))


class _OneKey:
    """Keys that are all alike, for what is traced and never drawn: a trace would only spend time on others."""

    def __init__(self) -> None:
        self.key = random_key(0)

    def params(self) -> jax.Array:
        return self.key


def _name(path: tuple) -> str:
    return ".".join(map(str, path))
