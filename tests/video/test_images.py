"""Still pictures of every kind become upright 8-bit RGB, scaled and never cut; what cannot be read is one sentence."""

import cv2
import numpy as np
import pytest
from PIL import Image

from gp_jax.errors import UserError
from gp_jax.video import VideoReader
from tests.video.odd_files import picture

COLOUR = picture(1)[0]
GREY = COLOUR[..., 0]
ALPHA = np.broadcast_to(np.linspace(0, 255, 32).astype(np.uint8), (24, 32))
SHOWN = np.rint(COLOUR * (ALPHA / 255.0)[..., None])


def cv(path, array):
    cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)


def pil(path, array, mode=None, **options):
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)


def transparent_palette(path):
    image = Image.fromarray(COLOUR).quantize(16)
    image.save(path, transparency=image.getpixel((0, 0)))


def turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    Image.fromarray(COLOUR).save(path, exif=exif, quality=95)


GREYS = np.repeat(GREY[..., None], 3, axis=2)
RGBA = np.dstack([COLOUR, ALPHA])
# name: (how it is written, what is shown, by how much it may be off)
IMAGES = {
    "8 bits.png": (lambda p: pil(p, COLOUR), COLOUR, 0),
    "grey.png": (lambda p: pil(p, GREY), GREYS, 0),
    "16-bit grey.png": (lambda p: cv(p, GREY * np.uint16(257)), GREYS, 0),
    "16-bit colour.png": (lambda p: cv(p, COLOUR * np.uint16(257)), COLOUR, 0),
    "16-bit grey.tiff": (lambda p: cv(p, GREY * np.uint16(257)), GREYS, 0),
    "16-bit colour.tif": (lambda p: cv(p, COLOUR * np.uint16(257)), COLOUR, 0),
    "float grey.tiff": (lambda p: cv(p, GREY / np.float32(255)), GREYS, 0),
    "float colour.tiff": (lambda p: cv(p, COLOUR / np.float32(255)), COLOUR, 0),
    "palette.png": (lambda p: pil(p, COLOUR, "P"), np.array(Image.fromarray(COLOUR).convert("P").convert("RGB")), 0),
    "alpha.png": (lambda p: pil(p, RGBA), SHOWN, 1),
    "alpha.webp": (lambda p: pil(p, RGBA, lossless=True), SHOWN, 1),
    "16-bit alpha.png": (lambda p: cv2.imwrite(str(p), RGBA[..., [2, 1, 0, 3]] * np.uint16(257)), SHOWN, 1),
    "grey alpha.png": (lambda p: pil(p, RGBA, "LA"), None, 1),
    "bits.png": (lambda p: pil(p, GREY > 128), np.where(GREYS > 128, 255, 0), 0),
    "cmyk.jpg": (lambda p: pil(p, COLOUR, "CMYK", quality=95), COLOUR, 8),
    "turned.jpg": (turned, np.rot90(COLOUR, -1), 12),
    "8 bits.bmp": (lambda p: pil(p, COLOUR), COLOUR, 0),
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_picture_of_every_kind_shows_what_it_shows(tmp_path, name):
    write, shown, off = IMAGES[name]
    write(tmp_path / name)
    reader = VideoReader(tmp_path)
    frame = next(iter(reader))
    assert frame.dtype == np.uint8 and frame.shape[:2] == (reader.info.height, reader.info.width)
    if shown is not None:
        assert abs(frame - shown.astype(int)).max() <= off
    assert ("black" in " ".join(reader.info.notes)) == ("alpha" in name and "16" not in name) or "16-bit alpha" in name


TURNED = {
    1: GREY,
    2: GREY[:, ::-1],
    3: GREY[::-1, ::-1],
    4: GREY[::-1],
    5: GREY.T,
    6: np.rot90(GREY, -1),
    7: np.rot90(GREY, 2).T,
    8: np.rot90(GREY),
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("name", ["8 bits.png", "8 bits.tif", "8 bits.webp", "16 bits.png", "16 bits.tif"])
def test_pictures_of_every_kind_and_orientation_are_upright(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    values = GREY * np.uint16(257) if "16" in name else GREY
    Image.fromarray(values).save(tmp_path / name, exif=exif, **({"lossless": True} if "webp" in name else {}))
    reader = VideoReader(tmp_path)
    np.testing.assert_array_equal(next(iter(reader))[..., 0], TURNED[orientation])
    assert (reader.info.height, reader.info.width) == TURNED[orientation].shape


def test_the_hidden_colour_of_a_palette_is_not_shown(tmp_path):
    transparent_palette(tmp_path / "a.png")
    assert next(iter(VideoReader(tmp_path)))[0, 0].max() == 0


def bomb(path):
    Image.new("1", (20_000, 20_000)).save(path)


NO_IMAGES = {
    "floats beyond 1.tiff": (lambda p: cv(p, GREY.astype(np.float32)), "values outside"),
    "not a number.tiff": (lambda p: cv(p, np.full((4, 4), np.nan, np.float32)), "values outside"),
    "400 megapixels.png": (bomb, "more pixels than can be read"),
    "text.png": (lambda p: p.write_text("no picture"), "not an image"),
    "text.tiff": (lambda p: p.write_text("no picture"), "not an image"),
    "cut.png": (lambda p: (pil(p, COLOUR), p.write_bytes(p.read_bytes()[:-99])), "not an image"),
    "cut.jpg": (lambda p: (pil(p, COLOUR), p.write_bytes(p.read_bytes()[:-99])), "not an image"),
}


@pytest.mark.parametrize("name", NO_IMAGES)
def test_what_is_no_picture_is_one_sentence(tmp_path, name):
    write, sentence = NO_IMAGES[name]
    write(tmp_path / name)
    with pytest.raises(UserError, match=sentence) as caught:
        list(VideoReader(tmp_path))
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_that_may_not_be_read_is_one_sentence(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    with pytest.raises(UserError, match="cannot be read: Permission denied"):
        VideoReader(tmp_path)


def test_a_webp_keeps_loops_and_tells_alpha_and_damage(tmp_path):
    frames = [Image.fromarray(np.dstack([colour, ALPHA])) for colour in picture(5)]
    path = tmp_path / "a.webp"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[40, 40, 40, 40, 900], loop=3, lossless=True)
    reader = VideoReader(path)
    assert reader.info.plays == 3 and float(reader.info.duration) == 1.06
    assert "its transparent parts are shown over black" in reader.info.notes
    assert abs(next(iter(reader)) - SHOWN).max() <= 1
    path.write_bytes(path.read_bytes()[:-300])
    cut = VideoReader(path)
    assert "truncated" in cut.info.damage and len(list(cut)) == len(cut) == 4


@pytest.mark.parametrize("rate", [0, 1e-5, 1001, float("nan")])
def test_a_folder_is_read_at_rates_that_files_have_words_for(tmp_path, rate):
    cv(tmp_path / "0.png", COLOUR)
    with pytest.raises(UserError, match=r"0\.001 to 1000 frames per second, not at"):
        VideoReader(tmp_path, frame_rate=rate)
    assert VideoReader(tmp_path, frame_rate=0.001).info.duration == 1000
