"""Is the border of the source visible? The seam measure.

Along a smooth picture the step from one pixel to the next is about the mean of the steps before and after it. At a
seam it is not. Minami and Zakhor (1995, "An optimization approach for removing blocking effects in transform coding")
measure block borders so, by the mean squared difference of slope; here it is the mean absolute one, over all places
where an observed pixel meets an unknown one:

    observed | unknown              a  b | c  d
    slope at the border             c - b
    slopes beside it                b - a and d - c
    difference of slope             |(c - b) - ((b - a) + (d - c)) / 2|

Real pictures have edges at the border too. So the reference's own value is subtracted: 0 is a border as smooth as in
reality, positive a visible seam, negative a border that was smoothed over. Unlike the other metrics this one looks at
two observed pixels on the other side of the border, by its nature.
"""

import jax
import jax.numpy as jnp

from gp_jax.metrics.metric import frame_metric, jit_frames, region, unit

Array = jax.Array


@jit_frames
def seam_frames(reference: Array, generated: Array, mask: Array) -> tuple[Array, Array]:
    """Excess difference of slope at the border in each frame, pixels in [0, 1]: [B, T]; arguments as for `Metric`.

    Without a mask there is no border and nothing is measured.
    """
    excess = slope_difference(unit(generated)), slope_difference(unit(reference))
    unknown = region(mask, reference)
    total = pairs = jnp.float32(0)
    for axis, made, real in zip((2, 3), *excess):
        a, b, c, d = _four(unknown, axis)
        border = (a == b) & (b != c) & (c == d)
        total += jnp.where(border, made - real, 0).sum(axis=(2, 3))
        pairs += border.sum(axis=(2, 3), dtype=jnp.float32)
    return total / jnp.maximum(pairs, 1), pairs > 0


def slope_difference(video: Array) -> tuple[Array, Array]:
    """|difference of slope| between pixels 1 and 2 of each four in a column and in a row, mean over the channels.

    Args:
      video: [B, T, H, W, C] float.

    Returns:
      [B, T, H - 3, W] down the columns and [B, T, H, W - 3] along the rows.
    """

    def along(axis: int) -> Array:
        a, b, c, d = _four(video, axis)
        return jnp.abs((c - b) - ((b - a) + (d - c)) / 2).mean(axis=-1)

    return along(2), along(3)


def _four(x: Array, axis: int) -> list[Array]:
    """The first, second, third and fourth of every four neighbours along an axis."""
    return [jax.lax.slice_in_dim(x, i, max(i, x.shape[axis] - 3 + i), axis=axis) for i in range(4)]


seam = frame_metric("seam", "slope", "lower", seam_frames, min_side=4)
