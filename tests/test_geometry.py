"""Masks, latents and patches tell one story about one rectangle, whatever its size and however it was asked for."""

import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.geometry import (
    ANCHORS,
    DIRECTIONS,
    Canvas,
    latent_mask,
    patch_positions,
    pixel_mask,
    sample_canvas,
    tiles,
    weighed,
)

SOURCES = [(144, 176), (272, 640), (143, 175), (320, 180), (1, 1), (7, 301)]
ASPECTS = [16 / 9, 9 / 16, 1.0, 21 / 9, 2.39, 1 / 3]


def random_canvases(count: int = 60):
    rng = np.random.default_rng(0)
    for _ in range(count):
        height, width = rng.integers(20, 700, size=2)
        source_height, source_width = rng.integers(height // 2, height + 1), rng.integers(width // 2, width + 1)
        top, left = rng.integers(0, height - source_height + 1), rng.integers(0, width - source_width + 1)
        yield Canvas(*(int(v) for v in (height, width, top, left, source_height, source_width)))


@pytest.mark.parametrize("aspect", ASPECTS)
@pytest.mark.parametrize("size", SOURCES)
def test_an_aspect_grows_one_side_to_the_nearest_even_length(size, aspect):
    canvas = Canvas.from_aspect(*size, aspect)
    grown = canvas.height > size[0], canvas.width > size[1]
    assert not all(grown)
    assert (canvas.source_height, canvas.source_width) == size
    for length, other, is_grown, share in zip((canvas.height, canvas.width), size[::-1], grown, (1 / aspect, aspect)):
        if is_grown:
            assert length % 2 == 0
            assert abs(length - other * share) <= 1


def test_a_source_of_the_aspect_asked_for_is_left_alone():
    assert Canvas.from_aspect(1080, 1920, 16 / 9).is_complete
    assert Canvas.from_aspect(101, 101, 1.0).is_complete
    assert not Canvas.from_aspect(144, 176, 16 / 9).is_complete


@pytest.mark.parametrize("anchor", ANCHORS)
def test_an_anchor_puts_the_source_where_its_name_says(anchor):
    canvas = Canvas.from_size(10, 20, 31, 51, anchor)
    assert canvas.top == (0 if "top" in anchor else 21 if "bottom" in anchor else 10)
    assert canvas.left == (0 if "left" in anchor else 31 if "right" in anchor else 15)


def test_pads_and_sizes_mean_the_same_canvas():
    canvas = Canvas.from_pads(10, 20, left=3, right=4, top=5, bottom=0)
    assert canvas == Canvas(15, 27, 5, 3, 10, 20) == Canvas(*np.array([15, 27, 5, 3, 10, 20]))
    assert canvas.pads == ((5, 0), (3, 4))
    assert Canvas.from_pads(10, 20, left=4, right=4, top=3, bottom=3) == Canvas.from_size(10, 20, 16, 28)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: Canvas.from_size(100, 100, 99, 200),
        lambda: Canvas.from_size(100, 100, 200, 200, "middle"),
        lambda: Canvas.from_pads(100, 100, -1, 0, 0, 0),
        lambda: Canvas.from_aspect(100, 100, 0),
        lambda: Canvas.from_aspect(100, 100, float("nan")),
        lambda: Canvas.from_aspect(100, 100, "16:9"),
        lambda: Canvas.from_pads(24, 32, 4.0, 4.0, 0, 0),
        lambda: Canvas.from_size(24, 32, 24.0, 48.0),
        lambda: Canvas(100, 100, 0, None, 100, 100),
        lambda: Canvas(100, 100, 1, 0, 100, 100),
        lambda: Canvas(100, 100, 0, 0, 0, 100),
        lambda: Canvas(10_000, 10_000, 3, 3, 2, 2).resize(16, 16),
    ],
)
def test_what_cannot_be_had_is_said(ask):
    with pytest.raises(UserError):
        ask()


def test_a_resized_canvas_never_claims_an_unknown_pixel():
    for canvas in random_canvases():
        small = canvas.resize(17, 24)
        rows, columns = np.arange(18) * canvas.height / 17, np.arange(25) * canvas.width / 24
        for axis, edges, start, stop in (
            (0, rows, canvas.top, canvas.top + canvas.source_height),
            (1, columns, canvas.left, canvas.left + canvas.source_width),
        ):
            inside = (edges[:-1] >= start - 1e-9) & (edges[1:] <= stop + 1e-9)
            kept = pixel_mask(small).min(axis=1 - axis) == 0
            np.testing.assert_array_equal(kept, inside)


def test_resizing_to_the_same_size_changes_nothing():
    for canvas in random_canvases(10):
        assert canvas.resize(canvas.height, canvas.width) == canvas


def test_a_native_canvas_has_the_models_area_and_nearly_the_aspect():
    for canvas in random_canvases():
        native = canvas.native(128 * 128, 8)
        assert native.height % 8 == native.width % 8 == 0
        if 1 / 3 < canvas.width / canvas.height < 3:
            assert 0.75 < native.height * native.width / 128**2 < 1.34
            assert 0.87 < (native.width / native.height) / (canvas.width / canvas.height) < 1.15


def test_pixels_latents_and_patches_agree():
    for canvas in random_canvases():
        native = canvas.native(96 * 96, 8)
        pixels, cells = pixel_mask(native), latent_mask(native, 8)
        assert pixels.sum() == native.height * native.width - native.source_height * native.source_width
        for row, column in np.ndindex(cells.shape):
            assert cells[row, column] == pixels[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8].max()
        y, x = (patch_positions(native, 7) * (native.height, native.width)).astype(int).T
        assert not pixels[y, x].any()


def test_patches_run_row_by_row_over_the_observed_rectangle():
    canvas = Canvas(height=8, width=16, top=4, left=0, source_height=4, source_width=8)
    expected = [[0.625, 0.125], [0.625, 0.375], [0.875, 0.125], [0.875, 0.375]]
    np.testing.assert_allclose(patch_positions(canvas, 2), expected)


def test_latents_need_whole_cells():
    with pytest.raises(ValueError, match="cells of 8"):
        latent_mask(Canvas(16, 20, 0, 0, 8, 8), 8)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_sampled_canvases_hide_the_share_asked_for_on_the_sides_asked_for(direction):
    rng = np.random.default_rng(1)
    for _ in range(200):
        canvas = sample_canvas(rng, 128, 192, (0.1, 0.7), [direction])
        assert 0.08 < pixel_mask(canvas).mean() < 0.72
        pads = (
            canvas.top,
            128 - canvas.top - canvas.source_height,
            canvas.left,
            192 - canvas.left - canvas.source_width,
        )
        sides = tuple(pad > 0 for pad in pads)
        if direction == "horizontal":
            assert sides == (False, False, True, True)
        elif direction == "vertical":
            assert sides == (True, True, False, False)
        else:
            assert sum(sides) == (1 if direction == "one_side" else 4)


def test_sampling_is_the_seeds_alone_and_survives_tiny_clips():
    draw = [sample_canvas(np.random.default_rng(seed), 128, 128, (0.2, 0.6)) for seed in (5, 5, 6)]
    assert draw[0] == draw[1] != draw[2]
    rng = np.random.default_rng(2)
    assert all(sample_canvas(rng, 2, 3, (0.9, 0.99)).source_height >= 1 for _ in range(100))


def test_m3ddm_cuts_half_the_ratio_off_one_two_or_four_sides():
    rng, counts = np.random.default_rng(1), {}
    for _ in range(2000):
        canvas = sample_canvas(rng, 128, 192, (0.5, 0.5), ["m3ddm"])
        pads = np.array([canvas.top, canvas.left, 128 - canvas.top - canvas.source_height])
        pads = np.append(pads, 192 - canvas.left - canvas.source_width) / [128, 192, 128, 192]
        assert set(pads) <= {0, 0.25} and (pads.sum() != 0.5 or pads[0] == pads[2])
        counts[pads.sum()] = counts.get(pads.sum(), 0) + 1
    np.testing.assert_allclose([counts[0.25], counts[0.5], counts[1.0]], [600, 1100, 300], atol=60)


TILINGS = [((18, 32), (9, 16), 0.25), ((135, 240), (9, 16), 0.25), ((13, 7), (5, 5), 0.5), ((10, 10), (9, 9), 0.25)]


@pytest.mark.parametrize("frame, tile, overlap", [*TILINGS, ((6, 31), (8, 8), 0.1), ((4, 9), (4, 3), 0.9)])
def test_tiles_overlap_and_their_weights_sum_to_one(frame, tile, overlap):
    corners, weights = tiles(frame, tile, overlap)
    total, covered = np.zeros(frame), np.zeros(frame, int)
    for (y, x), weight in zip(corners, weights):
        total[y : y + tile[0], x : x + tile[1]] += weight  # fails where a tile lies outside
        covered[y : y + tile[0], x : x + tile[1]] += 1
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert (weights > 0).all() and covered.min() >= 1
    for axis in (0, 1):
        side = min(tile[axis], frame[axis])
        steps = np.diff(np.unique(corners[:, axis]))
        assert (steps <= max(1, (1 - overlap) * side)).all() and np.ptp(steps) <= 1 if len(steps) else True


@pytest.mark.parametrize("frame, tile", [((144, 256), (72, 128)), ((100, 301), (64, 64))])
def test_where_tiles_end_they_count_next_to_nothing(frame, tile):
    corners, weights = tiles(frame, tile)
    for (_, x), weight in zip(corners, weights):
        assert x == 0 or weight[:, 0].max() < 0.01
        assert x + tile[1] == frame[1] or weight[:, -1].max() < 0.01
        assert np.abs(np.diff(weight, axis=1)).max() < 0.2


def test_tiles_without_anything_wanted_are_left_out():
    wanted = np.zeros((18, 32))
    wanted[:, 28:] = 1
    corners, weights = tiles((18, 32), (9, 16), wanted=wanted)
    assert set(corners[:, 1].tolist()) == {16} and len(corners) == 3
    np.testing.assert_allclose(weights[:, :, -1].sum(), 18, atol=1e-5)
    finer = weighed(8 * corners, (72, 128), (144, 256))
    np.testing.assert_allclose(finer.weights.sum(), 64 * weights.sum(), rtol=1e-5)
