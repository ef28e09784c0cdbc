"""Scores videos on disk: pairs them up, reads them, and says of every number what it was measured on.

    pairs = pair_up("DAVIS/JPEGImages/480p", "outputs")     # two clips, or two folders of clips with the same names
    for score in measure(pairs, ["psnr", "fvd-videogpt"]):
        print(score)

Nothing is averaged away: a clip that is missing, damaged, or of another length or size than its reference stops the
comparison with its name, and a metric that a clip is too short or too small for has no number at all, only a note.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from gp_jax.errors import UserError
from gp_jax.metrics import METRICS
from gp_jax.metrics.metric import Mean, Metric, State
from gp_jax.video import VideoReader, resolve
from gp_jax.video.images import IMAGES

# What counts as a clip in a folder of clips; folders of images do too.
CLIPS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".ogv", ".gif", ".apng", ".webp"}

CHUNK = 16  # frames that go through a metric at once; one shape for all clips of a size, so nothing recompiles
FEW_CLIPS = 256  # below it FVD says that it is biased


@dataclasses.dataclass(frozen=True)
class Pair:
    """A clip and its reference."""

    name: str
    reference: Path
    generated: Path


@dataclasses.dataclass(frozen=True)
class Score:
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


# From the height and width of a frame to the regions to measure, by name: masks [H, W] that are 1 where a pixel counts.
Regions = Callable[[int, int], Mapping[str, np.ndarray]]


def whole(height: int, width: int) -> dict[str, np.ndarray]:
    """The only region where nothing is known of the source's place."""
    return {"whole": np.ones((height, width), np.float32)}


def pair_up(reference: str | Path, generated: str | Path) -> list[Pair]:
    """Two clips as one pair, or the clips of two folders by their names without suffix, sorted.

    Raises:
      UserError: one is a clip and the other a folder of clips, or a clip has no partner.
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


def clips_in(folder: Path) -> dict[str, Path]:
    """Clips by name; raises UserError where there is none, or where two have the same name."""
    clips: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and (path.is_dir() or path.suffix.lower() in CLIPS):
            name = path.name if path.is_dir() else path.stem
            if name in clips:
                raise UserError(f"{folder} has two clips of the name {name}: {clips[name].name} and {path.name}")
            clips[name] = path
    if not clips:
        raise UserError(f"{folder} holds no clip: neither videos nor folders of images")
    return clips


def measure(
    pairs: Iterable[Pair], metrics: Sequence[str], regions: Regions = whole, size: tuple[int, int] | None = None
) -> list[Score]:
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
    states: dict[tuple[str, str], State] = {}
    notes: dict[tuple[str, str], str] = {}
    clips, frames, sizes = 0, 0, set()
    for pair in pairs:
        reference, generated = read_pair(pair, size)
        height, width = reference.shape[1:3]
        clips, frames, sizes = clips + 1, frames + len(reference), sizes | {f"{width}x{height}"}
        for region, mask in regions(height, width).items():
            for name in metrics:
                metric, key = METRICS[name], (region, name)
                if problem := obstacle(metric, reference):
                    notes.setdefault(key, f"{pair.name} {problem}")
                elif key not in notes:
                    part = clip_state(metric, reference, generated, mask)
                    states[key] = metric.merge(states[key], part) if key in states else part
    resolution = sizes.pop() if len(sizes) == 1 else "mixed"
    return [
        conclude(METRICS[key[1]], key[0], states.get(key), notes.get(key, ""), resolution, clips, frames)
        for key in dict.fromkeys([*states, *notes])
    ]


def read_pair(pair: Pair, size: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Reference and generated clip, uint8 [T, H, W, 3] each; arguments and errors as for `measure`."""
    reference, generated = read_clip(pair.reference, size), read_clip(pair.generated, size)
    for what, a, b in (
        ("frames", len(reference), len(generated)),
        ("pixels", "{2}x{1}".format(*reference.shape), "{2}x{1}".format(*generated.shape)),
    ):
        if a != b:
            raise UserError(f"clip {pair.name}: {pair.generated} has {b} {what}, {pair.reference} has {a}")
    return reference, generated


def read_clip(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """A clip as uint8 [T, H, W, 3], scaled to (height, width) by area averaging, or cubic where that enlarges."""
    reader = VideoReader(path)
    if reader.info.damage:
        raise UserError(f"{reader.info.damage}: a damaged clip cannot be scored")
    height, width = size or (reader.info.height, reader.info.width)
    return np.stack([scale(frame, height, width) for frame in reader])


def scale(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """A frame [H, W, 3] uint8 at another size, by area averaging, or cubic where that enlarges."""
    if frame.shape[:2] == (height, width):
        return frame
    enlarges = height > frame.shape[0] or width > frame.shape[1]
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC if enlarges else cv2.INTER_AREA)


def obstacle(metric: Metric, clip: np.ndarray) -> str:
    """Why a clip [T, H, W, 3] has no number, or an empty string."""
    frames, height, width, _ = clip.shape
    if frames < metric.min_frames:
        return f"has {frames} frames, {metric.min_frames} are needed"
    if min(height, width) < metric.min_side:
        return f"is {width}x{height}, {metric.min_side} pixels are needed"
    return ""


def clip_state(metric: Metric, reference: np.ndarray, generated: np.ndarray, mask: np.ndarray) -> State:
    """The state of one clip, however long; arguments as for `frame_values`."""
    if metric.frames is None:
        return metric.state(reference[None], generated[None], mask)
    values = frame_values(metric, reference, generated, mask)
    return Mean(np.nansum(values), np.count_nonzero(~np.isnan(values)))


def frame_values(metric: Metric, reference: np.ndarray, generated: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The values of a metric along a clip.

    Args:
      metric: one that has `frames`.
      reference, generated: [T, H, W, 3] uint8.
      mask: [H, W], 1 where a pixel counts.

    Returns:
      [N] float64, NaN where a frame has nothing to measure; N = T, or T - 1 between neighbours, or 1 for the clip.
    """
    total = len(reference)
    chunk, overlap = (total, 0) if metric.reach is None else (CHUNK, metric.reach - 1)
    parts = []
    for start in range(0, total - overlap, chunk):
        # The last chunk is filled up with copies of the last frame, in which no pixel counts.
        index = np.arange(start, start + chunk + overlap)
        masks = mask * (index < total)[:, None, None]
        index = np.minimum(index, total - 1)
        values, measured = metric.frames(reference[None, index], generated[None, index], masks)
        parts.append(np.where(measured, np.asarray(values, np.float64), np.nan)[0])
    return np.concatenate(parts)[: total - overlap]


def conclude(
    metric: Metric, region: str, state: State | None, note: str, resolution: str, clips: int, frames: int
) -> Score:
    """The number of a set of clips from its state, or, where `note` says why there is none, no number."""
    value = math.nan if note else metric.compute(state)
    if not note and math.isnan(value):
        note = "needs more clips" if metric.name == "fvd" else "nothing to measure in this region"
    if not note and metric.name == "fvd" and clips < FEW_CLIPS:
        note = f"only {clips} clips: biased upwards, compare at equal N alone"
    return Score(
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
    # A folder of WebP files is a folder of clips, since they may be animated.
    return path.is_file() or any(file.suffix.lower() in IMAGES - {".webp"} for file in path.iterdir())
