"""What a training step keeps of a block for its backward pass, and what it computes again.

    return keeping(run, "dots")(x, condition)             of `run`, the outcomes of its matrix products are kept

Memory for time: with "all" nothing but the input of a block is kept, and its forward pass is done twice.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
from flax import nnx

P = ParamSpec("P")
T = TypeVar("T")

# By name, the policy of `jax.checkpoint`. None: everything is kept.
REMAT: dict[str, Callable | None] = {
    "none": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "all": jax.checkpoint_policies.nothing_saveable,
}


def keeping(block: Callable[P, T], name: str) -> Callable[P, T]:
    """The same function of arrays; `name` is one of `REMAT`."""
    return block if REMAT[name] is None else jax.checkpoint(block, policy=REMAT[name])


def keep(network: nnx.Module, name: str) -> None:
    """Gives all blocks of a network this policy, one of `REMAT`, in the place of the one they were built with."""
    blocks: list[Any] = [block for _, block in nnx.iter_modules(network) if hasattr(block, "remat")]
    for block in blocks:
        block.remat = name
