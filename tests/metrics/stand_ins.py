"""A network in the place of I3D that compiles at once."""

import numpy as np
from flax import nnx


class Pool(nnx.Module):
    """Stands in for I3D: colours of a 4 x 4 grid, and their change over time."""

    def __call__(self, video):
        cells = video.reshape(*video.shape[:2], 4, 56, 4, 56, 3).mean(axis=(3, 5))
        moving = abs(cells[:, 1:] - cells[:, :-1]).mean(axis=1)
        return np.float32(5) * (cells.mean(axis=1) + moving).reshape(len(video), -1)
