"""Outpainting without a model: what other frames have seen is carried over along the motion of the camera.

When the camera pans, what lies beyond the border of one frame lies inside another. So each unknown pixel's path through
the clip is followed, into the past and into the future, and where it first enters the observed rectangle its colour is
taken. This is flow-guided propagation (Xu et al. 2019, "Deep flow-guided video inpainting", arXiv 1905.02884), with a
flow that needs no training:

  1. flow between neighbouring frames on the observed rectangle (gp_jax/flow/estimate.py);
  2. the camera's motion as a similarity that most of that flow agrees with, which holds beyond the rectangle; what the
     flow differs from it at the border fades out there (gp_jax/flow/camera.py);
  3. what moves otherwise by a pixel or more stands before the scene, and is not carried over;
  4. chains of that flow, into both directions of time (gp_jax/flow/propagation.py).

What no frame has seen is filled in by TELEA's inpainting, frame by frame: a fixed camera leaves all to it.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import cv2
import numpy as np

from gp_jax.flow.camera import carried_on, residual, similarity
from gp_jax.flow.estimate import flows
from gp_jax.flow.propagation import REACH, propagate
from gp_jax.flow.warp import check_size, difference
from gp_jax.geometry import Canvas, pixel_mask

RADIUS = 3  # of TELEA's inpainting, in pixels
ASTRAY = 1.0  # pixels that an object goes otherwise than the camera takes it
MARGIN = 0.02  # of the source's shorter side, around an object, that is not carried over either
WORST = 2.0  # pixels of error with which content is still worth more than TELEA's
SURE, USELESS = 2.0, 4.0  # pixels of error up to which it is trusted wholly, and from which on not at all
FEATHER = 0.03  # of the source's shorter side, within which trust falls to nothing at the border of what is carried
MEMORY = 2**30  # bytes that frames and flows take at most; what is larger is carried over fewer frames
BYTES_PER_PIXEL = 56  # of the canvas, for each frame that is held: two flows, the frame, chains, and copies of these


def outpaint(source: Iterable[np.ndarray], canvas: Canvas) -> Iterator[np.ndarray]:
    """Outpaints a clip.

    Args:
      source: uint8 [Hs, Ws, 3], the observed rectangle, frame by frame.
      canvas: the target frame.

    Yields:
      uint8 [H, W, 3], observed pixels exactly those of `source`.
    """
    missing = pixel_mask(canvas) > 0
    for frame, filled, error in seen_elsewhere(source, canvas):
        gap = missing & ~(filled & (error < WORST))
        yield cv2.inpaint(frame, gap.astype(np.uint8), RADIUS, cv2.INPAINT_TELEA) if gap.any() else frame


def seen_elsewhere(
    source: Iterable[np.ndarray], canvas: Canvas, places: Sequence[Canvas] | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What other frames show of the canvas' unknown region, by windows of the clip.

    Args:
      source, canvas: as for `outpaint`.
      places: of each frame its own canvas, of that size, where the source moves within it.

    Yields:
      frame, filled and error of `propagate`, of the whole canvas; where it is observed nothing is filled, and where it
      is not, the border is repeated if nothing is.
    """
    length = reach(canvas)
    shown = zip(source, itertools.repeat(canvas) if places is None else places)
    held_at: list[Canvas] = []  # where the source lies in the frames that are held
    # Types are told because a checker would go round and round in the loop for them.
    frames: np.ndarray = np.zeros((0, canvas.height, canvas.width, 3), np.uint8)
    known: np.ndarray = np.zeros(frames.shape[:3], bool)
    there: np.ndarray
    back: np.ndarray
    there, back = np.zeros((2, 0, *known.shape[1:], 2), np.float32)
    at: int = 0  # of the first frame that is not made yet
    while True:
        # One frame more than is looked at, since of the last one only the flow back is known.
        if fresh := list(islice(shown, at + 2 * length + 1 - len(frames))):
            last = max(len(frames) - 1, 0)
            held_at += [place for _, place in fresh]
            padded = [np.pad(frame, (*place.pads, (0, 0)), mode="edge") for frame, place in fresh]
            frames = np.concatenate([frames, padded])
            forward, backward, scene = camera_flows(frames[last:], held_at[last:])
            there, back = np.concatenate([there, forward]), np.concatenate([back, backward])
            known = np.concatenate([known, [pixel_mask(place) == 0 for _, place in fresh]])
            for time, (place, still) in enumerate(zip(held_at[last:], scene), last):
                known[time][place.observed] &= still
        if at == len(frames):
            return
        wanted = range(at, min(at + length, len(frames)))
        made = propagate(frames, known, there, back, length, wanted=wanted)
        for own, place, frame, filled, error in zip(frames[at:], held_at[at:], *made):
            observed = pixel_mask(place) == 0
            # What an object hides is of no interest here.
            yield np.where(observed[..., None], own, frame), filled & ~observed, error
        past: int = max(wanted.stop - length, 0)
        frames, held_at, known, there, back = frames[past:], held_at[past:], known[past:], there[past:], back[past:]
        at = wanted.stop - past


def carried(
    source: Iterable[np.ndarray], canvas: Canvas, places: Sequence[Canvas] | None = None
) -> Iterator[np.ndarray]:
    """What other frames show, and how far it can be trusted; for methods that make the rest themselves.

    Args:
      source, canvas, places: as for `seen_elsewhere`.

    Yields:
      uint8 [H, W, 4]: colours, those of the source where it is observed, and trust, from 0 to 255. It falls with the
      error, and to 0 at the border of what is carried, but for the border of the source.
    """
    width = 2 * max(1, round(FEATHER * min(canvas.source_height, canvas.source_width))) + 1
    at = itertools.repeat(canvas) if places is None else places
    for place, (frame, filled, error) in zip(at, seen_elsewhere(source, canvas, places)):
        observed = pixel_mask(place) == 0
        trust = np.where(filled, np.clip((USELESS - error) / (USELESS - SURE), 0, 1), 0).astype(np.float32)
        trust[observed] = 1
        inner = np.clip(2 * cv2.blur(trust, (width, width), borderType=cv2.BORDER_REPLICATE) - 1, 0, 1)
        trust = np.where(observed, 1, np.minimum(trust, inner))
        yield np.dstack([frame, np.round(255 * trust).astype(np.uint8)])


def reach(canvas: Canvas) -> int:
    """Frames that content is carried over at most; three times as many are held."""
    return max(1, min(REACH, MEMORY // (3 * BYTES_PER_PIXEL * canvas.height * canvas.width)))


def held(canvas: Canvas, frames: int) -> int:
    """Bytes that `outpaint` takes for a clip of so many frames; raises UserError where frames are too large for it."""
    check_size(canvas.height, canvas.width)
    return BYTES_PER_PIXEL * canvas.height * canvas.width * min(frames, 3 * reach(canvas))


def camera_flows(frames: np.ndarray, places: Sequence[Canvas]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flow of the whole canvas between neighbours, and what belongs to the scene.

    Args:
      frames: uint8 [T, H, W, 3], read where observed.
      places: T canvases of one size, in each of which the source lies where it lies in its frame.

    Returns:
      forward and backward of `flows`, [T - 1, H, W, 2], and bool [T, Hs, Ws], False where an object is.
    """
    source = np.stack([frame[place.observed] for frame, place in zip(frames, places)])
    forward, backward = flows(source)
    there, back = np.zeros((2, len(forward), *frames.shape[1:3], 2), np.float32)
    astray = np.zeros(source.shape[:3], bool)
    for pair, (one, other) in enumerate(zip(forward, backward)):
        after = pair + 1
        for time, to, whole, flow, returned in ((pair, after, there, one, other), (after, pair, back, other, one)):
            # A pixel that does not come back was hidden, or its flow is wrong.
            camera = similarity(flow, np.square(difference(flow, returned)).sum(axis=-1) < 1)
            moves = places[to].left - places[time].left, places[to].top - places[time].top
            whole[pair] = carried_on(flow, camera, places[time]) + np.array(moves, np.float32)
            astray[time] |= residual(flow, camera) > ASTRAY
    width = 2 * max(1, round(MARGIN * min(source.shape[1:3]))) + 1
    around = np.ones((width, width), np.uint8)
    scene = [cv2.dilate(frame.astype(np.uint8), around) == 0 for frame in astray]
    return there, back, np.array(scene).reshape(astray.shape)
