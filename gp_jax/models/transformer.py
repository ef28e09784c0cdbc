"""The transformer block of the Stable Diffusion UNet, with a second cross-attention for global tokens.

    x -> self-attention within each frame -> cross-attention to text, and to global tokens -> feed-forward -> x

All frames of a clip share text and tokens. The part that the image network does not have starts at zero.
"""

import jax
from flax import nnx
from jax.typing import DTypeLike

from gp_jax.models.attention import attend, merge_heads, split_heads
from gp_jax.models.layers import FeedForward, GroupNorm, layer_norm

Array = jax.Array


class SpatialTransformer(nnx.Module):
    """Self-attention within each frame, cross-attention to text and global tokens, feed-forward."""

    def __init__(
        self,
        width: int,
        heads: int,
        context_width: int,
        *,
        groups: int,
        global_tokens: bool,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None,
        attention: str,
    ):
        self.norm = GroupNorm(width, groups, 1e-6, rngs=rngs, dtype=dtype)
        # A 1x1 convolution in SD1, a linear layer in SD2: the same function, other files.
        self.project_in = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.norm1 = layer_norm(width, rngs=rngs, dtype=dtype)
        self.self_attention = Attention(width, heads, width, rngs=rngs, dtype=dtype, attention=attention)
        self.norm2 = layer_norm(width, rngs=rngs, dtype=dtype)
        self.cross_attention = Attention(
            width,
            heads,
            context_width,
            global_tokens=global_tokens,
            rngs=rngs,
            dtype=dtype,
            attention=attention,
        )
        self.norm3 = layer_norm(width, rngs=rngs, dtype=dtype)
        self.feed_forward = FeedForward(width, rngs=rngs, dtype=dtype)
        self.project_out = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, text: Array, tokens: Array | None) -> Array:
        """Args: x: [B, T, h, w, C]. text: [B, L, D]. tokens: [B, K, D] or None. Returns: like x."""
        batch, length, height, width, channels = x.shape
        y = self.project_in(self.norm(x)).reshape(batch, length, height * width, channels)
        normed = self.norm1(y)
        y = y + self.self_attention(normed, normed)
        # All frames of a clip share text and global tokens, so they are one group of queries.
        queries = self.norm2(y).reshape(batch, 1, -1, channels)
        y = y + self.cross_attention(queries, text[:, None], tokens).reshape(y.shape)
        y = y + self.feed_forward(self.norm3(y))
        return x + self.project_out(y).reshape(x.shape)


class Attention(nnx.Module):
    """Multi-head attention; with `global_tokens` also to those, through a second pair of projections.

    Decoupled cross-attention as in IP-Adapter (Ye et al. 2023, arXiv 2308.06721). The new value projection starts at
    zero and has no
    bias: fresh weights, or tokens that are all zero, add exactly nothing.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        context_width: int,
        *,
        global_tokens: bool = False,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None,
        attention: str,
    ):
        self.heads, self.attention = heads, attention

        def linear(inputs, **options):
            return nnx.Linear(inputs, width, dtype=dtype, rngs=rngs, **options)

        self.query = linear(width, use_bias=False)
        self.key = linear(context_width, use_bias=False)
        self.value = linear(context_width, use_bias=False)
        self.output = linear(width)
        if global_tokens:
            self.global_key = linear(context_width, use_bias=False)
            self.global_value = linear(context_width, use_bias=False, kernel_init=nnx.initializers.zeros)

    def __call__(self, x: Array, context: Array, tokens: Array | None = None) -> Array:
        """Args: x: [B, N, Q, C]. context: [B, N, K, D]. tokens: [B, G, D] (N = 1 then) or None. Returns: like x."""
        query = split_heads(self.query(x), self.heads)

        def look(key, value):
            return attend(query, split_heads(key, self.heads), split_heads(value, self.heads), kernel=self.attention)

        y = look(self.key(context), self.value(context))
        if tokens is not None:
            y = y + look(self.global_key(tokens)[:, None], self.global_value(tokens)[:, None])
        return self.output(merge_heads(y))
