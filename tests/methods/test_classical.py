"""Every method keeps what is observed; each does what it is called after."""

import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.method import ArrayClip
from gp_jax.methods.registry import METHODS, load
from gp_jax.video import VideoWriter

CLASSICAL = [name for name, line in METHODS.items() if not line.networks]
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


def made_by(name: str, source: np.ndarray, canvas: Canvas) -> np.ndarray:
    method = load(name)
    return np.stack(list(method.prepare(ArrayClip(source), canvas, method.Options()).frames()))


@pytest.mark.parametrize("canvas", CANVASES.values(), ids=CANVASES)
@pytest.mark.parametrize("name", CLASSICAL)
def test_observed_pixels_are_kept_and_the_others_filled(name, canvas):
    source = film(canvas)
    made = made_by(name, source, canvas)
    assert (made.shape, made.dtype) == ((3, canvas.height, canvas.width, 3), np.uint8)
    np.testing.assert_array_equal(made[(slice(None), *canvas.observed)], source)
    white = made_by(name, np.full_like(source, 255), canvas)
    assert white.min() >= 254  # nothing but what the source has


def test_edge_repeats_and_mirror_folds():
    canvas = CANVASES["sides"]
    source = film(canvas)
    edge, mirror = (made_by(name, source, canvas) for name in ("edge", "mirror"))
    np.testing.assert_array_equal(edge[:, :, :9], np.repeat(source[:, :, :1], 9, axis=2))
    np.testing.assert_array_equal(mirror[:, :, :9], source[:, :, 8::-1])
    np.testing.assert_array_equal(mirror[:, :, 39:], source[:, :, :18:-1])


def test_outputs_that_are_there_get_the_source_put_back(tmp_path):
    canvas = CANVASES["sides"]
    source = film(canvas)
    with VideoWriter(tmp_path / "made", 24) as writer:
        for frame in made_by("mirror", source, canvas) // 2:
            writer.write(frame)
    made = made_by(f"folder:{tmp_path / 'made'}", source, canvas)
    np.testing.assert_array_equal(made[(slice(None), *canvas.observed)], source)
    np.testing.assert_array_equal(made[:, :, :9], made_by("mirror", source, canvas)[:, :, :9] // 2)
    with pytest.raises(UserError, match="has 3 frames of 50x24 pixels, and 2 of 50x24 are asked for"):
        made_by(f"folder:{tmp_path / 'made'}", source[:2], canvas)


def test_a_clip_of_another_size_than_the_canvas_is_made_for():
    with pytest.raises(UserError, match="frames of 30x23 pixels, but the canvas is made for 30x24"):
        made_by("edge", film(CANVASES["sides"])[:, 1:], CANVASES["sides"])


@pytest.mark.parametrize("name", ["flow", "dehan"])
def test_a_canvas_that_flow_cannot_be_followed_over_is_told(name):
    method, canvas = load(name), Canvas(24, 33_000, 0, 0, 24, 30)
    with pytest.raises(UserError, match="flow cannot be followed over 33000x24 pixels"):
        method.prepare(ArrayClip(film(canvas)), canvas, method.Options())


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        load(f"folder:{tmp_path / 'nothing'}")
    with pytest.raises(UserError, match=r"no method nothing: choose of globalpaint, .* and folder:DIR"):
        load("nothing")
    for name in ("edge", f"folder:{tmp_path}"):
        with pytest.raises(UserError, match="is made of no checkpoint"):
            load(name, "tiny")
        for option, value in (("dtype", "bfloat16"), ("mesh", "data=2"), ("lora", "ink.safetensors"), ("bogus", 0)):
            with pytest.raises(UserError, match=f"has no networks, and takes no {option}: leave it out"):
                load(name, **{option: value})
        assert load(name, mesh=None, dtype=None)


@pytest.mark.parametrize(
    ("frames", "told"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), "has no frames"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)], "not of one size"),
        (np.zeros((2, 8, 8, 3)), "must be uint8"),
    ],
)
def test_frames_that_are_no_clip_are_told(frames, told):
    with pytest.raises(UserError, match=told):
        load("flow")(frames, Canvas.from_size(8, 8, 8, 16))
