"""What any frame shows of the scene is found again, objects are left out, and the rest is made up once."""

import cv2
import numpy as np
import pytest

from gp_jax.flow.estimate import flows
from gp_jax.geometry import Canvas
from gp_jax.methods.dehan.plugs import Plugs, completion_of, segmentation_of
from gp_jax.methods.dehan.stages import completed, outpaint, widened

HEIGHT, WIDTH, FRAMES = 48, 96, 12
CANVAS = Canvas(HEIGHT, WIDTH, 0, 24, HEIGHT, 48)
DIS = Plugs(flows, segmentation_of("homography"), completion_of("telea"))


def panned(step: float, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A camera that goes right by `step` pixels a frame, or left: uint8 [T, H, W, 3]."""
    rng = np.random.default_rng(0)
    first = max(0.0, -step * (FRAMES - 1))
    wide = width + int(abs(step) * FRAMES) + 1
    cells = rng.integers(30, 226, (height // 16 + 1, wide // 16 + 1, 3)).astype(np.float32)
    still = cv2.resize(cells, (wide, height), interpolation=cv2.INTER_CUBIC).clip(0, 255)
    places = [np.mgrid[:height, :width].astype(np.float32) for _ in range(FRAMES)]
    views = [cv2.remap(still, x + first + step * t, y, cv2.INTER_LINEAR) for t, (y, x) in enumerate(places)]
    return np.round(views).astype(np.uint8)


def of_camera(step: float):
    """A plug that knows the flow of a pan."""

    def known(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        there = np.zeros((len(frames) - 1, *frames.shape[1:3], 2), np.float32)
        there[..., 0] = -step
        return there, -there

    return known


def shown(step: float, hidden: np.ndarray | None = None) -> np.ndarray:
    """bool [T, H, W]: pixels beyond the source whose place, and two pixels around it, some frame shows.

    Args:
      step: of the camera.
      hidden: bool [T, H, Ws], what objects hide of the source; None for nothing.
    """
    visible = np.zeros((FRAMES, HEIGHT, WIDTH), np.float32)
    visible[(slice(None), *CANVAS.observed)] = 1 if hidden is None else ~hidden
    visible = np.stack([cv2.erode(frame, np.ones((5, 5)), borderValue=1) for frame in visible])
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    seen = np.zeros(visible.shape, bool)
    for time in range(FRAMES):
        for other in range(FRAMES):
            seen[time] |= cv2.remap(visible[other], columns + step * (time - other), rows, cv2.INTER_NEAREST) > 0
    seen[(slice(None), *CANVAS.observed)] = False
    return seen


def off(made: np.ndarray, film: np.ndarray) -> np.ndarray:
    """[T, H, W]: levels that a pixel is away from the truth."""
    return np.abs(made.astype(int) - film).max(axis=-1)


@pytest.mark.parametrize("step", [3, -3, 1.5, -2.5, 0.4, -0.3])
def test_a_pan_is_continued_to_within_a_level_where_any_frame_shows_the_place(step):
    film = panned(step)
    plugs = DIS._replace(flows=of_camera(step), segment=segmentation_of("none"))
    made = outpaint(film[(slice(None), *CANVAS.observed)], CANVAS, plugs)
    assert shown(step).any()
    assert off(made, film)[shown(step)].max() <= 1


@pytest.mark.parametrize("step", [3, -2.5])
def test_an_object_leaves_no_trace_beside(step):
    """It walks along the right border, moving otherwise than the scene, and is not what the sides are made of."""
    film = panned(step)
    source = film[(slice(None), *CANVAS.observed)].copy()
    objects = np.zeros(source.shape[:3], bool)
    for time in range(FRAMES):
        objects[time, 3 * time : 3 * time + 10, 34:] = True
    source[objects] = (255, 0, 255)
    plugs = DIS._replace(flows=of_camera(step), segment=lambda *_: objects)
    made = outpaint(source, CANVAS, plugs)
    seen = shown(step, widened(objects, 4))
    assert seen.mean() > 0.8 * shown(step).mean()
    assert off(made, film)[seen].max() <= 1
    purple = np.abs(made.astype(int) - (255, 0, 255)).sum(axis=-1) < 60
    assert not purple.any()


def test_with_flow_and_objects_estimated_an_object_leaves_hardly_a_trace():
    """It goes along with a camera that goes right, a bit slower, and so leaves the frame at its right border."""
    canvas = Canvas(96, 176, 0, 40, 96, 96)
    film = panned(3, 96, 176)
    source = film[(slice(None), *canvas.observed)].copy()
    noise = cv2.GaussianBlur(np.random.default_rng(5).integers(0, 256, (40, 30, 3), np.uint8), (0, 0), 1)
    thing = np.stack([np.full_like(noise[..., 0], 255), noise[..., 1] // 4, 255 - noise[..., 2] // 4], axis=-1)
    for time in range(FRAMES):
        source[time, 28:68, 70 + time :][:, :30] = thing[:, : 26 - time]

    def purple(name: str) -> int:
        made = outpaint(source, canvas, DIS._replace(segment=segmentation_of(name)))
        beyond = np.delete(made, np.arange(96) + 40, axis=2)
        return (np.abs(beyond.astype(int) - (255, 32, 223)).max(axis=-1) < 40).sum()

    assert purple("homography") < 0.02 * purple("none")


def test_all_sides_and_corners_are_filled_and_turned_clips_turn():
    step = 1.5
    film = panned(step)
    canvas = Canvas(HEIGHT, WIDTH, 8, 24, 32, 48)
    turned = Canvas(WIDTH, HEIGHT, 24, 8, 48, 32)
    source = film[(slice(None), *canvas.observed)]

    def down(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        there, back = of_camera(step)(frames.swapaxes(1, 2))
        return there.swapaxes(1, 2)[..., ::-1], back.swapaxes(1, 2)[..., ::-1]

    def grey(frame: np.ndarray, missing: np.ndarray, seen: Canvas) -> np.ndarray:
        return np.where(missing[..., None], np.uint8(128), frame)

    plugs = Plugs(of_camera(step), segmentation_of("none"), grey)
    made = outpaint(source, canvas, plugs)
    other = outpaint(source.swapaxes(1, 2), turned, plugs._replace(flows=down))
    assert np.abs(made.astype(int) - other.swapaxes(1, 2)).max() <= 1
    assert (made[:, 0] == 128).all()  # nobody ever sees what is above


def test_what_nobody_shows_is_made_up_in_the_frame_that_lacks_most_and_carried_to_the_others():
    frames = np.full((4, 20, 20, 3), 50, np.uint8)
    known = np.ones((4, 20, 20), bool)
    known[:, 5:10, 5:10] = False
    known[2, 5:12, 5:12] = False
    still, calls = np.zeros((3, 20, 20, 2), np.float32), []

    def complete(frame: np.ndarray, missing: np.ndarray, seen: Canvas) -> np.ndarray:
        calls.append(missing.sum())
        return np.where(missing[..., None], np.uint8(200), frame)

    made = completed(frames, known, still, still, complete, CANVAS)
    assert calls == [25]  # the ring that only one frame lacks is known to the others
    assert (made[~known & (np.indices(known.shape)[1:] < 10).all(axis=0)] == 200).all()
    assert (made[known] == 50).all() and (made[2, 10:12, 5:12] == 50).all()


def test_crumbs_are_made_up_in_each_frame():
    frames, calls = np.zeros((3, 100, 100, 3), np.uint8), []
    known = np.ones((3, 100, 100), bool)
    known[:, 50, 50] = False
    still = np.zeros((2, 100, 100, 2), np.float32)

    def complete(frame: np.ndarray, missing: np.ndarray, seen: Canvas) -> np.ndarray:
        calls.append(missing.sum())
        return frame

    completed(frames, known, still, still, complete, CANVAS)
    assert calls == [1, 1, 1]


def test_nothing_is_carried_over_a_cut():
    source = np.repeat(np.uint8([50, 200]), 4)[:, None, None, None] * np.ones((1, HEIGHT, 48, 3), np.uint8)
    made = outpaint(source, CANVAS, DIS)
    assert (abs(made[:4] - 50.0) < 10).all() and (abs(made[4:] - 200.0) < 10).all()


def test_a_first_frame_that_is_made_already_is_carried_on():
    source = np.repeat(panned(3)[:1, :, 24:72], 4, axis=0)
    before = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    plugs = DIS._replace(flows=of_camera(0), segment=segmentation_of("none"))
    made = outpaint(source, CANVAS, plugs, before)
    for frame in made:
        np.testing.assert_array_equal(frame[:, :24], before[:, :24])
        np.testing.assert_array_equal(frame[:, 72:], before[:, 72:])
        np.testing.assert_array_equal(frame[CANVAS.observed], source[0])
