"""Films are decoded once."""

import numpy as np
from films import decode
from PIL import Image


def test_a_film_is_decoded_once(tmp_path):
    frames = np.random.default_rng(1).integers(0, 256, (5, 72, 128, 3)).astype(np.uint8)
    pictures = [Image.fromarray(frame) for frame in frames]
    source, cache = tmp_path / "a.webp", tmp_path / "a.npy"
    pictures[0].save(source, save_all=True, append_images=pictures[1:], lossless=True, duration=40)
    np.testing.assert_array_equal(decode(source, cache, height=72), frames)
    source.unlink()
    np.testing.assert_array_equal(decode(source, cache, height=72), frames)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
