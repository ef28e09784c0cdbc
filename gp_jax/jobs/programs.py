"""Programs compiled before they are called, and what a call of each costs.

    PROGRAMS = [Call("finish", finish, (vae, Shape((8, 8, 18, 4), float32), ...), {"size": (720, 1600)}, times=32), ...]
    costs = prepare(PROGRAMS)           compiled; `finish(...)` compiles nothing from here on
    costs[0].flops, costs[0].bytes      of one call

Equal programs, such as those of two networks of one config, are compiled once. One after the other: of the four of
`tiny` one takes most of the time, and side by side, the longest first, they took 19 to 21 s on two busy cores, one
after the other 17 to 27.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np


@dataclass(frozen=True)
class Call:
    """How a program will be called.

    Attributes:
      name: of the stage of work that it is.
      function: what `jax.jit` gave.
      arguments: arrays, or `jax.ShapeDtypeStruct`s in their place.
      static: its static arguments.
      times: how often.
    """

    name: str
    function: Any
    arguments: tuple
    static: Mapping[str, Any] = field(default_factory=dict)
    times: int = 1


@dataclass(frozen=True)
class Cost:
    """What calls of a program cost.

    Attributes:
      name, times: those of the `Call`.
      flops: of one call, in its matrix products and convolutions.
      bytes: of its inputs, outputs and what lies between, beside the arrays that are there already.
    """

    name: str
    times: int
    flops: int
    bytes: int

    @property
    def work(self) -> int:
        """By which calls of a stage are compared."""
        return self.flops + self.bytes


def prepare(calls: Sequence[Call]) -> list[Cost]:
    """Compiles all programs that are not compiled yet, and counts them; call it under the mesh that they run under."""
    compiled: dict[Any, Any] = {}
    costs = []
    for call in calls:
        traced = call.function.trace(*call.arguments, **call.static)
        leaves, tree = jax.tree.flatten((call.arguments, dict(call.static)))
        program = call.function, tree, *map(_kind, leaves)
        if program not in compiled:
            compiled[program] = traced.lower().compile()
        costs.append(Cost(call.name, call.times, flops_of(traced.jaxpr.jaxpr), _bytes(call, compiled[program])))
    return costs


def flops_of(program: Any) -> int:
    """Floating-point operations of the matrix products and convolutions of a program, its loops unrolled.

    A product of [m, k] by [k, n] has 2 m n k. A loop whose length is not known counts once, and of branches the
    largest. XLA's own count takes each loop for a single turn.

    Args:
      program: a `Jaxpr`.
    """
    return sum(_flops(equation) for equation in program.eqns)


def _flops(equation: Any) -> int:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        outputs = parameters["dimension_numbers"].rhs_spec[0]
        return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // kernel[outputs]
    within = [flops_of(inner) for value in parameters.values() for inner in _programs(value)]
    if name == "cond":
        return max(within, default=0)
    return parameters.get("length", 1) * sum(within) if name == "scan" else sum(within)


def _programs(value: Any) -> list[Any]:
    """The programs that a parameter of an operation holds: the body of a loop, the branches of a condition."""
    values = value if isinstance(value, tuple | list) else [value]
    open_ones = [getattr(one, "jaxpr", one) for one in values]
    return [one for one in open_ones if hasattr(one, "eqns")]


def _kind(leaf: Any) -> tuple:
    return (np.shape(leaf), str(leaf.dtype), getattr(leaf, "sharding", None)) if hasattr(leaf, "dtype") else (leaf,)


def _bytes(call: Call, compiled: Any) -> int:
    memory = compiled.memory_analysis()
    if memory is None:  # some devices do not tell
        return 0
    inputs = [leaf for leaf in jax.tree.leaves(call.arguments) if not isinstance(leaf, jax.Array)]
    given = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in inputs if hasattr(leaf, "dtype"))
    return given + memory.output_size_in_bytes + memory.temp_size_in_bytes
