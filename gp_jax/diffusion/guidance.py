"""Classifier-free guidance with separate scales for the text and the global tokens.

With t the text and g the global tokens, 0 where either is dropped, and e the network's prediction:

    e(0, 0) + token_scale * (e(0, g) - e(0, 0)) + text_scale * (e(t, g) - e(0, g))

(the nesting of two conditions is that of InstructPix2Pix, Brooks et al., arXiv:2211.09800, eq. 3). Sorted by branch,
that is a weighted sum, and a branch without weight is never computed:

    branch     e(0, 0)            e(0, g)                     e(t, g)
    weight     1 - token_scale    token_scale - text_scale    text_scale

So scales (1, 1) cost one branch, equal scales two, others three. Example, within a sampling loop:

    def denoise(latents, timestep):
        scales = {"text_scale": 7.5, "token_scale": 2.0}
        return guide(network, latents, timestep, text, null_text, tokens, **scales, frames=frames)
"""

import itertools
import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gp_jax.errors import UserError
from gp_jax.json_config import short

Scale = float | jax.Array


def guide(
    model: Callable[..., jax.Array],
    sample: jax.Array,
    timesteps: jax.Array,
    text: jax.Array | None,
    null_text: jax.Array,
    tokens: jax.Array | None,
    *,
    text_scale: Scale = 1.0,
    token_scale: Scale = 1.0,
    branches: tuple[bool, ...] | None = None,
    rescale: float = 0.0,
    **batched: jax.Array | None,
) -> jax.Array:
    """One guided prediction, all its branches in one call of the model.

    Args:
      model: (sample [M, ...], timesteps [M], text [M, L, D], tokens [M, K, D] or None, **batched) -> [M, ...], where
        M = B * branches. The branches of a sample lie side by side, so that a sharded batch stays where it is.
      sample: [B, ...], noisy latents.
      timesteps: [B] or a scalar.
      text: [B, L, D], or None for no prompt: then `text_scale` is without effect.
      null_text: [L, D] or [B, L, D], the embedding of the empty prompt.
      tokens: [B, K, D] global tokens, or None for a model without: then `token_scale` is without effect. Dropped
        tokens are zeros.
      text_scale, token_scale: numbers, Python's own unless `branches` are given.
      branches: of `branches_of`, which of the three are computed; by default those that the scales give weight.
      rescale: from 0 (none) to 1, how far to bring each sample's standard deviation back to the most conditional
        branch's (Lin et al., arXiv:2305.08891, section 3.4; they advise 0.7 for zero terminal SNR).
      **batched: further inputs of the model, [B, ...] or None, by keyword; repeated for the branches.

    Returns:
      [B, ...], in float32 if there is more than one branch.
    """
    all_weights = _weights(text_scale, token_scale, text is not None, tokens is not None)
    branches = branches or branches_of(text_scale, token_scale, text is not None, tokens is not None)
    batch = sample.shape[0]
    null_text = jnp.broadcast_to(null_text, (batch, *null_text.shape[-2:]))
    no_tokens = None if tokens is None else jnp.zeros_like(tokens)
    weights = [*itertools.compress(all_weights, branches)]
    texts: list[Any] = [*itertools.compress((null_text, null_text, text), branches)]
    branch_tokens: list[Any] = [*itertools.compress((no_tokens, tokens, tokens), branches)]
    if len(weights) == 1:
        return model(sample, jnp.broadcast_to(timesteps, (batch,)), texts[0], branch_tokens[0], **batched)

    def repeat(array: jax.Array) -> jax.Array:
        return jnp.repeat(array, len(weights), axis=0)

    predictions = model(
        repeat(sample),
        repeat(jnp.broadcast_to(timesteps, (batch,))),
        _side_by_side(texts),
        None if tokens is None else _side_by_side(branch_tokens),
        **jax.tree.map(repeat, batched),
    )
    predictions = predictions.astype(jnp.float32).reshape(batch, len(weights), *predictions.shape[1:])
    parts = [weight * predictions[:, branch] for branch, weight in enumerate(weights)]
    guided = sum(parts[1:], start=parts[0])
    return _match_deviation(guided, predictions[:, -1], rescale) if rescale else guided


def check_scales(**scales: float) -> None:
    """Raises UserError with the name of a scale that is not a finite number."""
    for name, scale in scales.items():
        if isinstance(scale, bool) or not isinstance(scale, numbers.Real) or not math.isfinite(scale):
            raise UserError(f"{name} is a finite number, such as 1.5, not {short(scale)}")


def branches_of(text_scale: Scale, token_scale: Scale, text: bool, tokens: bool) -> tuple[bool, ...]:
    """Which of e(0, 0), e(0, g) and e(t, g) have a weight, where there are `text` and `tokens` or not."""
    return tuple(bool(weight != 0.0) for weight in _weights(text_scale, token_scale, text, tokens))


def _weights(text_scale: Scale, token_scale: Scale, text: bool, tokens: bool) -> tuple[Scale, Scale, Scale]:
    text_scale = text_scale if text else 0.0
    token_scale = token_scale if tokens else 1.0
    return 1.0 - token_scale, token_scale - text_scale, text_scale


def _side_by_side(branches: list[jax.Array]) -> jax.Array:
    """Interleaves arrays [B, ...] to [B * branches, ...]."""
    return jnp.stack(branches, axis=1).reshape(-1, *branches[0].shape[1:])


def _match_deviation(guided: jax.Array, conditional: jax.Array, rescale: float) -> jax.Array:
    """Scales each sample of [B, ...] towards the standard deviation of the conditional prediction."""
    axes = tuple(range(1, guided.ndim))
    ratio = conditional.std(axes, keepdims=True) / guided.std(axes, keepdims=True)
    return guided * (rescale * ratio + (1 - rescale))
