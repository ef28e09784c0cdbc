"""Scores videos on disk: pairs them up, reads them, and says of every number what it was measured on.

    pairs = pair_up("DAVIS/JPEGImages/480p", "outputs")     # two clips, or two folders of clips with the same names
    for score in measure(pairs, ["psnr", "fvd-videogpt"]):
        print(score)

Clips are read a few frames at a time, so memory does not grow with their length (but for the metric `fvd`, whose
network looks at all frames of a clip at once).

Nothing is averaged away: a clip that is missing, damaged, or of another length or size than its reference stops the
comparison with its name, and a metric that a clip is too short or too small for has no number at all, only a note.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from gp_jax.errors import UserError
from gp_jax.metrics import METRICS
from gp_jax.metrics.metric import Mean, Metric, State
from gp_jax.video import resolve
from gp_jax.video.clips import CLIPS, ScaledClip, clips_in
from gp_jax.video.images import IMAGES

CHUNK = 16  # frames that go through a metric at once; one shape for all clips of a size, so nothing recompiles
FEW_CLIPS = 256  # below it FVD says that it is biased


@dataclasses.dataclass(frozen=True)
class Pair:
    """A clip and its reference."""

    name: str
    reference: Path
    generated: Path


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A number with all that it depends on; `value` is None where `note` says why there is none."""

    metric: str
    preset: str
    better: str
    region: str
    resolution: str
    clips: int
    frames: int
    value: float | None
    note: str = ""


class FrameSequence(Protocol):
    """Frames uint8 [H, W, 3] in the order of time, as often as one asks."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[np.ndarray]: ...


Key = tuple[str, str]  # region and metric

# From the height and width of a frame to the regions to measure, by name: masks [H, W] that are 1 where a pixel counts.
Regions = Callable[[int, int], Mapping[str, np.ndarray]]


def whole(height: int, width: int) -> dict[str, np.ndarray]:
    """The only region where nothing is known of the source's place."""
    return {"whole": np.ones((height, width), np.float32)}


def pair_up(reference: str | Path, generated: str | Path) -> list[Pair]:
    """Two clips as one pair, or the clips of two folders by their names without suffix, sorted.

    Raises:
      UserError: one is a clip and the other a folder of clips, one may be either, or a clip has no partner.
    """
    reference, generated = resolve(reference), resolve(generated)
    if _is_clip(reference) != _is_clip(generated):
        single, many = (reference, generated) if _is_clip(reference) else (generated, reference)
        raise UserError(f"{single} is one clip but {many} is a folder of clips: give two clips or two folders")
    if _is_clip(reference):
        return [Pair(generated.stem, reference, generated)]
    references, generateds = clips_in(reference), clips_in(generated)
    for folder, names in (
        (generated, references.keys() - generateds.keys()),
        (reference, generateds.keys() - references.keys()),
    ):
        if names:
            raise UserError(f"{folder} has no clip {', '.join(sorted(names))}: every clip needs its partner")
    return [Pair(name, references[name], generateds[name]) for name in sorted(references)]


def measure(
    pairs: Iterable[Pair], metrics: Sequence[str], regions: Regions = whole, size: tuple[int, int] | None = None
) -> list[Measurement]:
    """The numbers of a set of clips, by region and metric.

    Args:
      pairs: of `pair_up`.
      metrics: names of `METRICS`.
      regions: where to measure.
      size: (height, width) that all clips are scaled to; None compares them as they are.

    Raises:
      UserError: a clip cannot be read or does not match its reference, there is no such metric, or its weights were not
        fetched.
    """
    if unknown := set(metrics) - set(METRICS):
        raise UserError(f"there is no metric {sorted(unknown)[0]}: choose one of {', '.join(METRICS)}")
    states: dict[Key, State] = {}
    notes: dict[Key, str] = {}  # in the order of the result; empty where there is nothing to note
    clips, frames, sizes = 0, 0, set()
    for pair in pairs:
        reference, generated = open_pair(pair, size)
        height, width = reference.size
        clips, frames, sizes = clips + 1, frames + len(reference), sizes | {f"{width}x{height}"}
        wanted = {}
        for region, mask in regions(height, width).items():
            for name in metrics:
                metric, key = METRICS[name], (region, name)
                problem = metric.obstacle(len(reference), height, width)
                if not notes.get(key):
                    notes[key] = problem and f"{pair.name} {problem}"
                if not notes[key] and mask.any():
                    wanted[key] = metric, mask
        for key, part in clip_states(reference, generated, wanted).items():
            states[key] = METRICS[key[1]].merge(states[key], part) if key in states else part
    resolution = sizes.pop() if len(sizes) == 1 else "mixed"
    return [
        conclude(METRICS[key[1]], key[0], states.get(key), note, resolution, clips, frames)
        for key, note in notes.items()
    ]


def open_pair(pair: Pair, size: tuple[int, int] | None = None) -> tuple[ScaledClip, ScaledClip]:
    """Reference and generated clip, of one length and size; arguments and errors as for `measure`."""
    reference, generated = ScaledClip(pair.reference, size), ScaledClip(pair.generated, size)
    for what, a, b in (
        ("frames", len(reference), len(generated)),
        ("pixels", "{1}x{0}".format(*reference.size), "{1}x{0}".format(*generated.size)),
    ):
        if a != b:
            raise UserError(f"clip {pair.name}: {pair.generated} has {b} {what}, {pair.reference} has {a}")
    return reference, generated


def read_pair(pair: Pair, size: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Both clips of `open_pair` in memory, uint8 [T, H, W, 3] each."""
    reference, generated = (np.stack(list(clip)) for clip in open_pair(pair, size))
    return reference, generated


def clip_states(
    reference: FrameSequence, generated: FrameSequence, wanted: Mapping[Key, tuple[Metric, np.ndarray]]
) -> dict[Key, State]:
    """The states of one clip, however long, from one pass over it.

    Args:
      reference, generated: of one length.
      wanted: metrics and their masks [H, W], 1 where a pixel counts.
    """
    picked = {key: metric.pick(len(reference)) for key, (metric, _) in wanted.items() if metric.pick}
    parts: dict[Key, list] = {key: [] for key in wanted}
    for start, *window in windows(reference, generated):
        for key, (metric, mask) in wanted.items():
            if key in picked:
                here = [index - start for index in picked[key] if start <= index < start + CHUNK]
                parts[key].append([frames[here] for frames in window])
            else:
                parts[key].append(_window_values(metric, *window, mask=mask))
    states = {}
    for key, (metric, mask) in wanted.items():
        if key in picked:
            states[key] = metric.state(*(np.concatenate(frames)[None] for frames in zip(*parts[key])), mask)
        else:
            values = _join(metric, parts[key])
            states[key] = Mean(np.asarray(np.nansum(values)), np.asarray(np.count_nonzero(~np.isnan(values))))
    return states


def frame_values(metric: Metric, reference: FrameSequence, generated: FrameSequence, mask: np.ndarray) -> np.ndarray:
    """The values of a metric along a clip.

    Args:
      metric: one that has `frames`.
      reference, generated: of one length.
      mask: [H, W], 1 where a pixel counts.

    Returns:
      [N] float64, NaN where a frame has nothing to measure; N = T, or T - 1 between neighbours, or 1 for the clip.
    """
    return _join(metric, [_window_values(metric, *window, mask=mask) for _, *window in windows(reference, generated)])


def windows(reference: FrameSequence, generated: FrameSequence) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Every `CHUNK` frames of two clips and one more, which is the next window's first.

    Yields:
      (index of the first frame, reference, generated), uint8 [N, H, W, 3] each; at the end N may be smaller.
    """
    pairs, start, held = zip(reference, generated), 0, []
    while held := held + list(islice(pairs, CHUNK + 1 - len(held))):
        ours, theirs = zip(*held)
        yield start, np.stack(ours), np.stack(theirs)
        start, held = start + CHUNK, held[CHUNK:]


def _window_values(metric: Metric, reference: np.ndarray, generated: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The values that begin in the first `CHUNK` frames of a window, NaN where there is nothing to measure."""
    overlap = (metric.reach or 1) - 1
    frames = metric.parts[0] if metric.parts else metric.frames
    assert frames is not None
    # Filled up with copies of the last frame, in which no pixel counts: one shape for all windows.
    index = np.arange(CHUNK + overlap)
    masks = mask * (index < len(reference))[:, None, None]
    index = np.minimum(index, len(reference) - 1)
    values, measured = frames(reference[None, index], generated[None, index], masks)
    return np.where(measured, np.asarray(values, np.float64), np.nan)[0, : max(0, len(reference) - overlap)]


def _join(metric: Metric, windows: Sequence[np.ndarray]) -> np.ndarray:
    values = np.concatenate(windows)
    return metric.parts[1](values) if metric.parts else values


def conclude(
    metric: Metric, region: str, state: State | None, note: str, resolution: str, clips: int, frames: int
) -> Measurement:
    """The number of a set of clips from its state, or, where `note` says why there is none, no number.

    The state is None where no pixel was to be measured.
    """
    value = math.nan if note or state is None else metric.compute(state)
    if not note and math.isnan(value):
        note = "nothing to measure in this region" if state is None or metric.paired else "needs more clips"
    if not note and metric.name == "fvd" and clips < FEW_CLIPS:
        note = f"only {clips} clips: biased upwards, compare at equal N alone"
    return Measurement(
        metric.name,
        metric.preset,
        metric.better,
        region,
        resolution,
        clips,
        frames,
        None if math.isnan(value) else value,
        note,
    )


def _is_clip(path: Path) -> bool:
    if path.is_file():
        return True
    # A folder of WebP files is a folder of clips, since they may be animated.
    inside = [file for file in sorted(path.iterdir()) if not file.name.startswith(".")]
    pictures = [file for file in inside if file.suffix.lower() in IMAGES - {".webp"} and not file.is_dir()]
    clips = [file for file in inside if file.suffix.lower() in CLIPS - IMAGES or file.is_dir()]
    if pictures and clips:
        raise UserError(
            f"{path} has the picture {pictures[0].name} beside {clips[0].name}: give a folder of pictures, which is "
            "one clip, or one of clips"
        )
    return bool(pictures)
