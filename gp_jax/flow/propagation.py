"""What one frame lacks and another shows, carried over along the flow.

    frames, filled, error = propagate(frames, known, forward, backward)

Stage 5 of Dehan et al. (2022, "Complete and temporally consistent video outpainting"). A missing pixel p looks at
q = p + flow(p) in the frame before:

    known there            its source is q, between the pixels
    has a source itself    p has the same, shifted by what rounding q to a pixel left out
    neither                p stays missing

So a frame asks its neighbour alone, and work does not grow with the frames that content is carried over. The same is
done from the other end, where a frame looks at the one after, so that a pixel has up to two candidates. The error of a
candidate is the largest difference, right and down each, between flow there and back (warp.py) on its way, and
candidates weigh exp(-|error| / 0.1): nearly all that counts is the better one.

That is `links=1`, and three things of it are mended by more. Where a camera pans by less than half a pixel a frame, q
always rounds to p itself, and nothing is ever found: so a pixel follows its path over some frames, between the pixels,
before it asks who is there. What rounds to a known pixel may lie half a pixel beyond it: so a place counts as known
where all four pixels around it are. And where the pixel that is asked has no source, or one that is shown there but not
so after the shift, the others around q are asked.

A chain has at most `reach` frames, so that a frame depends on as many neighbours at each side, and a long clip can be
worked on in windows.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np

from gp_jax.flow.warp import difference, sampled

REACH = 64  # frames that content is carried over at most: the error of a path grows with its length
LINKS = 8  # frames that a path is followed over before it is rounded
SOFTNESS = 0.1  # pixels of error that cost a candidate a factor e
SLACK = 0.05  # of unknown pixels, in what counts as wholly known: a whole step is never quite whole
ROW = 1024


def propagate(
    frames: np.ndarray,
    known: np.ndarray,
    forward: np.ndarray,
    backward: np.ndarray,
    reach: int = REACH,
    links: int = LINKS,
    wanted: range | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fills what is missing with what other frames show there.

    Args:
      frames: [T, H, W, C] uint8 or float, read where known.
      known: [T, H, W] bool.
      forward, backward: [T - 1, H, W, 2] float32, the flow between neighbours as `estimate.flows` gives it, also where
        pixels are missing.
      reach: frames that content is carried over at most.
      links: frames that a path is followed over before it is rounded; 1 as Dehan et al. do.
      wanted: frames that are asked for, of N; None for all.

    Returns, of the wanted ones:
      frames [N, H, W, C] of the same type, changed where filled alone; filled [N, H, W] bool; error [N, H, W] float32,
      pixels, weighted as the colours are, 0 where nothing was filled.
    """
    wanted = range(len(frames)) if wanted is None else wanted
    past = islice(chains(known, backward, forward, reach, links), wanted.start, wanted.stop)
    # Time turned back: what came after a frame comes before it.
    later = chains(known[::-1], forward[::-1], backward[::-1], reach, links)
    future = list(islice(later, len(frames) - wanted.stop, len(frames) - wanted.start))
    result = frames[wanted.start : wanted.stop].copy()
    filled, errors = np.zeros(result.shape[:3], bool), np.zeros(result.shape[:3], np.float32)
    for time, before in enumerate(past):
        after = future.pop()
        after = after._replace(source=len(frames) - 1 - after.source)
        pixels, source, place, error = map(np.concatenate, zip(before, after))
        length = np.hypot(*error.T)
        weight = np.exp(-length / SOFTNESS)
        weight = np.where(_sums(pixels, weight, known[0].size)[pixels] > 0, weight, 1)  # alike where they vanish
        share = weight / _sums(pixels, weight, known[0].size)[pixels]
        filled[time].reshape(-1)[pixels] = True
        errors[time] = _sums(pixels, share * length, known[0].size).reshape(known.shape[1:])
        colours = colours_at(frames, known, source, place).T
        seen = filled[time].ravel()
        made = np.stack([_sums(pixels, share * colour, seen.size)[seen] for colour in colours], axis=-1)
        result[time][filled[time]] = np.round(made) if frames.dtype == np.uint8 else made
    return result, filled, errors


class Chain(NamedTuple):
    """Where N missing pixels of a frame come from."""

    pixels: np.ndarray  # [N] int, their indices in the flattened frame
    source: np.ndarray  # [N] int, the frame that shows them
    place: np.ndarray  # [N, 2] float32, (x, y) there
    error: np.ndarray  # [N, 2] float32, the largest on the way, right and down


def chains(known: np.ndarray, there: np.ndarray, back: np.ndarray, reach: int, links: int) -> Iterator[Chain]:
    """For each frame what it has of those before it.

    Args:
      known: [T, H, W] bool.
      there, back: [T - 1, H, W, 2] float32, the flow from frame t + 1 to t, and the one in return.
      reach, links: see `propagate`.
    """
    width = known.shape[2]
    links = min(links, reach)
    steps: deque[np.ndarray] = deque(maxlen=links)  # flow and error out of the frames before, the last one first
    whole: deque[tuple[np.ndarray, ...]] = deque(maxlen=links)  # source, place and error of their pixels; -1 is none
    for time, missing in enumerate(~known):
        if time:
            astray = np.abs(difference(there[time - 1], back[time - 1]))
            steps.appendleft(np.concatenate([there[time - 1], astray], axis=-1))
        pixels = np.flatnonzero(missing).astype(np.int32)
        place = np.stack([pixels % width, pixels // width], axis=-1).astype(np.float32)
        error, found = np.zeros_like(place), [_nothing()]
        for distance, step in enumerate(steps, 1):
            moved = _at(step, place)
            place, error = place + moved[:, :2], np.maximum(error, moved[:, 2:])
            shown = _shows(known[time - distance], place, rounded=links == 1)
            source = np.full(len(pixels), time - distance, np.int32)
            found.append(Chain(*(x[shown] for x in (pixels, source, place, error))))
            pixels, place, error = (x[~shown] for x in (pixels, place, error))
        if len(whole) == links:
            path, oldest = (pixels, place, error), max(time - reach, 0)
            found.append(_inherited(path, whole[-1], known, oldest, rounded=links == 1))
        chain = Chain(*map(np.concatenate, zip(*found)))
        sources, places, errors = np.full(missing.size, -1, np.int32), *np.zeros((2, missing.size, 2), np.float32)
        sources[chain.pixels], places[chain.pixels], errors[chain.pixels] = chain[1:]
        whole.appendleft((sources, places, errors))
        yield chain


def _inherited(
    path: tuple[np.ndarray, ...], theirs: tuple[np.ndarray, ...], known: np.ndarray, oldest: int, *, rounded: bool
) -> Chain:
    """What paths have of the pixels where they end.

    A path between the pixels has four of them around it. It asks the nearest first, and another one where that one is
    known itself, so that it has no source, or where its source, shifted, would lie beyond what is known there: else
    cracks stay between what is shown and what is inherited.

    Args:
      path: pixels [N], place [N, 2] and error [N, 2].
      theirs: source [P], place and error [P, 2] of the frame where the paths end.
      known: [T, H, W] bool.
      oldest: frame that content may come from.
      rounded: whether the nearest pixel alone is asked.
    """
    height, width = known.shape[1:]
    found = [_nothing()]
    # Most paths lead to where nobody has anything: those are not asked one by one.
    anything = cv2.dilate((theirs[0] >= oldest).astype(np.uint8).reshape(height, width), np.ones((3, 3), np.uint8))
    near = _shows(anything > 0, np.clip(path[1], 0, (width - 1, height - 1)), rounded=True)
    path = tuple(x[near] for x in path)
    # The last time the nearest is asked again, and what it has is good enough.
    for turn, offset in enumerate([(0, 0)] if rounded else [(0, 0), (1, 0), (0, 1), (1, 1), (0, 0)]):
        pixels, place, error = path
        nearest = np.floor(place + 0.5).astype(np.int32)
        asked = nearest + np.where(place < nearest, -1, 1) * np.array(offset, np.int32)
        inside = ((asked >= 0) & (asked < (width, height))).all(axis=-1)
        at = np.where(inside, asked[:, 1] * width + asked[:, 0], 0)
        has = np.flatnonzero(inside & (theirs[0][at] >= oldest))
        source, start, worst = (x[at[has]] for x in theirs)
        start = start + (place[has] - asked[has]).astype(np.float32)
        if not rounded and turn < 4:
            shown = _share_known(known, source, start) > 1 - SLACK
            has = has[shown]
            source, start, worst = (x[shown] for x in (source, start, worst))
        found.append(Chain(pixels[has], source, start, np.maximum(error[has], worst)))
        path = tuple(np.delete(x, has, axis=0) for x in path)
    return Chain(*map(np.concatenate, zip(*found)))


def _nothing() -> Chain:
    return Chain(*np.zeros((2, 0), np.int32), *np.zeros((2, 0, 2), np.float32))


def _shows(known: np.ndarray, place: np.ndarray, *, rounded: bool) -> np.ndarray:
    """[N] bool: places [N, 2] that round to a known pixel, or else have but known ones around them."""
    if not rounded:
        return _at(known.astype(np.float32), place, borderMode=cv2.BORDER_CONSTANT) > 1 - SLACK
    height, width = known.shape
    x, y = np.floor(place + 0.5).astype(np.int64).T
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    return inside & known[np.where(inside, y, 0), np.where(inside, x, 0)]


def _share_known(known: np.ndarray, source: np.ndarray, place: np.ndarray) -> np.ndarray:
    """[N]: how much of what bilinear sampling of places of a `Chain` takes is known; 0 beyond the frame."""
    inside = ((place >= 0) & (place <= (known.shape[2] - 1, known.shape[1] - 1))).all(axis=-1)
    return inside * np.sum([share * known.ravel()[at] for at, share in _corners(known.shape, source, place)], axis=0)


def _at(picture: np.ndarray, places: np.ndarray, borderMode: int = cv2.BORDER_REPLICATE) -> np.ndarray:
    """A picture [H, W, ...] at places [N, 2]: [N, ...]."""
    rows = -(-len(places) // ROW) or 1  # OpenCV has images no longer than 32,767 pixels a side
    grid = np.zeros((rows * ROW, 2), np.float32)
    grid[: len(places)] = places
    values = sampled(picture, grid.reshape(rows, ROW, 2), borderMode=borderMode)
    return values.reshape(rows * ROW, *picture.shape[2:])[: len(places)]


def colours_at(frames: np.ndarray, known: np.ndarray, source: np.ndarray, place: np.ndarray) -> np.ndarray:
    """[N, C] float32: `frames` at places of a `Chain`, bilinearly of the pixels that are known.

    Beyond the frame its border holds; where none of the four pixels is known, all of them count.
    """
    flat, is_known = frames.reshape(-1, frames.shape[-1]), known.ravel()
    colours = np.zeros((2, len(source), frames.shape[-1]), np.float32)
    weights = np.zeros((2, len(source), 1), np.float32)
    for at, share in _corners(known.shape, source, place):
        for which, weight in enumerate((share * is_known[at], share)):
            colours[which] += weight[:, None] * flat[at]
            weights[which] += weight[:, None]
    return np.where(weights[0] > 0, colours[0] / np.maximum(weights[0], 1e-9), colours[1] / weights[1])


def _corners(shape: tuple[int, ...], source: np.ndarray, place: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The four pixels around places of a `Chain` in frames [T, H, W]: index in all of them, and share, [N] each."""
    height, width = shape[1:]
    place = np.clip(place, 0, (width - 1, height - 1))
    corner = np.minimum(place.astype(np.int32), (max(width - 2, 0), max(height - 2, 0)))
    part = place - corner
    first = (source.astype(np.int64) * height + corner[:, 1]) * width + corner[:, 0]
    for down in range(min(2, height)):
        for right in range(min(2, width)):
            share = np.abs(1 - right - part[:, 0]) * np.abs(1 - down - part[:, 1])
            yield first + down * width + right, share


def _sums(pixels: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """[size] float64: the values that fall on each pixel, added up."""
    return np.bincount(pixels, values, minlength=size)
