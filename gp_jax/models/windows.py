"""3D windows: the way into them and back, and who sees whom within one.

Windows are an axis of the einsum, so cutting a clip into more of them costs no loop, and a mesh can shard them.

Example: a volume of 4x5x6 latents in windows of 2x3x3 gives a grid padded to 4x6x6, 8 windows of 18 tokens;
`merge_windows(split_windows(x, grid), grid)` is x.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Size3 = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class WindowGrid:
    """How a volume is cut into windows: all static, made by `window_grid`."""

    volume: Size3
    window: Size3
    shift: Size3

    @property
    def counts(self) -> Size3:
        """Windows along each axis."""
        return tuple(-(-size // w) for size, w in zip(self.volume, self.window))

    @property
    def padded(self) -> Size3:
        """The volume's size after padding to whole windows."""
        return tuple(n * w for n, w in zip(self.counts, self.window))


def window_grid(volume: Size3, window: Size3, *, shifted: bool) -> WindowGrid:
    """Fits windows to a volume `(T, h, w)`.

    A window larger than the volume shrinks to it; an axis that one window covers is not shifted.
    Others are shifted by half a window (Swin, Liu et al. 2021, arXiv 2103.14030).
    """
    window = tuple(min(w, size) for w, size in zip(window, volume))
    shift = tuple(w // 2 if shifted and w < size else 0 for w, size in zip(window, volume))
    return WindowGrid(tuple(volume), window, shift)


def split_windows(x: Array, grid: WindowGrid) -> Array:
    """[B, T, h, w, D] -> [B, N, S, D], N windows of S = t*h*w tokens."""
    x = jnp.pad(x, [(0, 0), *((0, p - s) for p, s in zip(grid.padded, grid.volume)), (0, 0)])
    x = jnp.roll(x, [-s for s in grid.shift], axis=(1, 2, 3))
    (nt, nh, nw), (t, h, w) = grid.counts, grid.window
    x = x.reshape(x.shape[0], nt, t, nh, h, nw, w, -1).transpose(0, 1, 3, 5, 2, 4, 6, 7)
    return x.reshape(x.shape[0], nt * nh * nw, t * h * w, -1)


def merge_windows(windows: Array, grid: WindowGrid) -> Array:
    """Inverse of `split_windows`: [B, N, S, D] -> [B, T, h, w, D], the padding cut off."""
    (nt, nh, nw), (t, h, w) = grid.counts, grid.window
    x = windows.reshape(windows.shape[0], nt, nh, nw, t, h, w, -1).transpose(0, 1, 4, 2, 5, 3, 6, 7)
    x = x.reshape(x.shape[0], *grid.padded, -1)
    x = jnp.roll(x, grid.shift, axis=(1, 2, 3))
    return x[:, : grid.volume[0], : grid.volume[1], : grid.volume[2]]


def window_regions(grid: WindowGrid) -> np.ndarray | None:
    """The region of each token, of which each sees its own: int32 [N, S], or None where all of a window are one.

    Shifting rolls the volume, so a window at its end holds tokens from both ends; padding adds tokens that are nothing,
    and are a region to themselves.
    """
    if not any(grid.shift) and grid.padded == grid.volume:
        return None
    per_axis = []
    for size, padded, shift in zip(grid.volume, grid.padded, grid.shift):
        source = (np.arange(padded) + shift) % padded
        wrapped = np.arange(padded) >= padded - shift
        per_axis.append(np.where(source < size, wrapped.astype(np.int32), 2))
    t, h, w = np.ix_(*per_axis)
    region = np.where((t == 2) | (h == 2) | (w == 2), -1, t * 4 + h * 2 + w).astype(np.int32)
    (nt, nh, nw), (t, h, w) = grid.counts, grid.window
    return region.reshape(nt, t, nh, h, nw, w).transpose(0, 2, 4, 1, 3, 5).reshape(nt * nh * nw, -1)


@functools.cache
def relative_positions(window: Size3, table_window: Size3) -> np.ndarray:
    """Row of the relative-position table for each pair of tokens: int32 [S, S].

    The table belongs to windows of size `table_window` and has `prod(2 * n - 1)` rows; a window that shrank uses its
    middle.
    """
    axes = np.stack(np.meshgrid(*(np.arange(n) for n in window), indexing="ij"), axis=-1).reshape(-1, 3)
    offsets = axes[:, None] - axes[None, :] + np.array(table_window) - 1
    rows = [2 * n - 1 for n in table_window]
    return ((offsets[..., 0] * rows[1] + offsets[..., 1]) * rows[2] + offsets[..., 2]).astype(np.int32)
