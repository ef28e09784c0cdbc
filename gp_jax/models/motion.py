"""AnimateDiff's motion module (Guo et al. 2023, arXiv 2307.04725), as an EST transformer's temporal part.

Norm, projection, two self-attentions over the frames at each position, a feed-forward, projection, residual. It does
the work of `est.TemporalAttention` with weights that exist; `gp-jax convert --motion` puts them in its place.

The same files are run in two ways: AnimateDiff's own code, and what builds on it, normalises each frame by itself,
diffusers' `MotionAdapter` all frames together. Modules are to be run as they were trained, so both are here.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from gp_jax.models.attention import attend, merge_heads, split_heads
from gp_jax.models.layers import FeedForward, GroupNorm, JointGroupNorm, layer_norm, sinusoidal, zero_linear
from gp_jax.models.low_rank import applied
from gp_jax.parallel import constrain

Array = jax.Array


class MotionModule(nnx.Module):
    """The module behind one spatial transformer.

    `frame_norm`: the group norm takes each frame by itself, and not all frames of the segment together.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int,
        groups: int,
        frame_norm: bool,
        rngs: nnx.Rngs,
        attention: str,
        dtype: DTypeLike | None,
    ):
        self.norm = (GroupNorm if frame_norm else JointGroupNorm)(channels, groups, 1e-6, rngs=rngs, dtype=dtype)
        self.project_in = nnx.Linear(channels, channels, dtype=dtype, rngs=rngs)
        self.attention = nnx.List(
            FrameAttention(channels, heads, rngs=rngs, attention=attention, dtype=dtype) for _ in range(2)
        )
        self.feed_forward_norm = layer_norm(channels, rngs=rngs, dtype=dtype)
        self.feed_forward = FeedForward(channels, rngs=rngs, dtype=dtype)
        self.project_out = zero_linear(channels, channels, rngs=rngs, dtype=dtype)

    def __call__(self, x: Array, positions: Array, insertion: Array | None = None) -> Array:
        """Args: x: [B, T, h, w, C]. positions: [B, T], place of each frame in its segment. insertion: see `UNet`.
        Returns: like x."""
        batch, frames, height, width, channels = x.shape
        y = self.project_in(self.norm(x)).reshape(batch, frames, height * width, channels).swapaxes(1, 2)
        # Positions take the mesh axis that frames had, here and not in a projection: see TemporalAttention.
        y = constrain(y, "batch", "window", None, None)
        encoding = interleaved(positions, channels).astype(y.dtype)[:, None]
        weights = None
        if insertion is not None:
            shrunk = _shrunk(insertion, height, width)
            weights = shrunk.reshape(*shrunk.shape[:-2], -1, 1, 1).astype(y.dtype)
        for attention in self.attention:
            y = attention(y, encoding, weights)
        y = self.project_out(y + self.feed_forward(self.feed_forward_norm(y)))
        y = constrain(y, "batch", "window", None, None)
        return x + y.swapaxes(1, 2).reshape(x.shape)


class FrameAttention(nnx.Module):
    """Self-attention over frames whose places were added to them, residual."""

    def __init__(self, channels: int, heads: int, *, rngs: nnx.Rngs, attention: str, dtype: DTypeLike | None):
        self.heads, self.kernel = heads, attention
        self.norm = layer_norm(channels, rngs=rngs, dtype=dtype)
        self.query = nnx.Linear(channels, channels, use_bias=False, dtype=dtype, rngs=rngs)
        self.key = nnx.Linear(channels, channels, use_bias=False, dtype=dtype, rngs=rngs)
        self.value = nnx.Linear(channels, channels, use_bias=False, dtype=dtype, rngs=rngs)
        self.output = nnx.Linear(channels, channels, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, encoding: Array, weights: Array | None) -> Array:
        """Args: x: [B, N, T, C]. encoding: [B, 1, T, C]. weights: [N, 1, 1] or [B, N, 1, 1] of updates, None for 1.
        Returns: like x."""
        y = self.norm(x) + encoding
        projections = self.query, self.key, self.value
        query, key, value = (split_heads(applied(layer, y, weights), self.heads) for layer in projections)
        return x + self.output(merge_heads(attend(query, key, value, kernel=self.kernel)))


def _shrunk(plane: Array, height: int, width: int) -> Array:
    """[..., H, W] -> [..., height, width], the nearest as torch has it: at the upper left."""
    rows, columns = (np.arange(count) * size // count for count, size in zip((height, width), plane.shape[-2:]))
    return plane[..., rows, :][..., columns]


def interleaved(positions: Array | np.ndarray, width: int) -> Array:
    """[...] -> [..., width]: sine and cosine of each frequency side by side, where `sinusoidal` has halves."""
    halves = sinusoidal(positions, width, cosine_first=False)
    return jnp.stack(jnp.split(halves, 2, axis=-1), axis=-1).reshape(halves.shape)
