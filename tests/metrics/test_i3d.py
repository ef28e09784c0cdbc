"""The distance of two videos that training takes for a loss; I3D itself is held against torch in test_frechet.py."""

import jax
import numpy as np

from gp_jax.metrics.i3d import i3d_distance


def test_order_counts_and_no_gradient_is_infinite(weights):
    """A square that moves: backwards it is another video, though each of its frames is there as well."""
    video = np.full((1, 8, 32, 32, 3), -0.5, np.float32)
    for i in range(8):
        video[:, i, 8:20, 2 + 2 * i : 14 + 2 * i] = 0.7
    others = video, video[:, ::-1], 0 * video, np.full_like(video, -1.0)
    compare = jax.jit(jax.value_and_grad(lambda x: i3d_distance(video, x, side=64).sum()))
    (same, _), (backwards, _), (grey, _), (_, of_black) = map(compare, others)
    assert same < 1e-6 < 0.02 < backwards < grey < 4
    assert np.isfinite(of_black).all() and np.abs(of_black).max() > 0
