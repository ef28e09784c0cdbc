"""Clips that the tests of several metrics share."""

import sys
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))


@pytest.fixture(scope="session")
def clips():
    """(reference, generated): smooth pictures that move, and the same with errors; uint8 [4, 4, 36, 44, 3] each."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (4, 8, 10, 3))
    film = np.kron(coarse, np.ones((1, 6, 6, 1)))
    reference = np.stack([film[:, 2 + t : 38 + t, 3 + 2 * t : 47 + 2 * t] for t in range(4)], axis=1)
    generated = np.clip(reference + rng.normal(0, 20, reference.shape), 0, 255)
    return reference.astype(np.uint8), generated.astype(np.uint8)
