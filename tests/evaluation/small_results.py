"""A finished evaluation in a folder, made up: two clips of a few small frames, and numbers that are easy to follow."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gp_jax.evaluation.results import MEAN, Manifest, Result, Results, Score, Timing, add_to_manifest, write_lines
from gp_jax.video import VideoWriter

CLIPS = {"a&b": 3, "bear": 3}
METHODS = ("edge", "globalpaint")
CASES = ("0.25", "0.66")
METRICS = {"psnr": ("mean of frames", "higher"), "lpips": ("alex", "lower"), "fvd": ("videogpt", "lower")}
FEW = "only 2 clips"


def number(index: int, case: str, clip: str) -> float:
    """Of every metric, for the method at that index: another one for every method, case and clip."""
    return 1.0 + index + 10 * CASES.index(case) + 100 * list(CLIPS).index(clip)


def write(folder: Path, methods: Sequence[str] = METHODS) -> Results:
    """The files of an evaluation; the frames are 16x16, all of one grey for each method."""
    results = Results(folder)
    manifest = Manifest(
        "m3ddm-256", "folder", "/clips", CLIPS, {name: {"from": "/outputs/motia"} for name in methods}, {"jax": "0"}
    )
    add_to_manifest(results, manifest)
    for clip, frames in CLIPS.items():
        _save(results.reference(clip), frames, 200)
    lines, scores, timings = [], [], []
    for index, method in enumerate(methods):
        for case in CASES:
            for clip, frames in CLIPS.items():
                _save(results.generated(method, case, clip), frames, 50 + 50 * index)
                value = number(index, case, clip)
                timings.append(Timing(method, case, clip, frames, 0.3, 2**20, "process", clip == "a&b"))
                lines += [
                    Result(method, case, clip, name, preset, region, "256x256", frames, value, [value, None, value])
                    for name, (preset, _) in METRICS.items()
                    for region in ("whole", "unknown")
                    if name != "fvd"
                ]
        for case in (*CASES, MEAN):
            values = [number(index, each, clip) for each in CASES for clip in CLIPS if case in (each, MEAN)]
            for region, (name, (preset, better)) in itertools.product(("whole", "unknown"), METRICS.items()):
                about = method, case, name, preset, better, region, "256x256", len(CLIPS), sum(CLIPS.values())
                scores.append(Score(*about, float(np.mean(values)), FEW if name == "fvd" else ""))
    write_lines(folder / "results.jsonl", lines)
    write_lines(folder / "scores.jsonl", scores)
    write_lines(folder / "timing.jsonl", timings)
    return results


def _save(folder: Path, frames: int, grey: int) -> None:
    if folder.is_dir():  # of a call with fewer methods
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(folder, 24) as writer:
        for _ in range(frames):
            writer.write(np.full((16, 16, 3), grey, np.uint8))
