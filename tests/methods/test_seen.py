"""What a mask hides and what a path leaves free is unknown; all else is the source's, where it belongs."""

import json

import cv2
import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.method import ArrayClip
from gp_jax.methods.placement import ENOUGH
from gp_jax.methods.seen import Carried, Feathered, Masked, Moving, Steadied, at, hull, seen_of

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (4, 8, 10, 3), dtype=np.uint8)
CLIP = ArrayClip(FRAMES)
SAME = Canvas(8, 10, 0, 0, 8, 10)
WIDE = Canvas(11, 16, 1, 2, 8, 10)


def layers_of(seen):
    layers = np.stack(list(seen.layers()))
    np.testing.assert_array_equal(layers, list(seen.layers()), "they can be asked for again")
    return layers


@pytest.mark.parametrize("canvas", [SAME, WIDE])
def test_a_mask_hides_what_is_white(canvas):
    hidden = RNG.random((4, 8, 10)) < 0.3
    layers = layers_of(Masked.of(CLIP, canvas, hidden))
    inner = layers[(slice(None), *canvas.observed)]
    np.testing.assert_array_equal(inner[..., :3], FRAMES)
    np.testing.assert_array_equal(inner[..., 3], np.where(hidden, 0, 255))
    assert (layers[..., 3] > 0).sum() == (~hidden).sum(), "beyond the source nothing is known"


def test_a_picture_is_the_mask_of_all_frames(tmp_path):
    hidden = RNG.random((8, 10)) < 0.3
    cv2.imwrite(str(tmp_path / "mask.png"), np.where(hidden, 140, 120))
    picture = Masked.of(CLIP, SAME, tmp_path / "mask.png")
    alike = Masked.of(CLIP, SAME, np.repeat(hidden[None], 4, axis=0))
    np.testing.assert_array_equal(layers_of(picture), layers_of(alike))
    assert picture.identity() == Masked.of(CLIP, SAME, 255 * hidden.astype(np.uint8)).identity()
    np.testing.assert_array_equal(picture.hidden([1, 3]), alike.hidden([1, 3]))
    np.testing.assert_array_equal(picture.hidden([2]), hidden[None])
    assert picture.identity() != Masked.of(CLIP, SAME, ~hidden).identity()


@pytest.mark.parametrize(
    "mask, told",
    [
        (np.zeros((4, 8, 9), bool), "9x8 pixels, and the clip, as it is used, 10x8"),
        (np.zeros((3, 8, 10), bool), "3 frames, and the clip 4"),
        (np.zeros((4, 8, 10), np.float32), "bool or uint8"),
        ("nowhere.png", "nowhere.png"),
    ],
)
def test_a_mask_that_does_not_fit_is_told(mask, told):
    with pytest.raises(UserError, match=told):
        Masked.of(CLIP, SAME, mask)


PATH = np.array([[0, 0], [6, 3], [2, 1], [5, 0]])


def test_the_source_lies_where_the_path_says():
    layers = layers_of(Moving.of(CLIP, WIDE, PATH))
    for layer, frame, (left, top) in zip(layers, FRAMES, PATH):
        np.testing.assert_array_equal(layer[top : top + 8, left : left + 10, :3], frame)
        assert (layer[..., 3] == 255).sum() == (layer[..., 3] > 0).sum() == 80
        assert hull(layer[..., 3] > 0) == Canvas(11, 16, top, left, 8, 10)


@pytest.mark.parametrize("text", ["x,y\n0,0\n6,3\n2.4, 0.6\n5,0\n", "0,0\n6,3\n\n2,1\n5,0", json.dumps(PATH.tolist())])
def test_a_path_is_read_of_csv_and_json(text, tmp_path):
    (tmp_path / "path").write_text(text)
    np.testing.assert_array_equal(Moving.of(CLIP, WIDE, tmp_path / "path").path, PATH)


@pytest.mark.parametrize(
    "text, told",
    [
        ("0,0\n1,1\n", "2 places, and the clip 4 frames"),
        ("0,0\n7,3\n2,1\n5,0", r"frame 1 to \(7, 3\)"),
        ("0,0\n6,3\n-1,1\n5,0", r"frame 2 to \(-1, 1\)"),
        ("0,0\n6,3\n2\n5,0", "no path"),
        ("a,b\n6,3\n2,1\n5,0", "no path"),
        ("[[0, 0], [1, 1]", "no path"),
        ('{"x": 1}', "no path"),
        ("0,nan\n0,0\n0,0\n0,0", "no path"),
        ("", "no path"),
        pytest.param("[[1" + "0" * 400 + ", 0]]", "no path", id="a number beyond all"),
        pytest.param("[" * 100_000, "no path", id="lists without an end"),
        pytest.param("1" * 140_000, "no path", id="a line without an end"),
    ],
)
def test_a_path_that_is_none_or_leads_astray_is_told(text, told, tmp_path):
    (tmp_path / "path.csv").write_text(text)
    with pytest.raises(UserError, match=told):
        Moving.of(CLIP, WIDE, tmp_path / "path.csv")


def test_a_frame_is_cut_where_it_leaves_the_canvas():
    whole = at(FRAMES[0], Canvas(30, 30, 0, 0, 8, 10), 10, 10)
    for left, top in [(-3, 2), (4, -5), (-2, 6), (-10, 0), (8, 8)]:
        np.testing.assert_array_equal(at(FRAMES[0], SAME, left, top), whole[10 - top :, 10 - left :][:8, :10])


def test_a_shaking_camera_is_steadied():
    """Its source's pixels stay what they are, and the scene stands nearly still on the canvas."""
    scene = cv2.resize(RNG.integers(0, 256, (16, 20, 3), dtype=np.uint8), (160, 128), interpolation=cv2.INTER_CUBIC)
    shakes = RNG.integers(-3, 4, (20, 2))
    film = np.stack([scene[20 + y : 84 + y, 30 + x : 126 + x] for x, y in shakes])
    steadied = Steadied(ArrayClip(film), Canvas(64, 96, 0, 0, 64, 96))
    layers = layers_of(steadied)
    assert 0 < (layers[..., 3] == 0).mean() < 0.1
    for layer, frame, (left, top) in zip(layers, film, steadied.path):
        np.testing.assert_array_equal(layer, at(frame, steadied.canvas, left, top))
    whole = layers_of(Carried(ArrayClip(film), steadied.canvas, steadied))
    assert (whole[..., 3] == 0).mean() < 0.3 * (layers[..., 3] == 0).mean()
    exact = layers[..., 3] == 255
    np.testing.assert_array_equal(whole[exact], layers[exact])
    assert (np.std(steadied.path - shakes, axis=0) < 0.5 * np.std(shakes, axis=0)).all()


@pytest.mark.parametrize(
    ("canvas", "asked", "size"),
    [
        (Canvas(8, 32_767, 0, 0, 8, 10), {"propagate": True}, "32767x8"),
        (Canvas(8, 32_764, 0, 0, 8, 10), {"propagate": True, "stabilize": True}, "32768x12"),
        (Canvas(720, 65_535, 0, 0, 720, 65_535), {"stabilize": True}, "32768x360"),
    ],
)
def test_what_flow_cannot_be_followed_over_is_told(canvas, asked, size):
    with pytest.raises(UserError, match=f"followed over {size} pixels"):
        seen_of(CLIP, canvas, **asked)
    small = Canvas(8, 32_762, 0, 0, 8, 10)
    assert seen_of(CLIP, small, propagate=True, stabilize=True) and seen_of(CLIP, small, path=[[9, 0]] * 4)


@pytest.mark.parametrize("width", [2, 4, 6])
def test_a_border_fades_over_a_width_and_the_rest_is_exact(width):
    frames = RNG.integers(0, 256, (2, 20, 24, 3), dtype=np.uint8)
    canvas = Canvas(30, 24, 6, 0, 20, 24)  # open above and below only
    clip = ArrayClip(frames)
    layers = layers_of(Feathered.of(clip, canvas, Moving.of(clip, canvas, [[0, 6]] * 2), width))
    np.testing.assert_array_equal(layers[:, 6:26, :, :3], frames)
    trust = layers[0, :, 0, 3].astype(int)
    assert (layers[..., 3] == trust[:, None]).all()  # no border to the left or right
    assert (trust[:6] == 0).all() and (trust[26:] == 0).all()
    assert (np.diff(trust[5 : 7 + width]) > 0).all() and (trust[6 + width : 26 - width] == 255).all()
    assert (trust[6:26] >= ENOUGH).sum() == 20 - width
    moving = Moving.of(CLIP, WIDE, PATH)
    inner, outer = layers_of(moving), layers_of(Feathered.of(CLIP, WIDE, moving, 2))
    assert ((inner[..., 3] == 255) >= (outer[..., 3] > 0)).all() and (outer[..., 3] == 255).any()


def test_an_overlap_that_leaves_nothing_is_told():
    with pytest.raises(UserError, match="leaves nothing of a source of 10x8"):
        Feathered.of(CLIP, WIDE, Moving.of(CLIP, WIDE, PATH), 4)
