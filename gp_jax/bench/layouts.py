"""What devices compute and send each other where a mesh cuts segments too: the layouts of a traced program, followed.

    followed = follow(jaxpr, layouts, {"data": 2, "tensor": 2, "context": 4})
    followed.flops, followed.moved["all-to-all", "context"]                     of one device, for one row of the batch

XLA's partitioner is told by `constrain` where arrays lie, and goes on from there. The same is done here, forwards only,
by a rule for each operation. A layout says of each dimension which mesh axes cut it. What an operation cannot use as it
lies travels:

  all-reduce          what is left of a product whose contracted dimension is cut, which are parts of a sum
  all-gather          what has to be whole, or is cut where the other factor is cut too
  all-to-all          an axis goes from one dimension to another, from frames to windows, or away from one to be joined
  collective-permute  a part of a cut dimension lies elsewhere than its place in the result

The batch is cut by `ROWS`, and only what has rows is told of: how parameters and gradients travel, which are the same
for all segments, depends on where parameters lie (paper.py).
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gp_jax.jobs.programs import flops_of_operation

Layout = tuple[tuple[str, ...], ...]  # of each dimension the axes that cut it, the outermost first

ROWS = "data"


@dataclasses.dataclass(frozen=True)
class Followed:
    """Of one device.

    Attributes:
      flops: of matrix products and convolutions.
      moved: (kind of collective, axis) -> bytes, as `chips.Collective.bytes` has them.
    """

    flops: float
    moved: Mapping[tuple[str, str], float]


def follow(program: Any, layouts: Sequence[Layout], sizes: Mapping[str, int]) -> Followed:
    """What becomes of a program on a mesh.

    Args:
      program: a `Jaxpr`. Its sharding constraints were made for a mesh whose axes have size 2: what these sizes do not
        divide stays whole.
      layouts: of its inputs.
      sizes: of the mesh's axes; that of `ROWS` as it was traced.
    """
    walk = _Walk({axis: size for axis, size in sizes.items() if size > 1})
    walk.run(program, layouts)
    return Followed(walk.flops, dict(walk.moved))


class _Walk:
    """One pass; `turns` is how often the loop that it is in goes round."""

    def __init__(self, sizes: Mapping[str, int]):
        self.sizes, self.turns, self.flops = sizes, 1, 0.0
        self.moved: dict[tuple[str, str], float] = defaultdict(float)
        self._there: set[tuple[Any, Layout]] = set()  # what was sent somewhere and is there

    def run(self, program: Any, layouts: Sequence[Layout]) -> list[Layout]:
        """The layouts of what a program returns."""
        before, self._there = self._there, set()  # a program may be run again, of other arrays
        known: dict[Any, Layout] = {x: _whole(x) for x in program.constvars}
        for x, layout in zip(program.invars, layouts, strict=True):
            known[x] = self.fit(x.aval.shape, layout)

        def layout_of(x: Any) -> Layout:
            return _whole(x) if hasattr(x, "val") else known[x]

        for equation in _needed(program):
            made = self._step(equation, [layout_of(x) for x in equation.invars])
            known.update(zip(equation.outvars, made, strict=True))
        self._there = before
        return [layout_of(x) for x in program.outvars]

    def _step(self, equation: Any, inputs: list[Layout]) -> list[Layout]:
        if rule := _RULES.get(equation.primitive.name):
            return rule(self, equation, inputs)
        within = [x for x in (getattr(x, "jaxpr", x) for x in equation.params.values()) if hasattr(x, "eqns")]
        if within and len(within[0].invars) == len(inputs):
            return self.run(within[0], inputs)
        if _is_by_element(equation):
            return _by_element(self, equation, inputs)
        for x, layout in zip(equation.invars, inputs):
            self.move(x, layout, _whole(x))
        return [_whole(x) for x in equation.outvars]

    def fit(self, shape: Sequence[int], layout: Layout) -> Layout:
        """A layout without the axes that there are not, or that do not divide their dimension, or cut another."""
        fitted, taken = [], set()
        for size, axes in zip(shape, layout, strict=True):
            kept: list[str] = []
            for axis in axes:
                parts = math.prod(self.sizes[x] for x in kept) * self.sizes.get(axis, 0)
                if parts and size % parts == 0 and axis not in taken:
                    kept.append(axis)
                    taken.add(axis)
            fitted.append(tuple(kept))
        return tuple(fitted)

    def bytes(self, x: Any, layout: Layout) -> float:
        """That one device holds of an array, the share that is largest."""
        shares = (math.ceil(size / self.parts([axes])) for size, axes in zip(x.aval.shape, layout, strict=True))
        return math.prod(shares) * x.aval.dtype.itemsize

    def parts(self, layout: Sequence[Sequence[str]]) -> int:
        """In how many pieces it cuts."""
        return math.prod(self.sizes[axis] for axes in layout for axis in axes)

    def send(self, kind: str, axis: str, size: float, layout: Layout) -> None:
        """Of an array that lies so. What has no rows, as parameters and gradients have none, is of no segment."""
        if axis != ROWS and any(ROWS in axes for axes in layout):
            self.moved[kind, axis] += self.turns * size

    def move(self, x: Any, old: Layout, new: Layout) -> None:
        """From one layout to another, once; to cut a piece smaller costs nothing."""
        if old == new or hasattr(x, "val") or (x, new) in self._there:
            return
        self._there.add((x, new))
        place = {axis: i for i, axes in enumerate(new) for axis in axes}
        now = [list(axes) for axes in old]
        for i, axes in enumerate(old):
            for axis in axes:
                if place.get(axis) == i:
                    continue
                held = self.bytes(x, tuple(map(tuple, now)))
                now[i].remove(axis)
                if axis in place:
                    now[place[axis]].append(axis)
                    self.send("all-to-all", axis, held, old)
                else:
                    self.send("all-gather", axis, held * self.sizes[axis], old)

    def sum(self, axes: Sequence[str], results: Sequence[Any], layout: Layout) -> None:
        """Results of which each device has a part."""
        for axis in axes:
            self.send("all-reduce", axis, sum(self.bytes(x, layout) for x in results), layout)


def _needed(program: Any) -> list[Any]:
    """Its operations without those whose outcome nobody reads, such as a slice of which only the shape was asked."""
    read, kept = set(map(id, program.outvars)), []
    for equation in reversed(program.eqns):
        if equation.effects or any(id(x) in read for x in equation.outvars):
            read |= set(map(id, equation.invars))
            kept.append(equation)
    return kept[::-1]


def _whole(x: Any) -> Layout:
    return ((),) * len(x.aval.shape)


def _without(layout: Layout, axis: str) -> Layout:
    return tuple(tuple(x for x in axes if x != axis) for axes in layout)


def _is_by_element(equation: Any) -> bool:
    """Whether all have one shape, or are 1 where others are more."""
    shape = equation.outvars[0].aval.shape
    inputs = [x.aval.shape for x in equation.invars if x.aval.shape]
    return all(x.aval.shape == shape for x in equation.outvars) and all(
        len(other) == len(shape) and all(a in (1, b) for a, b in zip(other, shape)) for other in inputs
    )


def _by_element(walk: _Walk, equation: Any, inputs: list[Layout]) -> list[Layout]:
    """The first operand that an axis cuts says where."""
    shape = equation.outvars[0].aval.shape
    target: list[list[str]] = [[] for _ in shape]
    operands = [(x, layout) for x, layout in zip(equation.invars, inputs) if len(layout) == len(shape)]
    for _, layout in operands:
        for i, axes in enumerate(layout):
            target[i] += [axis for axis in axes if not any(axis in there for there in target)]
    made = tuple(map(tuple, target))  # of equal shapes, so that what fits one fits all
    for x, layout in operands:
        walk.move(x, layout, tuple(axes if size > 1 else () for axes, size in zip(made, x.aval.shape)))
    return [made for _ in equation.outvars]


def _product(
    walk: _Walk,
    equation: Any,
    inputs: list[Layout],
    contracted: tuple[Sequence[int], Sequence[int]],
    kept: tuple[Mapping[int, int], Mapping[int, int]],
) -> list[Layout]:
    """Args: contracted: dimensions of either factor, in pairs. kept: dimension of a factor -> of the result."""
    sides, result = list(inputs), equation.outvars[0]
    layout: list[list[str]] = [[] for _ in result.aval.shape]
    summed: list[str] = []
    for axis in walk.sizes:
        at = [next((i for i, axes in enumerate(side) if axis in axes), None) for side in sides]
        inner = [i in dimensions for i, dimensions in zip(at, contracted)]
        outer = [None if i is None or is_inner else own[i] for i, is_inner, own in zip(at, inner, kept)]
        pairs = all(inner) and contracted[0].index(at[0]) == contracted[1].index(at[1])
        if None not in at and not pairs and not (outer[0] is not None and outer[0] == outer[1]):
            # Both are cut, but not alike: the one that would have to be summed is made whole, else the smaller.
            held = [walk.bytes(x, side) for x, side in zip(equation.invars, sides)]
            drop = inner.index(True) if any(inner) and not all(inner) else held.index(min(held))
            whole = _without(sides[drop], axis)
            walk.move(equation.invars[drop], sides[drop], whole)
            sides[drop], at[drop], inner[drop], outer[drop] = whole, None, False, None
        if any(inner):  # a factor that is whole is cut alike, which costs nothing
            summed.append(axis)
        elif place := [i for i in outer if i is not None]:
            layout[place[0]].append(axis)
    made = walk.fit(result.aval.shape, tuple(map(tuple, layout)))
    walk.sum(summed, [result], made)
    walk.flops += walk.turns * flops_of_operation(equation) / walk.parts((*made, tuple(summed)))
    return [made]


def _dot(walk: _Walk, equation: Any, inputs: list[Layout]) -> list[Layout]:
    contracted, batched = equation.params["dimension_numbers"]
    kept: tuple[dict[int, int], dict[int, int]] = ({}, {})
    place = len(batched[0])
    for x, own, over, batch in zip(equation.invars, kept, contracted, batched):
        own |= {i: number for number, i in enumerate(batch)}
        for i in range(len(x.aval.shape)):
            if i not in over and i not in batch:
                own[i], place = place, place + 1
    return _product(walk, equation, inputs, (list(contracted[0]), list(contracted[1])), kept)


def _convolution(walk: _Walk, equation: Any, inputs: list[Layout]) -> list[Layout]:
    left, right, result = equation.params["dimension_numbers"]
    sides = [
        tuple(() if i in spec[2:] else axes for i, axes in enumerate(layout))
        for spec, layout in zip((left, right), inputs)
    ]
    for x, layout, flat in zip(equation.invars, inputs, sides):  # whole along height and width
        walk.move(x, layout, flat)
    return _product(walk, equation, sides, ([left[1]], [right[1]]), ({left[0]: result[0]}, {right[0]: result[1]}))


def _reduction(walk: _Walk, equation: Any, inputs: list[Layout]) -> list[Layout]:
    over = equation.params["axes"]
    made = tuple(axes for i, axes in enumerate(inputs[0]) if i not in over)
    walk.sum([axis for i in over for axis in inputs[0][i]], equation.outvars, made)
    return [made for _ in equation.outvars]


def _constraint(walk: _Walk, equation: Any, inputs: list[Layout]) -> list[Layout]:
    """Dimensions that were left to XLA stay as they are."""
    asked = layout_of(equation.params["sharding"].spec, len(inputs[0]))
    free = equation.params["unconstrained_dims"]
    named = {axis for i, axes in enumerate(asked) if i not in free for axis in axes}
    wanted = tuple(
        tuple(axis for axis in old if axis not in named) if i in free else axes
        for i, (old, axes) in enumerate(zip(inputs[0], asked))
    )
    made = walk.fit(equation.outvars[0].aval.shape, wanted)
    walk.move(equation.invars[0], inputs[0], made)
    return [made]


def layout_of(spec: Sequence[Any], rank: int) -> Layout:
    """Of a `PartitionSpec`; dimensions that it leaves to XLA are not cut."""
    named = [(axes,) if isinstance(axes, str) else axes if isinstance(axes, tuple) else () for axes in spec]
    return (*named, *((),) * (rank - len(named)))


def _transpose(walk: _Walk, equation: Any, inputs: list[Layout]) -> list[Layout]:
    return [tuple(inputs[0][i] for i in equation.params["permutation"])]


def _broadcast(walk: _Walk, equation: Any, inputs: list[Layout]) -> list[Layout]:
    made: list[tuple[str, ...]] = [()] * len(equation.params["shape"])
    for i, place in enumerate(equation.params["broadcast_dimensions"]):
        made[place] = inputs[0][i]
    return [tuple(made)]


def _squeeze(walk: _Walk, equation: Any, inputs: list[Layout]) -> list[Layout]:
    return [tuple(axes for i, axes in enumerate(inputs[0]) if i not in equation.params["dimensions"])]


def _reshape(walk: _Walk, equation: Any, inputs: list[Layout]) -> list[Layout]:
    """An axis stays where its pieces are whole runs of the new dimensions: behind dimensions of 1, or cut into ones."""
    old, new = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    made: list[tuple[str, ...]] = [()] * len(new)
    used = list(inputs[0])
    for before, after in _groups(old, new):
        spare, places = {i: new[i] for i in after}, [i for i in after if new[i] > 1]
        reached = True
        for i in before:
            rest = old[i]
            for axis in inputs[0][i]:
                size = walk.sizes[axis]
                while places and spare[places[0]] == 1:
                    places.pop(0)
                if reached and places and spare[places[0]] % size == 0:
                    made[places[0]] += (axis,)
                    spare[places[0]] //= size
                    rest //= size
                else:
                    used[i] = tuple(x for x in used[i] if x != axis)
            reached = reached and rest == 1
    walk.move(equation.invars[0], inputs[0], tuple(used))
    return [tuple(made)]


def _groups(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Dimensions that become dimensions: the least runs of either that hold as many numbers."""
    ours, theirs = list(range(len(old))), list(range(len(new)))
    while ours or theirs:
        before, after, sizes = [], [], [1, 1]
        while not (before or after) or sizes[0] != sizes[1]:
            if ours and (sizes[0] < sizes[1] or (sizes[0] == sizes[1] and not before)):
                before.append(ours.pop(0))
                sizes[0] *= old[before[-1]]
            else:
                after.append(theirs.pop(0))
                sizes[1] *= new[after[-1]]
        yield before, after


def _joined(walk: _Walk, equation: Any, inputs: list[Layout]) -> list[Layout]:
    """Where the dimension is cut, pieces are sent to lie whole, joined, and sent back."""
    along = equation.params["dimension"]
    parts = [(x, layout) for x, layout in zip(equation.invars, inputs) if x.aval.shape[along]]
    if len(parts) == 1:  # a roll by nothing
        return [parts[0][1]]
    made = [next((layout[i] for _, layout in parts if layout[i]), ()) for i in range(len(inputs[0]))]
    for x, layout in parts:
        walk.move(x, layout, tuple(axes if i == along else made[i] for i, axes in enumerate(layout)))
        for axis in layout[along]:
            walk.send("all-to-all", axis, walk.bytes(x, layout), layout)
    (result,) = equation.outvars
    for axis in made[along]:
        walk.send("all-to-all", axis, walk.bytes(result, tuple(made)), tuple(made))
    return [tuple(made)]


def _part(walk: _Walk, equation: Any, layout: Layout, result: Any, starts: Sequence[int]) -> Layout:
    """Of an array whose number `starts[i]` along i is the first of the result; below 0 the result has more of them."""
    made = list(layout)
    for i, (before, after) in enumerate(zip(equation.invars[0].aval.shape, result.aval.shape)):
        for axis in layout[i] if before != after else ():
            parts = walk.sizes[axis]
            if after < parts:  # too few to be cut
                made[i] = tuple(x for x in made[i] if x != axis)
                walk.send("all-gather", axis, walk.bytes(result, tuple(made)), layout)
                continue
            share = math.ceil(after / parts)
            shift = max(abs(starts[i] + k * (share - before / parts)) for k in range(parts))
            walk.send("collective-permute", axis, walk.bytes(result, layout) * min(shift / share, 1), layout)
    return tuple(made)


def _slice(walk: _Walk, equation: Any, inputs: list[Layout]) -> list[Layout]:
    return [_part(walk, equation, inputs[0], equation.outvars[0], equation.params["start_indices"])]


def _split(walk: _Walk, equation: Any, inputs: list[Layout]) -> list[Layout]:
    made, start, along = [], 0, equation.params["axis"]
    for x, size in zip(equation.outvars, equation.params["sizes"]):
        starts = [start if i == along else 0 for i in range(len(x.aval.shape))]
        made.append(_part(walk, equation, inputs[0], x, starts))
        start += size
    return made


def _pad(walk: _Walk, equation: Any, inputs: list[Layout]) -> list[Layout]:
    starts = [-low for low, _, _ in equation.params["padding_config"]]
    return [_part(walk, equation, inputs[0], equation.outvars[0], starts)]


def _loop(walk: _Walk, equation: Any, inputs: list[Layout]) -> list[Layout]:
    fixed, carried = equation.params["num_consts"], equation.params["num_carry"]
    there = fixed + carried
    for x, layout in zip(equation.invars[there:], inputs[there:]):  # turns are not cut
        walk.move(x, layout, ((), *layout[1:]))
    walk.turns *= equation.params["length"]
    made = walk.run(equation.params["jaxpr"].jaxpr, [*inputs[:there], *(layout[1:] for layout in inputs[there:])])
    walk.turns //= equation.params["length"]
    return [*made[:carried], *(((), *layout) for layout in made[carried:])]


_RULES: dict[str, Callable[[_Walk, Any, list[Layout]], list[Layout]]] = {
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    **dict.fromkeys(("reduce_sum", "reduce_max", "reduce_min", "reduce_and", "reduce_or"), _reduction),
    "sharding_constraint": _constraint,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "squeeze": _squeeze,
    "reshape": _reshape,
    "concatenate": _joined,
    "slice": _slice,
    "split": _split,
    "pad": _pad,
    "scan": _loop,
}
