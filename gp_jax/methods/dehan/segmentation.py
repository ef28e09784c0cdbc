"""Objects before the scene; see `plugs.Segmentation`."""

import cv2
import numpy as np

from gp_jax.flow.camera import homography, residual
from gp_jax.flow.warp import difference

ASTRAY = 1.0  # pixels a frame that an object moves unlike the camera
MOST = 0.5  # of a frame: what covers more of it is the scene, and the camera was mistaken


def astray(frames: np.ndarray, forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """What moves unlike the camera, both towards the next frame and towards the one before.

    The camera's motion is the homography that most of the flow agrees with. Single pixels are left out; and all of
    a frame is, where there would be more objects than scene.
    """
    least = np.full((len(frames), *frames.shape[1:3]), np.inf)
    for time, (there, back) in enumerate(zip(forward, backward)):
        for frame, flow, other in ((time, there, back), (time + 1, back, there)):
            trusted = np.square(difference(flow, other)).sum(axis=-1) < 1
            least[frame] = np.minimum(least[frame], residual(flow, homography(flow, trusted)))
    found = np.isfinite(least) & (least > ASTRAY)
    found = np.stack([cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3))) for mask in found]) > 0
    return found & (found.mean(axis=(1, 2), keepdims=True) < MOST)


def nothing(frames: np.ndarray, forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """No objects: all of a frame is scene."""
    return np.zeros(frames.shape[:3], bool)
