"""Windows: partition and merge are inverse, and attending in windows is attending to all under the windows' mask."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gp_jax.models.attention import attend
from gp_jax.models.windows import merge_windows, relative_positions, split_windows, window_grid, window_regions
from gp_jax.parallel import make_mesh, use_mesh

# Divisible, padded, shrunken, and windows of one token; each is tried plain and shifted.
VOLUMES = [((4, 6, 6), (2, 3, 3)), ((5, 7, 3), (2, 4, 2)), ((3, 5, 4), (8, 2, 9)), ((2, 3, 2), (1, 1, 1))]
GRIDS = [window_grid(volume, window, shifted=s) for (volume, window), s in itertools.product(VOLUMES, (False, True))]


def random(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_merge_is_the_inverse_of_split(grid):
    x = random(0, 2, *grid.volume, 3)
    np.testing.assert_array_equal(merge_windows(split_windows(x, grid), grid), x)


def neighbours(grid):
    """[P, P] bool by the definition: padded, shifted coordinates fall into the same window without going around."""

    def window_of(position, axis):
        moved = position - grid.shift[axis]
        # Tokens that the shift moves out in front make a window of their own behind the last.
        return "wrapped" if moved < 0 else moved // grid.window[axis]

    def key(token):
        return tuple(
            (window_of(position, axis), _last_window(grid, axis, position)) for axis, position in enumerate(token)
        )

    tokens = list(itertools.product(*(range(size) for size in grid.volume)))
    return np.array([[key(a) == key(b) for b in tokens] for a in tokens])


def _last_window(grid, axis, position):
    """Whether the window (after rolling) is the one that also holds wrapped tokens; they are apart from each other."""
    return position >= grid.shift[axis]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_windowed_attention_is_full_attention_under_the_windows_mask(grid):
    tokens = int(np.prod(grid.volume))
    q, k, v = (random(seed, 2, *grid.volume, 2 * 4) for seed in range(3))

    def heads(x):
        return x.reshape(*x.shape[:-1], 2, 4)

    windows = [heads(split_windows(x, grid)) for x in (q, k, v)]
    out = attend(*windows, regions=window_regions(grid))
    out = merge_windows(out.reshape(*out.shape[:3], -1), grid)

    full = [heads(x.reshape(2, 1, tokens, -1)) for x in (q, k, v)]
    expected = attend(*full, mask=jnp.asarray(neighbours(grid))[None, None, None])
    np.testing.assert_allclose(out, expected.reshape(out.shape), atol=1e-5)


def test_a_shrunken_window_uses_the_rows_of_the_same_offsets():
    large, small = relative_positions((2, 4, 3), (2, 4, 3)), relative_positions((1, 2, 3), (2, 4, 3))
    # The small window's tokens are those of the large one at t = 0 and h < 2.
    np.testing.assert_array_equal(small, large[:6, :6])
    assert len(np.unique(large)) == 3 * 7 * 5


@pytest.mark.parametrize("mesh", ["data=2,context=2,tensor=2", "context=8", "tensor=2,fsdp=4"])
def test_sharded_windows_heads_and_batch_equal_the_unsharded(mesh):
    grid = window_grid((4, 6, 7), (2, 3, 4), shifted=True)
    x = random(0, 4, *grid.volume, 2 * 4)

    def run(x):
        y = split_windows(x, grid)
        y = y.reshape(*y.shape[:3], 2, 4)
        y = attend(y, y, y, regions=window_regions(grid))
        return merge_windows(y.reshape(*y.shape[:3], -1), grid)

    expected = jax.jit(run)(x)
    with use_mesh(make_mesh(mesh)):
        compiled = jax.jit(run).lower(x).compile()
        np.testing.assert_allclose(compiled(x), expected, atol=1e-5)
    assert "sharding" in compiled.as_text(), "the program was not partitioned"
