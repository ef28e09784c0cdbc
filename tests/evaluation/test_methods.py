"""Every method keeps what is observed; each does what it is called after."""

import numpy as np
import pytest

from gp_jax.checkpoint.folder import find_checkpoint
from gp_jax.errors import UserError
from gp_jax.evaluation.methods import METHODS, fingerprint, from_folder, globalpaint
from gp_jax.geometry import Canvas

CLASSICAL = [name for name in METHODS if name != "globalpaint"]
CANVASES = {
    "sides": Canvas(24, 50, 0, 9, 24, 30),
    "one corner": Canvas(40, 36, 19, 0, 21, 30),
    "narrow": Canvas(24, 50, 0, 20, 24, 7),
}


def film(canvas: Canvas, frames: int = 3) -> np.ndarray:
    """Smooth noise, another one in each frame."""
    rng = np.random.default_rng(0)
    shape = frames, -(-canvas.source_height // 4), -(-canvas.source_width // 4), 3
    large = np.kron(rng.integers(0, 256, shape), np.ones((1, 4, 4, 1)))
    return large[:, : canvas.source_height, : canvas.source_width].astype(np.uint8)


@pytest.mark.parametrize("canvas", CANVASES.values(), ids=CANVASES)
@pytest.mark.parametrize("name", CLASSICAL)
def test_observed_pixels_are_kept_and_the_others_filled(name, canvas):
    source = film(canvas)
    made = METHODS[name]().outpaint(source, canvas)
    assert (made.shape, made.dtype) == ((3, canvas.height, canvas.width, 3), np.uint8)
    np.testing.assert_array_equal(made[(slice(None), *canvas.observed)], source)
    white = METHODS[name]().outpaint(np.full_like(source, 255), canvas)
    assert white.min() >= 254  # nothing but what the source has


def test_edge_repeats_and_mirror_folds():
    canvas = CANVASES["sides"]
    source = film(canvas)
    edge, mirror = (METHODS[name]().outpaint(source, canvas) for name in ("edge", "mirror"))
    np.testing.assert_array_equal(edge[:, :, :9], np.repeat(source[:, :, :1], 9, axis=2))
    np.testing.assert_array_equal(mirror[:, :, :9], source[:, :, 8::-1])
    np.testing.assert_array_equal(mirror[:, :, 39:], source[:, :, :18:-1])


def test_other_weights_are_another_method(tmp_path):
    for name in ("config.json", "unet/model.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"weights")
    prints = {fingerprint(tmp_path)}
    (tmp_path / "README.md").write_text("a card says nothing of the weights")
    assert fingerprint(tmp_path) in prints
    (tmp_path / "unet/model.safetensors").write_bytes(b"Weights")
    prints.add(fingerprint(tmp_path))
    (tmp_path / "unet").rename(tmp_path / "vae")
    prints.add(fingerprint(tmp_path))
    assert len(prints) == 3


def test_the_model_is_named_by_all_that_its_result_depends_on():
    settings = globalpaint("tiny", seed=3, steps=2).settings
    weights = fingerprint(find_checkpoint("tiny"))
    assert settings == {"checkpoint": "tiny", "weights": weights, "seed": 3, "steps": 2}


def test_a_checkpoint_or_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="no checkpoint nothing"):
        globalpaint("nothing")
    with pytest.raises(UserError, match="no folder"):
        from_folder(tmp_path / "nothing")
