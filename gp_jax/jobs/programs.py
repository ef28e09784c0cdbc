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

from gp_jax.jobs.compilation_cache import kept_folder
from gp_jax.jobs.kept import Loaded, Program, kind


@dataclass(frozen=True)
class Call:
    """How a program will be called.

    Attributes:
      name: of the stage of work that it is.
      function: what `jax.jit` gave, or a `Program`.
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
    made: dict[Any, tuple[int, int]] = {}
    costs = []
    for call in calls:
        leaves, tree = jax.tree.flatten((call.arguments, dict(call.static)))
        program = call.function, tree, *map(kind, leaves)
        if program not in made:
            loaded = _load(call) or _compile(call)
            made[program] = loaded.flops, _bytes(call, loaded.compiled)
        costs.append(Cost(call.name, call.times, *made[program]))
    return costs


def _load(call: Call) -> Loaded | None:
    folder = kept_folder()
    if folder is None or not isinstance(call.function, Program):
        return None
    return call.function.load(call.arguments, call.static, folder, flops_of)


def _compile(call: Call) -> Loaded:
    traced = call.function.trace(*call.arguments, **call.static)
    return Loaded(traced.lower().compile(), flops_of(traced.jaxpr.jaxpr))


def flops_of(program: Any) -> int:
    """Floating-point operations of the matrix products and convolutions of a program, its loops unrolled.

    A product of [m, k] by [k, n] has 2 m n k, a convolution the same however it is computed. A loop whose length is
    not known counts once, and of branches the largest. XLA's own count takes each loop for a single turn.

    Args:
      program: a `Jaxpr`.
    """
    return sum(flops_of_operation(equation) for equation in program.eqns)


def flops_of_operation(equation: Any) -> int:
    """`flops_of` of one equation of a `Jaxpr`."""
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        outputs = parameters["dimension_numbers"].rhs_spec[0]
        # Where a gradient passes a stride, zeros stand between its numbers.
        turns = math.prod(kernel) // kernel[outputs] / math.prod(parameters["lhs_dilation"])
        return int(2 * math.prod(equation.outvars[0].aval.shape) * turns)
    if name in _ATTENTION:
        query, key = (x.aval.shape for x in equation.invars[:2])  # [B, S, H, D]
        return _ATTENTION[name] * 2 * math.prod(query) * key[1]
    if parameters.get("name") == _WINOGRAD:
        maps, turned = (x.aval.shape for x in equation.invars)
        return 2 * math.prod(maps) * 9 * turned[-1]
    within = [flops_of(inner) for value in parameters.values() for inner in _programs(value)]
    if name == "cond":
        return max(within, default=0)
    return parameters.get("length", 1) * sum(within) if name == "scan" else sum(within)


# cuDNN's, in matrix products of queries by keys.
_ATTENTION = {"dot_product_attention_fwd_wrapper": 2, "dot_product_attention_bwd_wrapper": 5}
_WINOGRAD = "by_winograd"  # the function of models/cpu_convolution.py


def _programs(value: Any) -> list[Any]:
    """The programs that a parameter of an operation holds: the body of a loop, the branches of a condition."""
    values = value if isinstance(value, tuple | list) else [value]
    open_ones = [getattr(one, "jaxpr", one) for one in values]
    return [one for one in open_ones if hasattr(one, "eqns")]


def _bytes(call: Call, compiled: Any) -> int:
    memory = compiled.memory_analysis()
    if memory is None:  # some devices do not tell
        return 0
    inputs = [leaf for leaf in jax.tree.leaves(call.arguments) if not isinstance(leaf, jax.Array)]
    given = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in inputs if hasattr(leaf, "dtype"))
    return given + memory.output_size_in_bytes + memory.temp_size_in_bytes
