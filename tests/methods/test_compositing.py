"""No seam, no streaks, no touched source."""

import cv2
import jax
import numpy as np
import pytest

from gp_jax.geometry import Canvas, pixel_mask
from gp_jax.methods import compositing
from gp_jax.methods.placement import Placement

CANVAS = Canvas(24, 40, 0, 12, 24, 16)
OUTSIDE = slice(28, 40)  # columns to the right of the source


@jax.jit
def blend(made, seen):
    return compositing.blend(made, seen, pixel_mask(CANVAS), 16)


@pytest.mark.parametrize(
    "canvas", [Canvas(31, 53, 5, 9, 20, 33), Canvas(120, 90, 40, 0, 41, 90), Canvas(9, 13, 2, 3, 5, 7)]
)
def test_the_source_is_untouched(canvas):
    """On canvases larger and smaller than the model's frame."""
    rng = np.random.default_rng(0)
    native = canvas.native(24 * 32)
    source = rng.integers(0, 256, (2, canvas.source_height, canvas.source_width, 3), dtype=np.uint8)
    made = rng.uniform(-3, 3, (2, native.height, native.width, 3)).astype(np.float32)
    place = Placement.of(canvas, native, 8)
    frames = jax.jit(compositing.composite, static_argnums=3)(made, source, place, (canvas.height, canvas.width))
    assert frames.shape == (2, canvas.height, canvas.width, 3) and frames.dtype == np.uint8
    np.testing.assert_array_equal(frames[:, *canvas.observed], source)


def layers_of(source, canvas):
    """Of [N, Hs, Ws, 3]: nothing else is trusted."""
    padded = np.pad(source, ((0, 0), *canvas.pads, (0, 0)))
    trust = np.broadcast_to(255 * (1 - pixel_mask(canvas)), padded.shape[:3])
    return np.concatenate([padded, trust[..., None].astype(np.uint8)], axis=-1)


def test_a_rectangle_is_one_of_any_shapes():
    canvas = Canvas(24, 40, 2, 12, 20, 16)
    rng = np.random.default_rng(0)
    source = rng.integers(0, 256, (2, 20, 16, 3), dtype=np.uint8)
    made = rng.uniform(-1, 1, (2, 12, 20, 3)).astype(np.float32)
    composite = jax.jit(compositing.composite, static_argnums=3)
    place = Placement.of(canvas, canvas.resize(12, 20), 4)
    plain, laid = (composite(made, pixels, place, (24, 40)) for pixels in (source, layers_of(source, canvas)))
    # Colours fade a little farther: how far follows from the frame, and not from the source.
    np.testing.assert_array_equal(laid[:, *canvas.observed], source)
    assert np.abs(np.asarray(plain, float) - laid).mean() < 4


def test_what_is_trusted_is_laid_over_what_was_made():
    """Wholly as it is, in part together with what networks of this size are told of it; colours fade outwards."""
    canvas = Canvas(24, 40, 2, 12, 20, 16)
    rng = np.random.default_rng(0)
    made = rng.uniform(-1, 1, (2, 12, 20, 3)).astype(np.float32)
    carried = layers_of(rng.integers(0, 256, (2, 20, 16, 3), dtype=np.uint8), canvas)
    composite = jax.jit(compositing.composite, static_argnums=3)
    place = Placement.of(canvas, canvas.resize(12, 20), 4)._replace(enough=np.uint8(1))
    plain = np.asarray(composite(made, carried, place, (24, 40)), float)  # at once: what it reads changes below
    carried[:, :, :6] = rng.integers(0, 256, (2, 24, 6, 4), dtype=np.uint8)
    laid = {}
    for trust in (1, 51, 255):
        carried[:, :, :6, 3] = trust
        laid[trust] = np.asarray(composite(made, carried, place, (24, 40)), float)
        np.testing.assert_allclose(laid[trust][:, :, 32:], plain[:, :, 32:], atol=1)
    np.testing.assert_array_equal(laid[255][:, :, :6], carried[:, :, :6, :3])
    between = 0.2 * laid[255] + 0.8 * laid[1]
    np.testing.assert_allclose(laid[51][:, :, :6], between[:, :, :6], atol=2)
    assert np.abs(laid[1] - plain)[:, :, 6:9].mean() > 1


def blend_of_whole_gaussians(made, seen, unknown, shorter):
    """The blend by its definition, of float64 [H, W, C]: each Gaussian over all that is observed, and of full size."""
    inside = unknown == 0
    places = np.argwhere(inside)
    pixels = np.argwhere(np.ones_like(inside))
    apart = np.square(pixels[:, None] - places).sum(axis=-1)
    at, distance = apart.argmin(axis=1), np.sqrt(apart.min(axis=1))[:, None]
    between = np.square(places[:, None] - places).sum(axis=-1)
    width, residual, result = max(2, shorter / 4), (seen - made)[inside], made.reshape(-1, made.shape[-1])

    def fade(reach):
        return 0.5 + 0.5 * np.cos(np.pi * np.minimum(distance / reach, 1))

    for deviation in (2.0**k for k in range(max(1, int(np.log2(width))))):
        weights = np.exp(-0.5 * between / deviation**2)
        smooth = weights @ residual / weights.sum(axis=1, keepdims=True)
        result = result + (residual - smooth)[at] * fade(2 * deviation)
        residual = smooth
    result = (result + residual[at] * fade(width)).reshape(made.shape)
    return np.where(inside[..., None], seen, result)


@pytest.mark.parametrize("shape", ["rectangle", "any"])
def test_smaller_sizes_of_wide_gaussians_change_next_to_nothing(shape):
    """Of a residual that is noise of several sizes, up to 0.9 strong: within 0.6 of a level of 255, 0.06 on average."""
    rng = np.random.default_rng(0)
    unknown = np.ones((50, 63))
    unknown[3:47, 9:50] = 0
    if shape == "any":
        unknown[20:31, 17:40] = 1
    sizes = [cv2.resize(rng.uniform(-1, 1, (50 // f, 63 // f, 3)), (63, 50)) for f in (1, 3, 10)]
    made = rng.uniform(-1, 1, (50, 63, 3))
    seen = made + sum(sizes) / 3
    masks = unknown if shape == "rectangle" else unknown[None]
    blended = jax.jit(compositing.blend, static_argnums=3)(made[None].astype(np.float32), seen[None], masks, 44 * 2)[0]
    expected = blend_of_whole_gaussians(made, seen, unknown, 44 * 2)
    difference = np.abs(blended - expected)
    assert difference.mean() < 0.0005 and difference.max() < 0.005


def test_what_is_right_stays():
    made = np.random.default_rng(1).uniform(-1, 1, (1, 24, 40, 3)).astype(np.float32)
    np.testing.assert_allclose(blend(made, made), made, atol=1e-6)


def test_a_shift_in_colour_fades_without_a_step():
    made = np.zeros((1, 24, 40, 3), np.float32)
    profile = np.asarray(blend(made, made + 0.5))[0, 12, :, 0]
    assert profile[27] == 0.5 and profile[30] > 0.01 and abs(profile[32:]).max() < 1e-6
    assert np.abs(np.diff(profile)).max() < 0.25, "half the shift at most from one pixel to the next"
    assert (np.diff(profile[27:]) <= 1e-6).all()


def test_detail_of_the_border_draws_no_streaks():
    """What alternates from pixel to pixel along the border is gone after two pixels, what varies slowly is not."""
    made = np.zeros((1, 24, 40, 3), np.float32)
    fine = np.broadcast_to((-1.0) ** np.arange(24)[:, None, None], made.shape)
    assert np.abs(blend(made, fine)[0, 3:-3, 30:]).max() < 0.05
    coarse = np.broadcast_to(np.cos(np.arange(24) * np.pi / 12)[:, None, None], made.shape)
    assert np.abs(blend(made, coarse)[0, :, 30]).max() > 0.1
