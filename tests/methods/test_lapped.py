"""What is made fades over the border of the source, on open sides alone; the rest of the source stays what it is."""

import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.jobs.source import identity
from gp_jax.methods.lapped import Cropped, LappedJob, lapped, without_border
from gp_jax.methods.method import ArrayClip, Estimate

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (3, 20, 24, 3), dtype=np.uint8)
CANVAS = Canvas(30, 24, 6, 0, 20, 24)  # open above and below only


class Black:
    """A job that makes black of all that it is not shown."""

    total, journal, estimate = 3, None, Estimate(7, 2.0, 9)

    def __init__(self, clip, canvas, work):
        self.clip, self.canvas = clip, canvas

    def frames(self, progress):
        for frame in self.clip.frames_at(range(len(self.clip))):
            yield np.pad(frame, (*self.canvas.pads, (0, 0)))


@pytest.mark.parametrize("width", [1, 2.5, 4, 9])
def test_it_fades_over_open_borders(width):
    job = lapped(Black, ArrayClip(FRAMES), CANVAS, None, width)
    made = np.stack(list(job.frames()))
    assert isinstance(job, LappedJob) and job.estimate.evaluations == 7 and made.shape == (3, 30, 24, 3)
    assert not made[:, :6].any() and not made[:, 26:].any()
    cut = int(np.ceil(width))
    np.testing.assert_array_equal(made[:, 6 + cut : 26 - cut], FRAMES[:, cut : 20 - cut])
    share = np.minimum((np.arange(cut) + 0.5) / width, 1)[:, None, None]
    np.testing.assert_allclose(made[:, 6 : 6 + cut], share * FRAMES[:, :cut], atol=0.51)
    np.testing.assert_allclose(made[:, 26 - cut : 26], share[::-1] * FRAMES[:, 20 - cut :], atol=0.51)


def test_nothing_is_done_where_nothing_is_asked_for():
    clip, whole = ArrayClip(FRAMES), Canvas(20, 24, 0, 0, 20, 24)
    for canvas, width in ((CANVAS, 0), (whole, 3)):
        assert isinstance(lapped(Black, clip, canvas, None, width), Black)


def test_what_is_told_of_a_part_is_of_the_clip():
    inner = without_border(CANVAS, 3)
    assert inner == Canvas(30, 24, 9, 0, 14, 24)
    clip = ArrayClip(FRAMES)
    part = Cropped(clip, CANVAS, inner)
    np.testing.assert_array_equal(np.stack(list(part.frames_at([0, 2]))), FRAMES[[0, 2], 3:17])
    assert identity(part, inner) == identity(ArrayClip(FRAMES[:, 3:17]), inner)
    with pytest.raises(UserError, match="frames of 24x20 pixels, but the canvas is made for 24x19"):
        list(Cropped(clip, Canvas(30, 24, 6, 0, 19, 24), inner).frames_at([0]))


def test_an_overlap_that_leaves_nothing_is_told():
    with pytest.raises(UserError, match="leaves nothing of a source of 24x20"):
        lapped(Black, ArrayClip(FRAMES), CANVAS, None, 10)
    # Of a source that is open at its longer sides alone more can be taken than half of the shorter one.
    assert without_border(Canvas(20, 60, 0, 18, 20, 24), 11) == Canvas(20, 60, 0, 29, 20, 2)
