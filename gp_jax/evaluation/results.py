"""What an evaluation leaves in its folder, and how to read it.

    OUTPUT/manifest.json                          the protocol, the clips, the methods with their settings, versions
    OUTPUT/reference/CLIP/000000.png ...          the true frames, at the protocol's size
    OUTPUT/generated/METHOD/CASE/CLIP/000000.png  what a method made of a case; lossless, since it is measured
    OUTPUT/results.jsonl                          a `Result` per line: one clip, one metric, one region, all its frames
    OUTPUT/scores.jsonl                           a `Score` per line: the same over all clips
    OUTPUT/timing.jsonl                           a `Timing` per line
    OUTPUT/parts/                                 what is known of single clips, from which the lines are assembled

A case is one rectangle of a protocol, such as the quarter "0.25". The case "mean" in the scores is the mean over all
cases, which is what papers print. Outputs of other systems stay where they are; the manifest says where.

    results = Results("davis-m3ddm-256")
    results.manifest.methods                                       -> {"edge": {...}, "globalpaint": {...}}
    [s.value for s in results.scores() if s.metric == "psnr" and s.case == "mean" and s.region == "unknown"]
    VideoReader(results.generated("edge", "0.25", "bear"))

Everything appears whole (gp_jax/files.py), so that a killed evaluation leaves no half of a file.
"""

import contextlib
import dataclasses
import glob
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gp_jax.errors import UserError
from gp_jax.evaluation.protocols import PROTOCOLS, Protocol
from gp_jax.files import locked, read_json, write_json, write_text
from gp_jax.video.clips import CLIPS

MEAN = "mean"  # the case that stands for all of a protocol's cases
REFERENCE = "reference"  # in the place of a method: the truth

# {"per_frame": [...]}, {"features": [...]}, or {"note": "why there is nothing"}.
Entry = Mapping[str, Any]
Part = Mapping[str, Mapping[str, Entry]]  # by region and metric


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What was asked for.

    Attributes:
      protocol: a name in `PROTOCOLS`.
      dataset, data: kind of data set and the folder that it was read from.
      clips: number of frames by name, in the order of the data set.
      methods: by name, the settings that determine what a method makes; "folder" among them where another system did.
      versions: of the packages that numbers depend on.
      metrics: that are measured; empty for the protocol's.
      note: what whoever asked for it says of the numbers; it stands below them everywhere.
    """

    protocol: str
    dataset: str
    data: str
    clips: Mapping[str, int]
    methods: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]
    metrics: Sequence[str] = ()
    note: str = ""

    @property
    def data_name(self) -> str:
        """The data folder's own name: tables and reports are passed on, and say nothing of where it lay."""
        return Path(self.data).name


@dataclasses.dataclass(frozen=True)
class Result:
    """One metric of one clip. `value` is the mean of `per_frame`, None where `note` says why there is none.

    `per_frame` has an entry per frame, or per pair of neighbours where the metric is about those; None where a frame
    has nothing to measure.
    """

    method: str
    case: str
    clip: str
    metric: str
    preset: str
    region: str  # "whole" or "unknown"
    resolution: str  # WIDTHxHEIGHT
    frames: int
    value: float | None
    per_frame: list[float | None]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Score:
    """One metric over all clips, all their frames alike; `value` is None where `note` says why there is none."""

    method: str
    case: str  # of the protocol, or `MEAN`
    metric: str
    preset: str
    better: str  # "higher" or "lower"
    region: str
    resolution: str
    clips: int
    frames: int
    value: float | None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Timing:
    """What one clip cost: seconds of wall time for all its frames, and the highest memory use meanwhile; of clips that
    were made together its share of the seconds, by frames.

    `first` marks the clips that a method began a case with, or the last and smaller number of clips made
    together: their time includes compilation.
    """

    method: str
    case: str
    clip: str
    frames: int
    seconds: float
    peak_memory: int  # bytes
    memory_of: str  # "device", or "process" where devices do not count theirs
    first: bool


class Results:
    """The folder of an evaluation."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    @property
    def manifest(self) -> Manifest:
        """What was asked for; raises UserError where the folder holds no evaluation."""
        path = self.folder / "manifest.json"
        values = read_json(path)
        try:
            manifest = Manifest(**values)
        except TypeError:  # a field too many or too few
            raise UserError(f"{path} is not of an evaluation: choose another folder") from None
        if manifest.protocol not in tuple(PROTOCOLS):  # whatever stands there may not be hashable
            raise UserError(f"{path} names a protocol that this version has not: choose another folder")
        return manifest

    @property
    def protocol(self) -> Protocol:
        """With the metrics that were asked for."""
        manifest = self.manifest
        protocol = PROTOCOLS[manifest.protocol]
        return dataclasses.replace(protocol, metrics=tuple(manifest.metrics) or protocol.metrics)

    def reference(self, clip: str) -> Path:
        """Where the true frames of a clip lie."""
        return self.folder / REFERENCE / clip

    def generated(self, method: str, case: str, clip: str) -> Path | None:
        """Where a method's frames lie, a folder or a video file; None where another system left none."""
        manifest = self.manifest
        if "folder" not in manifest.methods[method]:
            return self.folder / "generated" / method / case / clip
        outputs = Path(manifest.methods[method]["folder"])
        if len(PROTOCOLS[manifest.protocol].cases) > 1 or (outputs / case).is_dir():
            outputs = outputs / case
        files = (path for path in sorted(outputs.glob(f"{glob.escape(clip)}.*")) if path.stem == clip)
        videos = [path for path in files if path.suffix.lower() in CLIPS]
        return outputs / clip if (outputs / clip).is_dir() else next(iter(videos), None)

    def part(self, kind: str, method: str, case: str, clip: str) -> Path:
        """Where the JSON object with the "scores" or the "timing" of one clip lies."""
        return self.folder / "parts" / kind / method / case / f"{clip}.json"

    def read_part(self, method: str, case: str, clip: str) -> tuple[Part | None, str]:
        """What was measured of a clip; or None and a sentence on why there is nothing."""
        path = self.part("scores", method, case, clip)
        if not path.is_file():
            return None, f"clip {clip} was not measured"
        kept = read_json(path)
        return kept.get("part"), kept.get("problem", "")

    def results(self) -> list[Result]:
        return read_lines(self.folder / "results.jsonl", Result)

    def scores(self) -> list[Score]:
        return read_lines(self.folder / "scores.jsonl", Score)

    def timings(self) -> list[Timing]:
        return read_lines(self.folder / "timing.jsonl", Timing)


@contextlib.contextmanager
def claimed(results: Results, shard: tuple[int, int]) -> Iterator[None]:
    """Keeps a second program out of the same work; the shards of one evaluation share its folder."""
    with contextlib.ExitStack() as locks:
        locks.enter_context(locked(results.folder, shared=shard[1] > 1))
        if shard[1] > 1:
            locks.enter_context(locked(results.folder, "shard-{}-of-{}".format(*shard)))
        yield


def check_manifest(results: Results, manifest: Manifest) -> None:
    """Raises UserError where the folder holds another evaluation, or something else."""
    folder = results.folder
    if not (folder / "manifest.json").is_file():
        if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise UserError(f"{folder} is there already and holds no evaluation: choose another folder")
        return
    there, now = dataclasses.asdict(results.manifest), json.loads(json.dumps(dataclasses.asdict(manifest)))
    for what in ("protocol", "dataset", "data", "clips", "metrics"):
        if there[what] != now[what]:
            told = _difference(there[what], now[what], what)
            raise UserError(f"{folder} holds an evaluation with {told}: repeat that, or choose another folder")
    for name in there["methods"].keys() & now["methods"].keys():
        if there["methods"][name] != now["methods"][name]:
            told = _difference(there["methods"][name], now["methods"][name], "settings")
            raise UserError(f"{folder} has results of {name} with {told}: repeat that, or choose another folder")


def add_to_manifest(results: Results, manifest: Manifest) -> None:
    """Writes the manifest, joined with that of an evaluation of the same kind that lies there; one program at a time.

    Raises:
      UserError: as `check_manifest`.
    """
    with locked(results.folder, "manifest", wait=True):
        check_manifest(results, manifest)
        there = results.manifest if (results.folder / "manifest.json").is_file() else manifest
        methods = {**there.methods, **manifest.methods}
        joined = dataclasses.replace(manifest, methods=methods, note=manifest.note or there.note)
        write_json(results.folder / "manifest.json", dataclasses.asdict(joined))


def _difference(there: Any, now: Any, what: str) -> str:
    """How two values differ, in the first of their entries where they are mappings."""
    if isinstance(there, dict):
        key = next(key for key in {**there, **now} if there.get(key) != now.get(key))
        there, now = there.get(key, "nothing"), now.get(key, "nothing")
        return f"other {what} ({key}: {there} there, {now} now)"
    return f"another {what} ({there}, now {now})"


Row = TypeVar("Row")


def read_lines(path: Path, kind: type[Row]) -> list[Row]:
    """The rows of a file of JSON lines; raises UserError where it is missing or holds something else."""
    try:
        return [kind(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    """Writes dataclasses as JSON lines."""
    write_text(path, "".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in rows))
