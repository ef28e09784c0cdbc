"""LoRA: small updates of some kernels of a network, as a flat dictionary beside the flat dictionary of its parameters.

    adapter["middle.transformer.spatial.self_attention.query"]      Update(down [I, r], up [r, O], scale)
    merged(tensors, adapter)["middle. ... .query.kernel"]           W + scale * down·up, made when it is read
    beside(tensors, adapter)                                        W as it is, and `query.lora_down.kernel`, ...

Merged, the network is what it was, with other numbers. Kept beside (models/low_rank.py), the kernels stay as they were
stored, which matters where they are held in fewer bits than an update needs.

Names are ours and arrays have our layout; what files of other people say is brought to this by convert/lora.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gp_jax.checkpoint.tensors import LazyTensor, Tensors
from gp_jax.errors import UserError
from gp_jax.models.low_rank import DOWN, UP


class Update(NamedTuple):
    """Of one kernel.

    Attributes:
      down: [..., I, r], the kernel's shape with r in the place of its outputs.
      up: [r, O].
      scale: what their product is multiplied by; alpha / r in most files.
    """

    down: Any
    up: Any
    scale: float = 1.0

    @property
    def rank(self) -> int:
        """r."""
        return self.up.shape[0]

    def delta(self) -> np.ndarray:
        """What is added to the kernel, float32."""
        down, up = (np.asarray(x, np.float32) for x in (self.down, self.up))
        return np.float32(self.scale) * np.tensordot(down, up, axes=1)


Adapter = Mapping[str, Update]  # by the dotted path of the layer whose kernel it is


def together(parts: Sequence[tuple[Adapter, float]]) -> dict[str, Update]:
    """Several adapters, each with its strength, as one of strength 1: updates of one kernel lie side by side in r.

    Raises:
      UserError: a strength makes numbers that are beyond float32.
    """
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for adapter, strength in parts:
        for name, update in adapter.items():
            with np.errstate(over="ignore", invalid="ignore"):
                up = np.float32(strength * update.scale) * np.asarray(update.up, np.float32)
            if not np.isfinite(up).all():
                raise _too_large(name)
            found.setdefault(name, []).append((np.asarray(update.down, np.float32), up))
    return {
        name: Update(np.concatenate([down for down, _ in pairs], -1), np.concatenate([up for _, up in pairs]))
        for name, pairs in found.items()
    }


def merged(tensors: Tensors, adapter: Adapter) -> dict[str, Any]:
    """The same names; kernels that have an update are float32, and made when they are read.

    Raises:
      UserError: on reading, where a sum is beyond float32.
    """

    def read(name: str) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            kernel = np.asarray(tensors[f"{name}.kernel"]).astype(np.float32)
            array = kernel + adapter[name].delta()
        if np.isfinite(kernel).all() and not np.isfinite(array).all():
            raise _too_large(name)
        return array

    made = {}
    for name in [name for name in adapter if f"{name}.kernel" in tensors]:
        shape = tuple(tensors[f"{name}.kernel"].shape)
        made[f"{name}.kernel"] = LazyTensor(shape, np.dtype(np.float32), lambda name=name: read(name))
    return {**tensors, **made}


def beside(tensors: Tensors, adapter: Adapter) -> dict[str, Any]:
    """What `low_rank.with_low_rank` builds, of scale 1, has as parameters."""
    made = {}
    for name, update in adapter.items():
        made[f"{name}.{DOWN}"] = np.asarray(update.down, np.float32)
        made[f"{name}.{UP}"] = np.float32(update.scale) * np.asarray(update.up, np.float32)
    return {**tensors, **made}


def apart(tensors: Tensors, scale: float = 1.0) -> tuple[dict[str, Any], dict[str, Update]]:
    """The way back: the parameters of such a network as those that it had, and the adapter."""
    adapter = {
        name.removesuffix(f".{DOWN}"): Update(x, tensors[name.removesuffix(DOWN) + UP], scale)
        for name, x in tensors.items()
        if name.endswith(f".{DOWN}")
    }
    return {name: x for name, x in tensors.items() if not name.endswith((f".{DOWN}", f".{UP}"))}, adapter


def ranks(adapter: Adapter) -> tuple[tuple[str, int], ...]:
    """(layer, r) of each update, as `with_low_rank` takes them."""
    return tuple((name, update.rank) for name, update in sorted(adapter.items()))


def _too_large(name: str) -> UserError:
    return UserError(f"the LoRA makes numbers of {name} that float32 cannot hold: ask for less strength")
