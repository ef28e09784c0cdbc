"""What any frame ever showed is found again, and nothing else is."""

import numpy as np
import pytest

from gp_jax.flow.propagation import propagate


def panorama(x, y):
    """A smooth scene, [..., 3] in levels, at any place."""
    waves = np.stack([np.sin(x / 9 + y / 17), np.cos(y / 11 - x / 23), np.sin((x + y) / 13)], axis=-1)
    return 127.5 + 100 * waves


def pan(step, frames, height=12, width=40, hidden=10):
    """A camera that goes right by `step`, the outer columns hidden: frames, known, forward and backward flow, truth."""
    y, x = np.mgrid[:height, :width].astype(float)
    truth = np.stack([panorama(x + step * t, y) for t in range(frames)])
    known = np.zeros(truth.shape[:3], bool)
    known[:, :, hidden : width - hidden] = True
    forward = np.broadcast_to(np.float32((-step, 0)), (frames - 1, height, width, 2))
    truth = np.round(truth)
    return np.where(known[..., None], truth, 255).astype(np.uint8), known, forward, -forward, truth


@pytest.mark.parametrize("step", [3, -2, 1.5, -0.4, 0.15])
def test_a_pan_is_continued_wherever_a_frame_showed_the_place(step):
    frames, known, forward, backward, truth = pan(step, frames=20)
    made, filled, error = propagate(frames, known, forward, backward)
    x = np.arange(40)[None] + step * np.arange(20)[:, None]  # in the panorama
    first, last = min(0, 19 * step) + 10, max(0, 19 * step) + 29
    inner = (x >= first + 1) & (x <= last - 1)  # where a path was rounded it may miss the last pixel
    assert filled[np.broadcast_to(inner[:, None], known.shape) & ~known].all()
    assert not filled[np.broadcast_to(((x < first) | (x > last))[:, None], known.shape)].any()
    assert abs(made[filled] - truth[filled]).max() <= 1 and not error.any()
    np.testing.assert_array_equal(made[~filled], frames[~filled])


@pytest.mark.parametrize("step", [-2.7, 0.7, 1.7])
def test_no_crack_stays_between_what_is_shown_and_what_is_inherited(step):
    """Over many frames, rounded on the way to pixels that are known themselves or that saw half a pixel less."""
    frames, known, forward, backward, truth = pan(step, frames=40, width=120, hidden=40)
    made, filled, _ = propagate(frames, known, forward, backward)
    x = np.arange(120)[None] + step * np.arange(40)[:, None]
    inner = (x >= min(0, 39 * step) + 41) & (x <= max(0, 39 * step) + 78)
    inner = np.broadcast_to(inner[:, None], known.shape) & ~known
    assert filled[inner].all() and abs(made[inner] - truth[inner]).max() <= 1


def test_an_object_in_front_does_not_smear():
    """It is no part of the scene, and what it hides is shown before and after."""
    frames, known, forward, backward, truth = pan(2, frames=12)
    for time in range(12):
        at = np.s_[time, 3:9, 24 - time : 30 - time]
        frames[at], known[at] = 0, False
    made, filled, _ = propagate(frames, known, forward, backward)
    assert filled[:, :, 10:30].sum() == (~known[:, :, 10:30]).sum()
    assert abs(made[filled] - truth[filled]).max() <= 1


def test_the_better_of_two_candidates_counts():
    """Before and after show a place in another colour, and the flow to one of them does not come back."""
    frames = np.zeros((3, 4, 5, 1))
    frames[2] = 100
    known = np.ones((3, 4, 5), bool)
    known[1] = False
    still = np.zeros((2, 4, 5, 2), np.float32)
    alike, _, _ = propagate(frames, known, still, still)
    np.testing.assert_allclose(alike[1], 50)
    astray = still.copy()
    astray[1, ..., 0] = 0.25  # from the last frame back
    made, _, error = propagate(frames, known, still, astray)
    share = 1 / (1 + np.exp(-2.5))
    np.testing.assert_allclose(made[1], 100 * (1 - share), rtol=1e-5)
    np.testing.assert_allclose(error[1], 0.25 * (1 - share), rtol=1e-5)
    hopeless, _, _ = propagate(frames, known, still + 200, still + 200)
    assert not hopeless[1].any()  # nothing is beyond the frame


def dehan(frames, known, forward, backward):
    """Stage 5 as the paper has it, pixel by pixel."""
    total, height, width = known.shape
    candidates: dict = {}
    for direction, there, back in ((-1, backward, forward), (1, forward, backward)):
        sources: dict = {}
        for t in range(total)[::-direction]:
            pair = min(t, t + direction)
            if not 0 <= t + direction < total:
                continue
            for y, x in zip(*np.nonzero(~known[t])):
                flow = there[pair][y, x]
                u, v = x + flow[0], y + flow[1]
                i, j = int(np.floor(u + 0.5)), int(np.floor(v + 0.5))
                if not (0 <= i < width and 0 <= j < height):
                    continue
                error = abs(flow + bilinear(back[pair], u, v))
                if known[t + direction, j, i]:
                    sources[t, y, x] = t + direction, u, v, error
                elif (t + direction, j, i) in sources:
                    source, su, sv, worst = sources[t + direction, j, i]
                    sources[t, y, x] = source, su + u - i, sv + v - j, np.maximum(error, worst)
        for pixel, found in sources.items():
            candidates.setdefault(pixel, []).append(found)
    made = frames.astype(float)
    for pixel, found in candidates.items():
        weights = np.array([np.exp(-np.hypot(*error) / 0.1) for *_, error in found])
        colours = [bilinear(frames[t], u, v, known[t]) for t, u, v, _ in found]
        made[pixel] = np.average(colours, axis=0, weights=weights if weights.any() else None)
    return made, candidates


def bilinear(picture, x, y, counts=None):
    """At (x, y), of the pixels that count, or of all where none does; beyond the picture its border holds."""
    height, width = picture.shape[:2]
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    i, j = min(int(x), width - 2), min(int(y), height - 2)
    corners = [(j + b, i + a, (1 - abs(x - i - a)) * (1 - abs(y - j - b))) for a in (0, 1) for b in (0, 1)]
    if counts is not None and any(w > 0 and counts[b, a] for b, a, w in corners):
        corners = [corner for corner in corners if counts[corner[:2]]]
    return sum(w * picture[b, a] for b, a, w in corners) / sum(w for *_, w in corners)


def test_with_single_links_it_is_that_of_dehan():
    rng = np.random.default_rng(0)
    frames, known, forward, backward, _ = pan(1.3, frames=6, height=8, width=18, hidden=4)
    frames = frames / 255
    known &= rng.random(known.shape) < 0.8
    forward, backward = (flow + rng.normal(0, 0.2, flow.shape).astype(np.float32) for flow in (forward, backward))
    made, filled, _ = propagate(frames, known, forward, backward, links=1)
    expected, candidates = dehan(frames, known, forward, backward)
    assert set(zip(*np.nonzero(filled))) == set(candidates)
    np.testing.assert_allclose(made[filled], expected[filled], atol=1e-3)


def test_no_chain_is_longer_than_the_reach():
    frames, known, forward, backward, _ = pan(1, frames=12)
    frames[:] = np.arange(12)[:, None, None, None]
    _, near, _ = propagate(frames, known, forward, backward, reach=4, links=2)
    assert near[8, :, 6:10].all() and not near[8, :, :6].any()
    whole = propagate(frames, known, forward, backward, reach=3)
    part = propagate(frames[2:9], known[2:9], forward[2:8], backward[2:8], reach=3)
    for of_all, of_part in zip(whole, part):
        np.testing.assert_array_equal(of_all[5], of_part[3])
    some = propagate(frames, known, forward, backward, reach=3, wanted=range(5, 7))
    for of_all, of_some in zip(whole, some):
        np.testing.assert_array_equal(of_all[5:7], of_some)
