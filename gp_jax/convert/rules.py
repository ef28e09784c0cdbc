"""Tables between foreign tensor names and ours, read in both directions.

A rule pairs two module names and says how the tensors of such a module are spelled and laid out. `{i}`, `{j}` stand for
numbers, `{path}` for anything:

    Rule("down_blocks.{i}.resnets.{j}.conv1", "down.{i}.residual.{j}.spatial.conv1", CONV)

With CONV this makes `...conv1.weight` [O, I, h, w] of theirs `...conv1.kernel` [h, w, I, O] of ours. Every transform is
a rearrangement, so the way back is bit-exact. Tables are always read from our side: the network knows which tensors it
has, the table says what they are called there, and whatever else lies in a file is unexpected.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gp_jax.checkpoint.tensors import LazyTensor
from gp_jax.errors import UserError

Array = np.ndarray
Tensors = Mapping[str, Any]


class Leaf(NamedTuple):
    """One tensor of a module: its two names and the way from their layout to ours and back.

    `part` (k, n): ours is the k-th of n equal parts of theirs along the first axis.
    """

    theirs: str
    ours: str
    forward: Callable[[Array], Array] = lambda x: x
    backward: Callable[[Array], Array] = lambda x: x
    part: tuple[int, int] = (0, 1)


def _transpose(x: Array) -> Array:
    return x.T


_BIAS = Leaf("bias", "bias")
LINEAR = (Leaf("weight", "kernel", _transpose, _transpose), _BIAS)
CONV = (Leaf("weight", "kernel", lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)), _BIAS)
# A 1x1 convolution there, a linear layer here.
POINTWISE = (Leaf("weight", "kernel", lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None]), _BIAS)
NORM = (Leaf("weight", "scale"), _BIAS)
EMBEDDING = (Leaf("weight", "embedding"),)
ARRAY = (Leaf("", ""),)
# An array there, the kernel of a linear layer without bias here: torch code that writes `x @ projection`.
MATRIX = (Leaf("", "kernel"),)
# `torch.nn.MultiheadAttention` keeps the three input projections in one tensor.
PACKED_ATTENTION = tuple(
    leaf
    for k, name in enumerate(("query", "key", "value"))
    for leaf in (
        Leaf("in_proj_weight", f"{name}.kernel", _transpose, _transpose, (k, 3)),
        Leaf("in_proj_bias", f"{name}.bias", part=(k, 3)),
    )
)


@dataclasses.dataclass(frozen=True)
class Rule:
    """Two names of a module, and its tensors."""

    theirs: str
    ours: str
    leaves: tuple[Leaf, ...]


Rules = Sequence[Rule]


def nest(theirs: str, ours: str, rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules of a block, put where the block lies."""
    return tuple(Rule(_join(theirs, rule.theirs), _join(ours, rule.ours), rule.leaves) for rule in rules)


def covered(rules: Rules, names: Iterable[str]) -> set[str]:
    """Those of our names that the table knows; the others belong to modules that the foreign network doesn't have."""
    return set(places(rules, names))


class Place(NamedTuple):
    """Where a tensor of ours stands there: the name of theirs, and the way between the two."""

    name: str
    leaf: Leaf


def places(rules: Rules, names: Iterable[str]) -> dict[str, Place]:
    """The places of those of our names that the table knows."""
    compiled = [
        (re.compile(_pattern(_join(rule.ours, leaf.ours))), _join(rule.theirs, leaf.theirs), leaf)
        for rule in rules
        for leaf in rule.leaves
    ]
    found = {}
    for name in names:
        for pattern, theirs, leaf in compiled:
            if match := pattern.fullmatch(name):
                found[name] = Place(theirs.format(**match.groupdict()), leaf)
                break
    return found


def to_ours(rules: Rules, theirs: Tensors, names: Iterable[str]) -> dict[str, LazyTensor]:
    """Our tensors, read from theirs when asked for.

    Args:
      rules: the table.
      theirs: their tensors; all that the names need, in the right shapes.
      names: of ours, each covered by the table.
    """
    made = {}
    for name, source in places(rules, names).items():
        leaf = source.leaf
        made[name] = lazy(lambda x, leaf=leaf: leaf.forward(_part(x, leaf.part)), theirs[source.name])
    return made


def to_theirs(rules: Rules, ours: Tensors) -> dict[str, LazyTensor]:
    """Their tensors, read from ours when asked for; tensors that the table does not cover are left out.

    With `jax.ShapeDtypeStruct`s the result tells names, shapes and dtypes, and cannot be read.
    """
    pieces: dict[str, list[tuple[int, str, Leaf]]] = {}
    for name, source in places(rules, ours).items():
        pieces.setdefault(source.name, []).append((source.leaf.part[0], name, source.leaf))
    made = {}
    for theirs, parts in pieces.items():
        parts.sort(key=lambda part: part[0])
        tensors = [ours[name] for _, name, _ in parts]
        made[theirs] = lazy(
            lambda *xs, parts=parts: _concatenate([leaf.backward(x) for x, (_, _, leaf) in zip(xs, parts)]), *tensors
        )
    return made


def rename(aliases: Sequence[tuple[str, str]], theirs: Tensors) -> dict[str, Any]:
    """Brings other spellings of a format to the one in its table: each (pattern, replacement) in turn, by `re.sub`.

    Raises:
      UserError: a tensor is there in two spellings.
    """
    renamed, spelled = {}, {}
    for name, tensor in theirs.items():
        new = name
        for pattern, replacement in aliases:
            new = re.sub(pattern, replacement, new)
        if new in renamed:
            raise UserError(f"{spelled[new]} and {name} are two spellings of one tensor; leave one of them out")
        renamed[new], spelled[new] = tensor, name
    return renamed


def _pattern(template: str) -> str:
    pattern = re.escape(template).replace(r"\{path\}", "(?P<path>.+)")
    return re.sub(r"\\{(\w)\\}", r"(?P<\1>\\d+)", pattern)


def _join(*names: str) -> str:
    return ".".join(name for name in names if name)


def _part(x: Array, part: tuple[int, int]) -> Array:
    index, count = part
    size = x.shape[0] // count if count > 1 else 0
    return x[index * size : (index + 1) * size] if count > 1 else x


def _concatenate(arrays: list[Array]) -> Array:
    return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]


def lazy(function: Callable[..., Array], *tensors: Any) -> LazyTensor:
    """`function` of the tensors, which rearranges them, when it is read."""
    # The shape comes from views of a single zero: nothing is allocated.
    shape = function(*(np.broadcast_to(np.uint8(0), tensor.shape) for tensor in tensors)).shape
    return LazyTensor(shape, np.dtype(tensors[0].dtype), lambda: function(*map(np.asarray, tensors)))
