"""A step at the border is a seam, and one elsewhere is none."""

import numpy as np
from bench_seams import HIDDEN, SIDE, border, columns

from gp_jax.geometry import Canvas

CANVAS = Canvas.from_pads(SIDE, SIDE - 2 * HIDDEN, HIDDEN, HIDDEN, 0, 0)


def test_a_step_is_found_where_it_is():
    ramp = np.broadcast_to(np.arange(SIDE, dtype=np.uint8)[:, None], (2, SIDE, SIDE, 3)).copy()
    assert border(ramp, CANVAS) < 1e-6
    at_left, elsewhere = ramp.copy(), ramp.copy()
    at_left[:, :, :HIDDEN] += 51  # 0.2 of the range
    elsewhere[:, :, HIDDEN + 9 :] += 51
    np.testing.assert_allclose(border(at_left, CANVAS), 0.1, atol=1e-6)  # the mean of two borders
    assert border(elsewhere, CANVAS) < 1e-6
    assert columns(elsewhere).argmax() == HIDDEN + 9 - 2
