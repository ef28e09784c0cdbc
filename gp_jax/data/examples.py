"""One clip and a random generator make one training example: a segment, a canvas, and what the vision tower sees.

    clip of 57 frames, T = 4, stride 7 drawn, first frame 20 drawn   -> frames 20, 27, 34, 41
    pace 2 drawn                                                     -> told to the model as 40, 54, 68, 82
    known = "ends"                                                   -> frames 40 and 82 count as complete
    canvas drawn: 30% unknown, at the right                          -> one for the whole segment
    F = 3 of the 57 frames drawn, their observed rectangle alone     -> views, at their places in canvas and clip
    G = 3 frames, 0, 28 and 56, as they are                          -> clip, of which 28 lies within the segment and
                                                                        shows the network its observed rectangle alone

The vision tower's frames come from all over the clip, as they do when a clip is outpainted, not from the segment.
"""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from PIL import Image

from gp_jax.data.clips import Clip
from gp_jax.data.config import DataConfig
from gp_jax.data.videos import VideoClip
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas, latent_mask, patch_positions, pixel_mask, sample_canvas

Example = dict[str, np.ndarray]


class Pictures(Protocol):
    """A clip of whatever else, which can be read in any order, as `Clip` and `VideoClip` can."""

    num_frames: int
    frame_rate: float

    def read(self, indices: Iterable[int]) -> np.ndarray:
        """[len(indices), H, W, 3] uint8."""
        ...


def make_example(
    clip: Clip | VideoClip | Pictures, size: tuple[int, int], rng: np.random.Generator, config: DataConfig
) -> Example:
    """An example with pixels (and views, where `config.feature_frames` is not 0).

    Args:
      clip: at least `config.segment_frames` frames.
      size: (height, width) that its frames must have.
      rng: all that is drawn comes from it.
      config: of the loader.

    Returns:
      frames [T] int32, known [T] bool, pixel_mask [H, W], latent_mask [h, w], pixels [T, H, W, 3] uint8, and views
      [F, S, S, 3] uint8, positions [F, P, 2], times [F], valid [F] bool. Where `config.global_frames` is not 0, clip
      [G, H, W, 3] uint8, clip_hidden [G] bool (see `hidden`), and rate [] float32, frames of the segment a second.

    Raises:
      UserError: the clip is too short, broken or of another size.
    """
    frames, told = sample_frames(rng, clip.num_frames, config)
    canvas = sample_canvas(rng, *size, config.ratio_range, config.directions)
    flip = config.flip and rng.random() < 0.5
    seen = draw_indices(rng, clip.num_frames, config.feature_frames)
    whole = np.linspace(0, clip.num_frames - 1, config.global_frames).astype(int)

    wanted = np.unique(np.concatenate([frames, seen, whole])).astype(int)
    pictures = clip.read(wanted)
    if pictures.shape[1:3] != size:
        raise UserError(f"its frames are {pictures.shape[2]}x{pictures.shape[1]}, not {size[1]}x{size[0]}")
    pictures = pictures[:, :, ::-1] if flip else pictures
    example = segment(rng, told, canvas, config) | {"pixels": pictures[np.searchsorted(wanted, frames)]}
    if config.feature_frames:
        views = observed_pictures(pictures[np.searchsorted(wanted, seen)], canvas, config.view_size)
        missing = config.feature_frames - len(seen)
        example["views"] = np.pad(views, ((0, missing), (0, 0), (0, 0), (0, 0)))
        example |= view_places(
            canvas, seen, clip.num_frames, config.feature_frames, config.view_size // config.view_patch
        )
    if config.global_frames:
        example |= {
            "clip": pictures[np.searchsorted(wanted, whole)],
            "clip_hidden": hidden(whole, frames, example["known"]),
            "rate": np.array(clip.frame_rate * (len(told) - 1) // (told[-1] - told[0]), np.float32),
        }
    return example


def sample_frames(rng: np.random.Generator, total: int, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
    """Indices [T] of a segment in a clip of `total` frames, and the frame numbers [T] that the model is told.

    Raises:
      UserError: the clip is shorter than a segment.
    """
    length = config.segment_frames
    if total < length:
        raise UserError(f"it has {total} frames, fewer than a segment's {length}")
    longest = (total - 1) // max(length - 1, 1)
    fitting = [stride for stride in config.strides if stride <= longest]
    stride = min(rng.choice(fitting if fitting and config.short == "fewer" else config.strides), longest)
    frames = rng.integers(total - stride * (length - 1)) + stride * np.arange(length)
    return frames, frames * rng.choice(config.paces)


def draw_indices(rng: np.random.Generator, total: int, count: int) -> np.ndarray:
    """[min(count, total)] different frames of a clip, increasing."""
    return np.sort(rng.choice(total, min(count, total), replace=False))


def segment(rng: np.random.Generator, told: np.ndarray, canvas: Canvas, config: DataConfig) -> Example:
    """What an example says of its segment beside the pictures: frames, known and the two masks."""
    return {
        "frames": told.astype(np.int32),
        "known": _KNOWN[config.known](rng, len(told)),
        "pixel_mask": pixel_mask(canvas),
        "latent_mask": latent_mask(canvas, config.downsampling),
    }


def _none(rng: np.random.Generator, length: int) -> np.ndarray:
    return np.zeros(length, bool)


def _ends(rng: np.random.Generator, length: int) -> np.ndarray:
    return np.isin(np.arange(length), (0, length - 1))


def _m3ddm(rng: np.random.Generator, length: int) -> np.ndarray:
    """As M3DDM+ trains (https://github.com/tamaki-lab/M3DDM-Plus, 20b4495)."""
    rule = rng.choice(3, p=(0.3, 0.35, 0.35))
    return (_none, _ends, lambda rng, length: rng.random(length) < 0.5)[rule](rng, length)


# Which frames of a segment count as complete.
_KNOWN = {"none": _none, "ends": _ends, "m3ddm": _m3ddm}


def hidden(whole: np.ndarray, frames: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Of which frames of the clip [G] only the canvas' source may be seen: those within the segment, whose unknown part
    is to be made, but for frames of it that are complete."""
    within = (frames[0] <= whole) & (whole <= frames[-1])
    return within & ~np.isin(whole, frames[known])


def observed_pictures(pictures: np.ndarray, canvas: Canvas, size: int) -> np.ndarray:
    """The observed rectangle of frames [N, H, W, 3], and nothing else, squeezed to [N, size, size, 3], all uint8."""
    rows, columns = canvas.observed
    views = [Image.fromarray(np.ascontiguousarray(picture[rows, columns])) for picture in pictures]
    return np.stack([np.asarray(view.resize((size, size), Image.Resampling.BICUBIC)) for view in views])


def view_places(canvas: Canvas, seen: np.ndarray, total: int, count: int, grid: int) -> Example:
    """Where the patches of `count` views lie, of which `seen` are valid: positions [F, P, 2], times [F], valid [F]."""
    positions = patch_positions(canvas, grid)
    times = np.zeros(count, np.float32)
    times[: len(seen)] = seen / max(total - 1, 1)
    return {
        "positions": np.broadcast_to(positions, (count, *positions.shape)),
        "times": times,
        "valid": np.arange(count) < len(seen),
    }
