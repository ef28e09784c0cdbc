"""Programs that are not even traced again: what a process has traced and lowered is kept for the next one.

XLA's own cache (compilation_cache.py) spares compiling, but to find an entry there a program has to be traced and
lowered, in Python, which for `tiny` is a third of a second start. A `Program` is found by what it is made of:

    @Program
    def double(x): return 2 * x

    double.load((Shape((3,), np.float32),), {}, folder, count)     exported into `folder`, or read from there
    double(np.ones(3, np.float32))                                 runs it; anything else is traced as by `jax.jit`

Its name is a hash of the function, of the structure, shapes and types of its arguments (configs of networks are part of
their structure), of every source file of this package, and of the versions and the device. The file holds portable
StableHLO, no pickle. What cannot be named so (closures, modules of other packages, a mesh, callbacks) is not kept.
"""

import dataclasses
import functools
import hashlib
import json
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import flax
import jax
import jaxlib.version
import numpy as np
from jax import export

import gp_jax
from gp_jax.errors import UserError
from gp_jax.files import replacing

SUFFIX = ".stablehlo"
OURS = ("gp_jax", "flax", "jax", "optax", "builtins", "collections")  # packages whose classes a name tells apart
TRACING = (  # settings that change what is traced
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_numpy_dtype_promotion",
    "jax_threefry_partitionable",
    "jax_default_device",
)


class Loaded(NamedTuple):
    """A program that is ready to run, and the operations that `count` found in it."""

    compiled: jax.stages.Compiled
    flops: int


class Program:
    """What `jax.jit` makes of a function, and programs of it that were loaded.

    Args:
      function: of arrays, and of static arguments, which are keyword arguments; returns arrays, or tuples of them.
      static_argnames: the static ones.
      donates: whether the memory of its first argument becomes its results'.
    """

    def __init__(self, function: Callable, static_argnames: Sequence[str] = (), *, donates: bool = False):
        functools.update_wrapper(self, function)
        self._function, self._donates = function, donates
        self._jitted = jax.jit(function, static_argnames=static_argnames, donate_argnums=[0] * donates)
        self._loaded: dict[Any, Loaded] = {}

    def __call__(self, *arguments: Any, **static: Any) -> Any:
        """Runs what was loaded for such arguments, else what `jax.jit` makes."""
        if self._loaded:
            leaves, tree = jax.tree.flatten((arguments, static))
            loaded = self._loaded.get(_key(tree, leaves))
            if loaded and _is_for_one_device(leaves):
                return loaded.compiled(*filter(_is_array, leaves))
        return self._jitted(*arguments, **static)

    def trace(self, *arguments: Any, **static: Any) -> Any:
        """As that of `jax.jit`."""
        return self._jitted.trace(*arguments, **static)

    def load(
        self, arguments: tuple, static: Mapping[str, Any], folder: Path, count: Callable[[Any], int]
    ) -> Loaded | None:
        """Makes `__call__` ready for such arguments; None for a program that cannot be named, or not be exported.

        Args:
          arguments: arrays, or `jax.ShapeDtypeStruct`s in their place; of what is donated, arrays alone.
          static: the static ones.
          folder: where programs are kept.
          count: of a jaxpr, the number that is kept beside it.
        """
        leaves, tree = jax.tree.flatten((arguments, dict(static)))
        if not _is_for_one_device(leaves):
            return None
        key = _key(tree, leaves)
        if key not in self._loaded:
            name = self._name(tree, leaves)
            if name is None:
                return None
            shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves if _is_array(x)]
            file = folder / f"{self._function.__name__}-{name}{SUFFIX}"
            found = _read(file) or self._export(tree, leaves, shapes, file, count)
            if found is None:
                return None
            program, flops = found
            named = functools.wraps(self._function)(lambda *arrays: program.call(*arrays))
            given = tuple(range(len(jax.tree.leaves(arguments[0])))) if self._donates else ()
            self._loaded[key] = Loaded(jax.jit(named, donate_argnums=given).lower(*shapes).compile(), flops)
        return self._loaded[key]

    def _export(
        self, tree: Any, leaves: list, shapes: list, file: Path, count: Callable[[Any], int]
    ) -> tuple[export.Exported, int] | None:
        def flat(*arrays):
            given = iter(arrays)
            arguments, static = jax.tree.unflatten(tree, [next(given) if _is_array(x) else x for x in leaves])
            return self._function(*arguments, **static)

        jitted = jax.jit(flat)
        flops = count(jitted.trace(*shapes).jaxpr.jaxpr)
        try:
            program = export.export(jitted)(*shapes)
            _write(file, program, flops)
        except (ValueError, NotImplementedError, OSError, UserError):
            return None  # it holds what StableHLO has no stable form for, or the disk is full
        return program, flops

    def _name(self, tree: Any, leaves: list) -> str | None:
        """None for what has no name that a second process would find, and that nothing else would have."""
        structure = str(tree)
        if "<lambda>" in structure or "<locals>" in structure or not self._function.__module__.startswith("gp_jax."):
            return None
        if not _is_ours(tree):
            return None
        kinds = [f"{x.shape} {x.dtype}" if _is_array(x) else _value(x) for x in leaves]
        if None in kinds:
            return None
        parts = [
            f"{self._function.__module__}.{self._function.__qualname__}",
            re.sub(r" at 0x[0-9a-f]+", "", structure),
            *kinds,
            *_settings(),
            *_surroundings(),
        ]
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:40]


def kind(leaf: Any) -> Any:
    """By which programs are told apart: an array's shape and type, or a static value."""
    return (
        (np.shape(leaf), str(jax.dtypes.canonicalize_dtype(leaf.dtype, allow_extended_dtype=True)))
        if _is_array(leaf)
        else leaf
    )


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "dtype")


def _value(leaf: Any) -> str | None:
    plain = isinstance(leaf, int | float | str | bool)
    ours = dataclasses.is_dataclass(leaf) and type(leaf).__module__.startswith("gp_jax.")
    return repr(leaf) if plain or ours else None


def _key(tree: Any, leaves: Sequence[Any]) -> tuple:
    """By which loaded programs are told apart."""
    return (tree, *map(kind, leaves), *_settings())


def _settings() -> list[str]:
    """What may differ from call to call, and changes what is traced or where it runs."""
    return [f"{name} {getattr(jax.config, name)}" for name in TRACING]


def _is_for_one_device(leaves: Sequence[Any]) -> bool:
    """Whether no mesh is in force, and arrays lie where a program without one runs."""
    if not jax.sharding.get_abstract_mesh().empty:
        return False
    device = getattr(jax.config, "jax_default_device") or jax.local_devices()[0]  # noqa: B009 - made at run time
    places = (getattr(leaf, "sharding", None) for leaf in leaves)
    return all(place is None or place.device_set == {device} for place in places)


def _is_ours(tree: Any) -> bool:
    """Whether every class in it belongs to a package whose sources or version the name holds."""
    data = tree.node_data()
    known = data is None or data[0].__module__.partition(".")[0] in OURS
    return known and all(map(_is_ours, tree.children()))


@functools.cache
def _surroundings() -> tuple[str, ...]:
    """Of this process: sources, versions, device."""
    root = Path(gp_jax.__file__).parent
    sources = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        sources.update(f"{file.relative_to(root)} ".encode() + file.read_bytes())
    device = jax.devices()[0]
    others = jax.__version__, jaxlib.version.__version__, flax.__version__, version("optax"), np.__version__
    return sources.hexdigest(), platform.python_version(), *others, device.platform, device.device_kind


def _read(file: Path) -> tuple[export.Exported, int] | None:
    """None where there is none, or a damaged one."""
    try:
        head, _, body = file.read_bytes().partition(b"\n")
        noted = json.loads(head)
        if hashlib.sha256(body).hexdigest() != noted["sha256"]:
            return None
        return export.deserialize(bytearray(body)), int(noted["flops"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(file: Path, program: export.Exported, flops: int) -> None:
    body = bytes(program.serialize())
    head = json.dumps({"flops": flops, "sha256": hashlib.sha256(body).hexdigest()})
    with replacing(file) as temporary:
        temporary.write_bytes(head.encode() + b"\n" + body)
