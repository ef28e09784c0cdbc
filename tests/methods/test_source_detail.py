"""A soft side next to a sharp source of the same pattern gets the pattern, in place and steadily; all else stays."""

import types

import cv2
import numpy as np
import pytest

from gp_jax.geometry import Canvas
from gp_jax.jobs.estimate import rates_of_this_device
from gp_jax.methods.method import ArrayClip, Estimate
from gp_jax.methods.placement import Placement
from gp_jax.methods.source_detail import SourceDetailJob, with_detail

CANVAS = Canvas(80, 192, 0, 56, 80, 80)
NATIVE = CANVAS.resize(40, 96)


def scene(count=3):
    """uint8 [T, 80, 192, 3]: bands of colour, each with a texture of its own of two pixels' period."""
    rows, columns = np.mgrid[:80, :192]
    bands = np.array([60, 110, 160, 210])[rows // 20]
    texture = np.where(rows // 20 % 2, (-1) ** columns, (-1) ** rows) * np.array([10, 20, 30, 40])[rows // 20]
    return np.stack([np.repeat((bands + texture)[..., None], 3, axis=2).astype(np.uint8)] * count)


def softened(film):
    """What a network of half the size would make of it."""
    return np.stack([cv2.resize(cv2.resize(f, (96, 40), interpolation=cv2.INTER_AREA), (192, 80)) for f in film])


def soft(film):
    """The same of the sides, the source as it is."""
    made = softened(film)
    made[:, *CANVAS.observed] = film[:, *CANVAS.observed]
    return made


def coarse_job(canvas, native, film, made, trust=None, hidden=None):
    """A job on latents that has made `made` of a film; `trust` and `hidden` as seen.py tells them."""
    return types.SimpleNamespace(
        **{
            "canvas": canvas,
            "mesh": None,
            "total": 1,
            "journal": None,
            "rates": rates_of_this_device(),
            "is_complete": canvas.is_complete and trust is None,
            "channels": 3 if trust is None else 4,
        },
        clip=ArrayClip(film[:, *canvas.observed]),
        place=Placement.of(canvas, native, 1),
        estimate=Estimate(3, 1.0, 10),
        frames=lambda progress, pixels: (frame for frame, _ in zip(made, pixels)),
        pixels=lambda: (np.dstack([frame, *([] if trust is None else [trust])]) for frame in film),
        hidden=lambda indices: hidden,
        called=lambda call: call.function(*call.arguments, **call.static),
    )


def detailed(film, made, canvas=CANVAS, native=NATIVE, **seen):
    job = with_detail(coarse_job(canvas, native, film, made, **seen))
    return job, np.stack(list(job.frames()))


def test_the_sides_get_the_texture_of_what_they_look_like():
    film = scene()
    made = soft(film)
    job, frames = detailed(film, made)
    np.testing.assert_array_equal(frames[:, *CANVAS.observed], film[:, *CANVAS.observed])
    sides = np.r_[0:56, 136:192]

    def contrast(frames, band):
        """Of the texture, in the middle of a band."""
        return frames[:, 20 * band + 7 : 20 * band + 13, sides].astype(float).std(axis=(1, 2)).mean()

    for band in range(4):
        assert contrast(made, band) < 3 and contrast(frames, band) > 0.9 * contrast(film, band)
    assert job.estimate.evaluations == 3 and job.estimate.seconds > 1


def test_what_stands_still_does_not_flicker():
    """Noise that would change the choice from frame to frame does not."""
    film = scene(6)
    noisy = soft(film).astype(int) + np.random.default_rng(0).integers(-2, 3, (6, 80, 192, 3))
    _, frames = detailed(film, noisy.clip(0, 255).astype(np.uint8))
    steps = np.abs(np.diff(frames.astype(float), axis=0)).mean()
    assert steps < 1.5 * np.abs(np.diff(noisy.astype(float), axis=0)).mean()


def test_what_is_seen_of_a_frame_stays_wherever_it_lies():
    """Here a hole in the middle of the source, made soft; around it all is trusted but for a border that fades."""
    film, canvas = scene(), Canvas(80, 192, 0, 0, 80, 192)
    trust = np.full((80, 192), 255, np.uint8)
    trust[20:60, 60:130] = 0
    trust[20:60, 50:60] = 128
    made = np.where(trust[..., None] == 255, film, softened(film))
    hidden = np.repeat((trust < 255)[None], 3, axis=0)
    _, frames = detailed(film, made, canvas, canvas.resize(40, 96), trust=trust, hidden=hidden)
    np.testing.assert_array_equal(frames[:, trust == 255], film[:, trust == 255])
    for band in (1, 2):
        rows, columns = slice(20 * band + 7, 20 * band + 13), slice(66, 124)
        contrasts = [x[:, rows, columns].astype(float).std(axis=(1, 2)).mean() for x in (made, frames, film)]
        assert contrasts[0] < 3 and contrasts[1] > 0.8 * contrasts[2]


def test_nothing_is_taken_from_what_a_mask_hides():
    """Whatever stands there; of a source that is hidden all, nothing at all."""
    film, canvas = scene(), Canvas(80, 192, 0, 0, 80, 192)
    trust = np.full((80, 192), 255, np.uint8)
    trust[:, 40:150] = 0
    hidden = np.repeat((trust == 0)[None], 3, axis=0)
    made, native = np.where(trust[..., None] == 255, film, softened(film)), canvas.resize(40, 96)
    logo = np.where(hidden[..., None], np.random.default_rng(0).integers(0, 256, film.shape), film).astype(np.uint8)
    results = [detailed(source, made, canvas, native, trust=trust, hidden=hidden)[1] for source in (film, logo)]
    np.testing.assert_array_equal(*results)
    assert (results[0] != made).any()
    nothing = detailed(logo, made, canvas, native, trust=0 * trust, hidden=np.ones_like(hidden))[1]
    np.testing.assert_array_equal(nothing, made)


@pytest.mark.parametrize(
    "canvas, native, expected",
    [
        (CANVAS, NATIVE, True),
        (CANVAS, CANVAS, False),  # nothing is enlarged
        (Canvas(80, 80, 0, 0, 80, 80), Canvas(40, 40, 0, 0, 40, 40), False),  # nothing is made
        (Canvas(80, 192, 0, 56, 80, 12), Canvas(40, 96, 0, 28, 40, 6), False),  # no patch of the source is large enough
    ],
)
def test_where_there_is_nothing_to_add_nothing_is(canvas, native, expected):
    film = np.zeros((1, canvas.height, canvas.width, 3), np.uint8)
    job = coarse_job(canvas, native, film, film)
    assert isinstance(with_detail(job), SourceDetailJob) == expected
