"""From what was measured of single clips to the lines and scores of the whole evaluation.

All frames of all clips count alike. An output that is missing, damaged, short or of another size is never left out of
a mean: the scores of its method and case are empty then, and their note names it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product

import numpy as np

from gp_jax.evaluation.protocols import Protocol
from gp_jax.evaluation.results import (
    MEAN,
    REFERENCE,
    Entry,
    Manifest,
    Part,
    Result,
    Results,
    Score,
    Timing,
    write_lines,
)
from gp_jax.evaluation.scoring import REGIONS
from gp_jax.files import read_json
from gp_jax.metrics import METRICS
from gp_jax.metrics.frechet import FrechetState, feature_moments
from gp_jax.metrics.metric import Mean, Metric, State
from gp_jax.metrics.score import conclude

Parts = Mapping[str, Part | None]  # by clip


def assemble(results: Results) -> None:
    """Writes results.jsonl, scores.jsonl and timing.jsonl."""
    manifest, protocol = results.manifest, results.protocol
    truth = {case: _parts(results, manifest, REFERENCE, case) for case in protocol.cases}
    lines, scores, timings = [], [], []
    for method in manifest.methods:
        of_cases = []
        for case in protocol.cases:
            parts, bad = _parts(results, manifest, method, case), problems(results, method, case, manifest.clips)
            lines += _lines(method, case, protocol, manifest.clips, parts)
            of_cases.append(_scores(method, case, protocol, manifest.clips, parts, truth[case], bad))
            paths = (results.part("timing", method, case, clip) for clip in manifest.clips)
            timings += [Timing(**read_json(path)) for path in paths if path.is_file()]
        scores += [score for of_case in of_cases for score in of_case]
        scores += [mean(same) for same in zip(*of_cases, strict=True)]
    write_lines(results.folder / "results.jsonl", lines)
    write_lines(results.folder / "timing.jsonl", timings)
    write_lines(results.folder / "scores.jsonl", scores)


def problems(results: Results, method: str, case: str, clips: Iterable[str]) -> list[str]:
    """A sentence on each output of a method that was not measured, or could not be."""
    found = (results.read_part(method, case, clip) for clip in clips)
    return [problem for _, problem in found if problem]


def is_complete(results: Results) -> bool:
    """Whether somebody has come to all outputs of all methods, whatever the process found there."""
    manifest, cases = results.manifest, results.protocol.cases
    outputs = product((REFERENCE, *manifest.methods), cases, manifest.clips)
    return all(results.part("scores", *output).is_file() for output in outputs)


def mean(scores: Sequence[Score]) -> Score:
    """The mean of one score over all cases; empty where one of them is."""
    values = [score.value for score in scores if score.value is not None]
    notes = "; ".join(dict.fromkeys(score.note for score in scores if score.note))
    value = None if len(values) < len(scores) else math.fsum(values) / len(values)
    return replace(scores[0], case=MEAN, value=value, note=notes)


def _parts(results: Results, manifest: Manifest, method: str, case: str) -> Parts:
    return {clip: results.read_part(method, case, clip)[0] for clip in manifest.clips}


def _lines(method: str, case: str, protocol: Protocol, clips: Mapping[str, int], parts: Parts) -> Iterator[Result]:
    """A line for each clip, region and metric, but for metrics that compare sets; arguments as for `_scores`."""
    for clip, part in parts.items():
        for region, entries in (part or {}).items():
            for name, entry in entries.items():
                if "features" in entry:
                    continue
                metric, values = METRICS[name], entry.get("per_frame", [])
                counted = [value for value in values if value is not None]
                value = math.fsum(counted) / len(counted) if counted else None
                note = entry.get("note", "" if counted else "nothing to measure in this region")
                about = metric.name, metric.preset, region, _size(protocol), clips[clip]
                yield Result(method, case, clip, *about, value, values, note)


def _scores(
    method: str, case: str, protocol: Protocol, clips: Mapping[str, int], parts: Parts, truth: Parts, bad: Sequence[str]
) -> list[Score]:
    """The scores of a case, by region and metric.

    Args:
      method, case: names.
      clips: number of frames of each clip.
      parts: of the method's outputs; None for those that are `bad`.
      truth: of the true clips.
      bad: a sentence on each output that could not be measured.
    """
    scores = []
    for region, name in product(REGIONS, protocol.metrics):
        made, true = ([part[region].get(name, {}) for part in side.values() if part] for side in (parts, truth))
        notes = [*bad, *(f"{clip} {entry['note']}" for clip, entry in zip(clips, made) if not bad and "note" in entry)]
        state = None if notes else _state(METRICS[name], made, true)
        number = conclude(
            METRICS[name], region, state, "; ".join(notes), _size(protocol), len(clips), sum(clips.values())
        )
        scores.append(Score(method, case, **asdict(number)))
    return scores


def _state(metric: Metric, made: Sequence[Entry], true: Sequence[Entry]) -> State:
    """A metric's state over all clips, from what was kept of each."""
    if metric.frames is None:
        features = (np.array([entry["features"] for entry in side], np.float32) for side in (true, made))
        return FrechetState(*map(feature_moments, features))
    values = [value for entry in made for value in entry["per_frame"] if value is not None]
    return Mean(np.array(math.fsum(values)), np.array(len(values), np.float64))


def _size(protocol: Protocol) -> str:
    return f"{protocol.width}x{protocol.height}"
