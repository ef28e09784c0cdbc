"""What a training step keeps of a block for its backward pass, and what it computes again.

    return keeping(run, "dots")(x, condition)             of `run`, the outcomes of its matrix products are kept

Memory for time. With "products" only what is elementwise is done again, norms and activations: their float32 copies are
most of the memory, and their time hides in what the backward pass reads and writes anyway. With "all" nothing but the
input of a block is kept, and its forward pass is done twice.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
from flax import nnx

P = ParamSpec("P")
T = TypeVar("T")

# Operations that take the time: the rest is elementwise, or sums of it. The last two are kernels of attention.
_PRODUCTS = ("dot_general", "conv_general_dilated", "dot_product_attention_fwd_wrapper", "pallas_call")


def _is_product(operation: Any, *_: Any, **__: Any) -> bool:
    return operation.name in _PRODUCTS


# By name, the policy of `jax.checkpoint`. None: everything is kept.
REMAT: dict[str, Callable | None] = {
    "none": None,
    "products": _is_product,
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
