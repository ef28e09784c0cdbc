"""A flash where segments met is seen as one, and a calm clip as calm."""

import numpy as np
import pytest
from bench_flashes import flashes

from gp_jax.geometry import Canvas
from gp_jax.methods.globalpaint.plan import plan

CANVAS = Canvas.from_pads(4, 4, 2, 2, 0, 0)
LEVELS = plan(36, 8).levels
MET = sorted({time for segment in LEVELS[-2] for time in segment.boundary})


@pytest.mark.parametrize("flash", [0, 8])
def test_what_flashes_is_seen(flash):
    video = np.full((36, 4, 8, 3), 100, np.uint8) + np.arange(36, dtype=np.uint8)[:, None, None, None]
    video[MET] += np.uint8(flash)
    video[:, :, 2:6] = np.random.default_rng(0).integers(0, 255, (36, 4, 4, 3))  # the source is not looked at
    met, _, largest, median = flashes(video, CANVAS, LEVELS)
    assert median == 1 and largest == 1 + flash
    assert (met == 1) if not flash else (met > 6)
