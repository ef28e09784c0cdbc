"""Fresh parameters, by one small program for all that are drawn alike.

    initialise(UNet, config, ["conv_in.kernel"], seed=0)      -> {"conv_in.kernel": [3, 3, 9, 320]}

One program for a whole network is slow to compile: of the 1,213 parameters of the video network of Stable Diffusion 2
it took XLA three minutes on a CPU, and longer on a GPU. They have a few dozen shapes. So the network's construction is
traced once, what each parameter is computed from is cut out of the trace, and equal pieces share a program, which is
called with another key each time.
"""

import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.extend import core
from jax.sharding import Sharding
from jax.typing import DTypeLike

from gp_jax.checkpoint.parameters import flatten
from gp_jax.checkpoint.tensors import is_floating
from gp_jax.seeds import random_key


def initialise(
    cls: Callable[..., nnx.Module],
    config: Any,
    names: Collection[str],
    seed: int = 0,
    dtype: DTypeLike | None = None,
    shardings: Mapping[str, Sharding] | None = None,
) -> dict[str, jax.Array]:
    """Fresh values of some parameters of `cls(config, ...)`; the others are never made.

    `dtype`: of those that are no counters; None keeps theirs. `shardings`: by name; the values are made where they lie,
    never whole on one device.
    """

    def make(keys: list[jax.Array]) -> dict[str, jax.Array]:
        flat = flatten(cls(config, rngs=_Keys(keys)))
        return {name: flat[name].astype(dtype) if dtype and is_floating(flat[name]) else flat[name] for name in names}

    keys = _keys(seed, _draws(cls, config))
    traced = jax.make_jaxpr(make)(keys)
    inputs = dict(zip([*traced.jaxpr.constvars, *traced.jaxpr.invars], [*traced.consts, *keys]))
    makers = {x: index for index, line in enumerate(traced.jaxpr.eqns) for x in line.outvars}
    programs, calls = {}, {}
    for name, outcome in zip(sorted(names), traced.jaxpr.outvars):  # as jax orders a dictionary
        piece, needed = _piece(traced.jaxpr, makers, outcome)
        place = shardings[name] if shardings else None
        alike = _signature(piece), place
        if alike not in programs:
            programs[alike] = jax.jit(core.jaxpr_as_fun(core.ClosedJaxpr(piece, ())), out_shardings=[place])
        calls[name] = alike, [inputs[x] for x in needed]
    first = dict(reversed(calls.values()))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = dict(zip(first, pool.map(lambda alike: programs[alike].lower(*first[alike]).compile(), first)))
    return {name: compiled[alike](*arguments)[0] for name, (alike, arguments) in calls.items()}


def _draws(cls: Callable[..., nnx.Module], config: Any) -> int:
    """How many keys the construction of a network asks for."""
    counted = _Keys([])
    nnx.eval_shape(lambda: cls(config, rngs=counted))
    return counted.count


def _keys(seed: int, count: int) -> list[np.ndarray]:
    """The data of keys 1 to `count` of a seed: [2] uint32 each."""
    folded = jax.vmap(jax.random.fold_in, (None, 0))(random_key(seed), np.arange(1, count + 1))
    return list(np.asarray(jax.random.key_data(folded)))


class _Keys:
    """`nnx.Rngs` with a plain counter: flax's own is slow under a trace, half a minute for 1,100 parameters.

    `keys`: those that are drawn, one after the other; beyond them, any.
    """

    def __init__(self, keys: list[jax.Array]):
        self.keys, self.count = keys, 0

    def params(self) -> jax.Array:
        self.count += 1
        if self.count > len(self.keys):
            return random_key(0)
        return jax.random.wrap_key_data(self.keys[self.count - 1], impl="threefry2x32")


def _piece(whole: core.Jaxpr, makers: Mapping[Any, int], outcome: Any) -> tuple[core.Jaxpr, list[core.Var]]:
    """What one outcome of a program is computed from, as a program; and those of the inputs that it takes.

    `makers`: which equation makes a variable.
    """
    equations, waiting, seen = set(), [outcome], set()
    while waiting:
        if isinstance(x := waiting.pop(), core.Literal) or x in seen:
            continue
        seen.add(x)
        if x in makers:
            equations.add(makers[x])
            waiting += whole.eqns[makers[x]].invars
    needed = [x for x in (*whole.constvars, *whole.invars) if x in seen]
    lines, unnamed = [whole.eqns[index] for index in sorted(equations)], whole.debug_info.with_unknown_names()
    return whole.replace(constvars=[], invars=needed, outvars=[outcome], eqns=lines, debug_info=unnamed), needed


def _signature(piece: core.Jaxpr) -> tuple:
    """The same for programs that differ in nothing but the names of their variables."""
    numbers: dict[Any, int] = {}

    def described(those: Any) -> tuple:
        return tuple(
            (str(x.val) if isinstance(x, core.Literal) else numbers.setdefault(x, len(numbers)), str(x.aval))
            for x in those
        )

    def option(value: Any) -> Any:  # traces are cached: of equal calls, jax keeps one
        return value if isinstance(value, core.ClosedJaxpr) else str(value)

    lines = [
        (x.primitive.name, described(x.invars), described(x.outvars), *((k, option(v)) for k, v in x.params.items()))
        for x in piece.eqns
    ]
    return described(piece.invars), tuple(lines), described(piece.outvars)
