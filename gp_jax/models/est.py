"""Enhanced Spatial-Temporal modules: what turns an image UNet into a video UNet.

Two modules, both of them residual and both ending in zero-initialised projections, so that a fresh one changes nothing:

  TemporalConvolution  after each spatial residual block: a 1D convolution over three neighbouring frames.
  SpaceTimeTransformer after each spatial transformer block: temporal self-attention at each position, then
  self-attention in 3D windows
                       with relative positions, then a feed-forward. Windows are shifted in every second block.

The paper's body is not public; the temporal parts follow Make-A-Video (arXiv 2209.14792) and AnimateDiff (arXiv
2307.04725), the windows Video Swin (arXiv 2106.13230).
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from gp_jax.models.attention import AUTO, attend, merge_heads, split_heads
from gp_jax.models.layers import FeedForward, GroupNorm, layer_norm, sinusoidal, zero_linear
from gp_jax.models.motion import MotionModule
from gp_jax.models.windows import Size3, merge_windows, relative_positions, split_windows, window_grid, window_regions
from gp_jax.parallel import constrain

Array = jax.Array


class TemporalConvolution(nnx.Module):
    """Group norm, SiLU, a convolution of width 3 over the frames (written as one matrix product), residual."""

    def __init__(self, channels: int, *, groups: int, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.norm = GroupNorm(channels, groups, 1e-5, rngs=rngs, dtype=dtype)
        self.convolution = zero_linear(3 * channels, channels, rngs=rngs, dtype=dtype)

    def __call__(self, x: Array) -> Array:
        """[B, T, h, w, C] -> the same."""
        y = nnx.silu(self.norm(x))
        edge = jnp.zeros_like(y[:, :1])
        before = jnp.concatenate([edge, y[:, :-1]], axis=1)
        after = jnp.concatenate([y[:, 1:], edge], axis=1)
        return x + self.convolution(jnp.concatenate([before, y, after], axis=-1))


class SpaceTimeTransformer(nnx.Module):
    """Temporal attention, 3D windowed attention (unless `window` is None) and a feed-forward.

    With `motion`, the arguments of a `MotionModule`, the temporal part is AnimateDiff's.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        window: Size3 | None,
        shifted: bool,
        rngs: nnx.Rngs,
        multiplier: int = 4,
        motion: dict[str, Any] | None = None,
        attention: str = AUTO,
        dtype: DTypeLike | None = None,
    ):
        options = {"rngs": rngs, "attention": attention, "dtype": dtype}
        self.temporal = (
            TemporalAttention(channels, heads, **options)
            if motion is None
            else MotionModule(channels, **motion, **options)
        )
        self.windowed = (
            None if window is None else WindowedAttention(channels, heads, window=window, shifted=shifted, **options)
        )
        self.norm = layer_norm(channels, rngs=rngs, dtype=dtype)
        self.feed_forward = FeedForward(channels, multiplier=multiplier, zero=True, rngs=rngs, dtype=dtype)

    def __call__(self, x: Array, positions: Array) -> Array:
        """Args: x: [B, T, h, w, C]. positions: [B, T], place of each frame in its segment. Returns: like x."""
        x = self.temporal(x, positions)
        if self.windowed is not None:
            x = self.windowed(x)
        return x + self.feed_forward(self.norm(x))


class TemporalAttention(nnx.Module):
    """Self-attention over the frames at each position; frames know their place by a sinusoidal encoding."""

    def __init__(self, channels: int, heads: int, *, rngs: nnx.Rngs, attention: str, dtype: DTypeLike | None):
        self.heads, self.attention = heads, attention
        self.norm = layer_norm(channels, rngs=rngs, dtype=dtype)
        self.query = nnx.Linear(channels, channels, use_bias=False, dtype=dtype, rngs=rngs)
        self.key = nnx.Linear(channels, channels, use_bias=False, dtype=dtype, rngs=rngs)
        self.value = nnx.Linear(channels, channels, use_bias=False, dtype=dtype, rngs=rngs)
        self.output = zero_linear(channels, channels, rngs=rngs, dtype=dtype)

    def __call__(self, x: Array, positions: Array) -> Array:
        batch, frames, height, width, channels = x.shape
        encoding = sinusoidal(positions, channels, cosine_first=False).astype(x.dtype)
        y = self.norm(x).reshape(batch, frames, height * width, channels) + encoding[:, :, None]
        # Positions take the mesh axis that frames had, here and not somewhere in a projection, whose gradient XLA's
        # partitioner then gets wrong.
        y = constrain(y.swapaxes(1, 2), "batch", "window", None, None)
        query, key, value = (split_heads(project(y), self.heads) for project in (self.query, self.key, self.value))
        y = self.output(merge_heads(attend(query, key, value, kernel=self.attention)))
        y = constrain(y, "batch", "window", None, None)
        return x + y.swapaxes(1, 2).reshape(x.shape)


class WindowedAttention(nnx.Module):
    """Self-attention within 3D windows `(t, h, w)` of the latent volume, with a learned bias per relative position
    and head."""

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        window: Size3,
        shifted: bool,
        rngs: nnx.Rngs,
        attention: str,
        dtype: DTypeLike | None,
    ):
        self.heads, self.attention, self.window, self.shifted = heads, attention, tuple(window), shifted
        t, h, w = window
        rows = (2 * t - 1) * (2 * h - 1) * (2 * w - 1)
        self.norm = layer_norm(channels, rngs=rngs, dtype=dtype)
        self.query = nnx.Linear(channels, channels, use_bias=False, dtype=dtype, rngs=rngs)
        self.key = nnx.Linear(channels, channels, use_bias=False, dtype=dtype, rngs=rngs)
        self.value = nnx.Linear(channels, channels, use_bias=False, dtype=dtype, rngs=rngs)
        self.relative_bias = nnx.Param(jnp.zeros((rows, heads)))
        self.output = zero_linear(channels, channels, rngs=rngs, dtype=dtype)

    def __call__(self, x: Array) -> Array:
        """[B, T, h, w, C] -> the same."""
        grid = window_grid(x.shape[1:4], self.window, shifted=self.shifted)
        y = split_windows(self.norm(x), grid)
        query, key, value = (split_heads(project(y), self.heads) for project in (self.query, self.key, self.value))
        bias = self.relative_bias[...][relative_positions(grid.window, self.window)]
        y = attend(
            query,
            key,
            value,
            bias=bias.transpose(2, 0, 1)[None, None],
            regions=window_regions(grid),
            kernel=self.attention,
        )
        return x + merge_windows(self.output(merge_heads(y)), grid)
