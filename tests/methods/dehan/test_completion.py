"""Only what is missing is made up, from all that is known."""

import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.dehan import completion
from gp_jax.methods.dehan.completion import grown
from gp_jax.methods.dehan.plugs import Completion, completion_of, segmentation_of
from gp_jax.methods.registry import load

SEEN = Canvas(24, 40, 4, 10, 16, 20)


def known() -> np.ndarray:
    """The rectangle, four columns more at its right, and a scrap at its left."""
    mask = np.zeros((24, 40), bool)
    mask[SEEN.observed] = True
    mask[:, 30:34] = True
    mask[6:9, 2:10] = True
    return mask


def test_the_rectangle_grows_as_far_as_all_is_known():
    assert grown(SEEN, known()) == Canvas(24, 40, 4, 10, 16, 24)
    assert grown(SEEN, np.ones((24, 40), bool)) == Canvas(24, 40, 0, 0, 24, 40)
    only = np.zeros((24, 40), bool)
    only[SEEN.observed] = True
    assert grown(SEEN, only) == SEEN


def check(complete: Completion) -> None:
    """What is known stays, and the rest is filled, around the rectangle and in it."""
    frame = np.full((24, 40, 3), 180, np.uint8)
    frame[~known()] = 0
    made = complete(frame, ~known(), SEEN)
    np.testing.assert_array_equal(made[known()], 180)
    assert made[~known()].min() > 90
    inner = known()
    inner[10:12, 15:18] = False
    assert complete(frame, ~inner, Canvas(24, 40, 0, 0, 24, 40))[10:12, 15:18].min() > 170


def test_known_pixels_stay_and_the_others_are_filled(monkeypatch):
    check(completion_of("telea"))
    monkeypatch.setattr(completion, "load", lambda name, checkpoint: load("edge"))
    check(completion_of("globalpaint"))


@pytest.mark.slow
def test_so_they_are_by_the_model_of_this_package():
    check(completion_of("globalpaint"))


def test_an_image_model_says_which():
    about = completion_of("globalpaint").settings
    assert about["checkpoint"] == "tiny" and len(about["weights"]) == 64


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gan", "no completion 'gan': choose of telea, globalpaint"),
        ("globalpaint:nothing", "nothing"),
        ("telea:x", "telea"),
    ],
)
def test_what_is_not_there_is_named(name, message):
    with pytest.raises(UserError, match=message):
        completion_of(name)


def test_segmentations_that_are_not_there_are_named():
    with pytest.raises(UserError, match="no segmentation 'cosnet': choose of homography, img-focus, none"):
        segmentation_of("cosnet")
