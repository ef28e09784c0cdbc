"""A network with low-rank updates beside its kernels: LoRA (Hu et al. 2021, arXiv 2106.09685).

The kernel W of a linear layer or a convolution stays as it is, and the layer's result becomes

    layer(x) + scale * up(down(x))

`down` is a layer of the same kind without bias, whose outputs are r channels; `up` takes these r to the outputs, at
each place by itself. A layer that was `query` has then two more parameters, beside those that it had:

    query.kernel             [I, O]          as before
    query.lora_down.kernel   [I, r]          drawn from N(0, 1/r^2)
    query.lora_up.kernel     [r, O]          zeros: a fresh LoRA changes nothing

Of a convolution W and `down` are [h, w, I, O] and [h, w, I, r].

An update may count more at some places than at others, by numbers given with the input, which `applied` passes to the
layers that have one.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx

from gp_jax.models.layers import Convolution

Array = jax.Array
Network = TypeVar("Network", bound=nnx.Module)
# Behind the name of a layer.
DOWN, UP = "lora_down.kernel", "lora_up.kernel"


def _adding(kind: Any) -> type:
    """The class of layers of a kind that have an update; `lora_scale` is a constant of the program."""

    class Adding(kind):
        def __call__(self, x: Array, weights: Array | float = 1.0) -> Array:
            return kind.__call__(self, x) + weights * (self.lora_scale * self.lora_up(self.lora_down(x)))

    # Programs are kept by the names of classes.
    Adding.__name__ = Adding.__qualname__ = f"{kind.__name__}WithLowRank"
    return Adding


def applied(layer: Any, x: Array, weights: Array | None) -> Array:
    """`layer(x)`; `weights`, which broadcast with the result, say how much its update counts, if it has one."""
    return layer(x) if weights is None or not hasattr(layer, "lora_up") else layer(x, weights)


_KINDS = {kind: _adding(kind) for kind in (nnx.Linear, nnx.Conv, Convolution)}


def with_low_rank(
    config: Any,
    *,
    build: Callable[..., nnx.Module],
    ranks: Iterable[tuple[str, int]],
    scale: float = 1.0,
    rngs: nnx.Rngs,
    **options: Any,
) -> nnx.Module:
    """`build(config, rngs=..., **options)` with fresh updates.

    Args:
      config: of the network.
      build: its class.
      ranks: (layer, r) for each layer that gets an update, by its dotted path, such as `down.0.downsample`.
      scale: of all updates.
      rngs: of all parameters.
      **options: of the network.
    """
    network = build(config, rngs=rngs, **options)
    layers = _layers(network)
    for name, rank in ranks:
        _extend(layers[name], rank, scale, rngs, nnx.initializers.normal(1 / rank), nnx.initializers.zeros)
    return network


def beside(network: Network, updates: Mapping[str, Array], scale: float = 1.0) -> Network:
    """A network with updates beside its kernels, made of one without, also under a trace; `network` stays.

    Args:
      network: of which no layer has an update.
      updates: by the names that they have as parameters, `query.lora_down.kernel` and `query.lora_up.kernel`.
      scale: of all updates.
    """
    network = nnx.clone(network)
    layers = _layers(network)
    for name in (name.removesuffix(f".{DOWN}") for name in updates if name.endswith(f".{DOWN}")):
        down, up = updates[f"{name}.{DOWN}"], updates[f"{name}.{UP}"]
        _extend(layers[name], up.shape[0], scale, _NoKeys(), lambda *_, down=down: down, lambda *_, up=up: up)
    return network


def fresh(kernels: Mapping[str, tuple[int, ...]], rank: int, seed: int) -> dict[str, np.ndarray]:
    """Updates that change nothing yet, float32, by the names that they have as parameters.

    Args:
      kernels: the layers that get one, and the shapes of their kernels, [I, O] or [h, w, I, O].
      rank: r, of all.
      seed: of what is drawn.
    """
    rng, made = np.random.default_rng(seed), {}
    for name, shape in sorted(kernels.items()):
        made[f"{name}.{DOWN}"] = rng.normal(0, 1 / rank, (*shape[:-1], rank)).astype(np.float32)
        made[f"{name}.{UP}"] = np.zeros((rank, shape[-1]), np.float32)
    return made


class _NoKeys:
    """In the place of `nnx.Rngs`, for layers that are given their parameters."""

    def params(self) -> None:
        return None


def _layers(network: nnx.Module) -> dict[str, Any]:
    return {".".join(map(str, path)): layer for path, layer in nnx.iter_modules(network)}


def _extend(layer: Any, rank: int, scale: float, rngs: Any, down_init: Callable, up_init: Callable) -> None:
    options = {"use_bias": False, "dtype": layer.dtype, "rngs": rngs}
    down = {**options, "kernel_init": down_init}
    kind = type(layer)
    if kind is nnx.Linear:
        layer.lora_down = nnx.Linear(layer.in_features, rank, **down)
    else:
        places = {"strides": layer.strides, "padding": layer.padding}
        layer.lora_down = kind(layer.in_features, rank, layer.kernel_size, **places, **down)
    layer.lora_up = nnx.Linear(rank, layer.out_features, kernel_init=up_init, **options)
    layer.lora_scale = scale
    # The layer itself becomes one that adds, so that its parameters keep their names.
    object.__setattr__(layer, "__class__", _KINDS[kind])
