"""Some frames of a clip, outpainted together: the stages of Dehan et al. (2022).

    1. flow                between neighbours, both ways
    2. objects             what stands before the scene, and a margin
    3. background          the scene without them: flow from their rim inwards, colours along the flow from frames
                           that show the place; what none shows is made up in the frame that lacks most, and carried
                           from there to the others, until nothing is missing
    4. flow beyond         of the background, from the border of the source outwards
    5. colours beyond      carried along it
    6. what is missing     made up and carried on, as in stage 3
    7. the source          with its objects, put into the middle

So what is new shows the scene only: an object that the border cuts is not continued. Published are sides that are made
one at a time; here all sides, and corners, are one frame, which is the same where no motion leads from one side to the
opposite one. Distances in pixels are those of frames 256 pixels high or more; lower ones have smaller margins. The
frames that a method of completion takes are as large as they are, not pieces of 512 pixels, which its GAN needed.
Nothing is carried over a cut.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import cv2
import numpy as np

from gp_jax.data.shots import changes, is_cut, thumbnails
from gp_jax.flow.extend import extended, harmonic
from gp_jax.flow.propagation import propagate
from gp_jax.geometry import Canvas, pixel_mask
from gp_jax.methods.dehan.plugs import Completion, Plugs

MARGIN, HOLE = 10, 8  # pixels around objects that count as objects; more of them that are not trusted as scene
HIGH = 256  # pixels, of frames with these margins
SMALL = 0.0004  # of a frame: if less is missing of all frames, it is made up in each of them
FAR = 1e5  # pixels, a flow that leads out of any frame
STAGES = "flow and objects", "background", "sides"


def outpaint(
    frames: np.ndarray,
    canvas: Canvas,
    plugs: Plugs,
    before: np.ndarray | None = None,
    at: Callable[[str], None] = lambda stage: None,
) -> np.ndarray:
    """Stages 1 to 6.

    Args:
      frames: uint8 [T, Hs, Ws, 3].
      canvas: the target frame.
      plugs: see there.
      before: uint8 [H, W, 3], the first frame as it was made already; None where nothing was.
      at: told the name of each of `STAGES` when it begins.

    Returns:
      uint8 [T, H, W, 3]; the observed rectangle shows the scene without its objects.
    """
    at(STAGES[0])
    forward, backward = plugs.flows(frames)
    if len(frames) > 1:
        cut = is_cut(changes(thumbnails(frames)))
        forward[cut] = backward[cut] = FAR
    unit = min(1.0, frames.shape[1] / HIGH)
    objects = widened(plugs.segment(frames, forward, backward), round(MARGIN * unit))
    holes = widened(objects, round(HOLE * unit))
    at(STAGES[1])
    # Both flows out of a frame, [T, Hs, Ws, 4]: what changes them depends on the frame's holes.
    both = np.concatenate([_padded(forward, after=1), _padded(backward, before=1)], axis=-1)
    with ThreadPoolExecutor() as pool:
        both = np.stack(list(pool.map(harmonic, both, holes)))
    whole = Canvas(canvas.source_height, canvas.source_width, 0, 0, canvas.source_height, canvas.source_width)
    scene = completed(frames, ~holes, *_parted(both), plugs.complete, whole)
    at(STAGES[2])
    wide = np.pad(scene, ((0, 0), *canvas.pads, (0, 0)), mode="edge")
    unknown = pixel_mask(canvas) > 0
    known = np.repeat(~unknown[None], len(frames), axis=0)
    if before is not None:
        wide[0][unknown] = before[unknown]
        known[0] = True
    with ThreadPoolExecutor() as pool:
        both = np.stack(list(pool.map(extended, both, ~holes, repeat(canvas))))
    return completed(wide, known, *_parted(both), plugs.complete, canvas)


def completed(
    frames: np.ndarray, known: np.ndarray, forward: np.ndarray, backward: np.ndarray, complete: Completion, seen: Canvas
) -> np.ndarray:
    """Carries what is known to where it is missing; what is left is made up frame by frame, and carried on.

    Args:
      frames: uint8 [T, H, W, 3], read where known.
      known: bool [T, H, W].
      forward, backward: [T - 1, H, W, 2] float32, flow between neighbours.
      complete, seen: see `Completion`.

    Returns:
      uint8 [T, H, W, 3], known pixels as they are.
    """
    while not known.all():
        frames, filled, _ = propagate(frames, known, forward, backward, reach=len(frames))
        known = known | filled
        while not known.all():
            most = known.sum(axis=(1, 2)).argmin()
            frames[most] = complete(frames[most], ~known[most], seen)
            known[most] = True
            if (~known).sum() > SMALL * known[0].size:
                break
    return frames


def widened(masks: np.ndarray, margin: int) -> np.ndarray:
    """bool [T, H, W], grown by so many pixels on all sides."""
    kernel = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
    return np.stack([cv2.dilate(mask.astype(np.uint8), kernel) for mask in masks]) > 0


def _padded(flow: np.ndarray, before: int = 0, after: int = 0) -> np.ndarray:
    return np.pad(flow, ((before, after), (0, 0), (0, 0), (0, 0)))


def _parted(both: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[T, H, W, 4] flows out of frames: [T - 1, H, W, 2] from each to the next, and back."""
    return np.ascontiguousarray(both[:-1, ..., :2]), np.ascontiguousarray(both[1:, ..., 2:])
