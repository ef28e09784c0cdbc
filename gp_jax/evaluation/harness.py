"""Evaluation: a protocol, a data set, methods; out come numbers that others can compare with.

    outcome = evaluate(
        "results",
        protocol="m3ddm-256",
        dataset="davis",
        data="DAVIS",
        methods={"edge": Contender(load("edge")), "mine": Contender(load("globalpaint", "my_model"), Options(steps=8))},
    )
    Results("results").scores()

Three steps, each of which leaves files (results.py) and skips what is there already: the true frames at the protocol's
size; what each method makes of each case; what is measured of it. So an evaluation that was killed goes on where it
was when it is started again, methods can be added to it later, and processes share it by taking every n-th clip each.
"""

import difflib
import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from gp_jax import __version__
from gp_jax.data.sources import Frames
from gp_jax.errors import UserError
from gp_jax.evaluation.assemble import assemble, is_complete, problems
from gp_jax.evaluation.datasets import DATASETS, Readers
from gp_jax.evaluation.generate import generate, is_made, store_reference
from gp_jax.evaluation.protocols import PROTOCOLS
from gp_jax.evaluation.results import MEAN, REFERENCE, Manifest, Results, add_to_manifest, check_manifest, claimed
from gp_jax.evaluation.scoring import score, score_reference
from gp_jax.files import is_name
from gp_jax.geometry import Canvas
from gp_jax.methods.method import ArrayClip, Method
from gp_jax.methods.together import Together, apart
from gp_jax.metrics import METRICS
from gp_jax.parallel import use_mesh
from gp_jax.published import weights

PACKAGES = ("jax", "numpy", "opencv-python-headless", "av")  # that numbers depend on, beside this one

CHANGING = ("overlap", "mask", "path", "stabilize")  # options by which observed pixels don't come back as they are
MOST_BYTES = 10**9  # of frames that are made together and held

Progress = Callable[[int, int, str], None]


class Contender:
    """A method that takes part, and what is asked of it.

    Args:
      method: of the registry.
      options: an instance of `method.Options`; None for its defaults.
    """

    def __init__(self, method: Method, options: Any = None):
        self.method, self.options = method, method.Options() if options is None else options

    @property
    def works(self) -> bool:
        """Whether it makes frames, and not another system did."""
        return self.method.outputs is None

    def at_once(self, frames: int, canvas: Canvas) -> int:
        """How many clips, of so many frames each, are best made together, and are held in memory."""
        fit = MOST_BYTES // (3 * canvas.height * canvas.width * frames)
        return max(1, min(fit, self.method.side_by_side(self.options)))

    def outpaint(self, sources: Sequence[np.ndarray], canvas: Canvas) -> list[np.ndarray]:
        """From the observed rectangle of each clip, uint8 [T, Hs, Ws, 3], to the frame, uint8 [T, H, W, 3]; of several
        clips at most `at_once`."""
        clips = list(map(ArrayClip, sources))
        frames = self.method.prepare(Together(clips) if len(clips) > 1 else clips[0], canvas, self.options).frames()
        return apart(frames, clips)

    def check(self, frames: int, canvas: Canvas) -> None:
        """Raises UserError where a clip of so many frames cannot be outpainted to a canvas as it is."""
        if asked := [name for name in CHANGING if getattr(self.options, name, None)]:
            raise UserError(
                f"{asked[0]} changes pixels of the source, and methods are compared by what they make around it: leave "
                "it out"
            )
        if self.works:
            source = np.broadcast_to(np.uint8(0), (frames, canvas.source_height, canvas.source_width, 3))
            self.method.prepare(ArrayClip(source), canvas, self.options)


class Outcome(NamedTuple):
    """How an evaluation ended.

    Attributes:
      finished: whether lines and scores were written; not while other shards are at work.
      problems: a sentence on each output that could not be measured; the scores of its method and case are empty.
    """

    finished: bool
    problems: list[str]


def evaluate(
    output: str | Path,
    *,
    protocol: str,
    dataset: str,
    data: str | Path,
    methods: Mapping[str, Contender],
    clips: Sequence[str] | None = None,
    frames: int | None = None,
    metrics: Sequence[str] = (),
    note: str = "",
    shard: tuple[int, int] = (0, 1),
    mesh: Mesh | None = None,
    progress: Progress = lambda done, total, label: None,
) -> Outcome:
    """Evaluates, or goes on with an evaluation.

    Args:
      output: the folder for everything; see results.py.
      protocol: a name in `PROTOCOLS`.
      dataset, data: a name in `DATASETS` and its folder.
      methods: by the name that they have in the results.
      clips: names of those to take; all by default.
      frames: take only so many from the beginning of each clip.
      metrics: names of `METRICS`; the protocol's by default.
      note: a sentence that is to stand below the numbers; by default the one that `output` has, if it has one.
      shard: (k, n) works on the k-th of every n clips. Who finishes last writes the lines and scores of all.
      mesh: spreads measuring over devices.
      progress: called with (pieces of work done, pieces in all, what is next).

    Raises:
      UserError: a name is unknown, the data set cannot be read, the weights of a metric were not fetched, a method can
        not do this, or `output` holds another evaluation; nothing was written then. Or another program is at it.
    """
    readers = open_clips(protocol, dataset, data, clips, metrics)
    results, cases = Results(output), PROTOCOLS[protocol].cases
    lengths = {name: min(len(reader), frames or len(reader)) for name, reader in readers.items()}
    if bad := [name for name in methods if not is_name(name) or name in (MEAN, REFERENCE)]:
        raise UserError(f"no method can have the name {bad[0]!r}: choose another")
    settings = {name: dict(one.method.settings(one.options)) for name, one in methods.items()}
    manifest = Manifest(
        protocol, dataset, str(Path(data).resolve()), lengths, settings, _versions(), list(metrics), note
    )
    check_manifest(results, manifest)
    for contender, canvas in product(methods.values(), cases.values()):
        contender.check(max(lengths.values()), canvas)
    with claimed(results, shard):
        add_to_manifest(results, manifest)
        _work(results, methods, readers, shard, mesh, progress)
        finished = shard[1] == 1 or is_complete(results)
        if finished:
            assemble(results)
    seen = list(readers) if finished else list(islice(readers, shard[0], None, shard[1]))
    outputs = product(methods, cases)
    return Outcome(finished, [problem for output in outputs for problem in problems(results, *output, seen)])


def _work(
    results: Results,
    methods: Mapping[str, Contender],
    readers: Mapping[str, Frames],
    shard: tuple[int, int],
    mesh: Mesh | None,
    progress: Progress,
) -> None:
    """Makes and measures what is not there already of this shard; arguments as for `evaluate`."""
    cases, clips = results.protocol.cases, list(islice(readers, shard[0], None, shard[1]))
    total, done = len(clips) * (1 + len(cases) * (1 + 2 * len(methods))), 0

    def step(label: str) -> None:
        nonlocal done
        progress(done, total, label)
        done += 1

    for clip in clips:
        step(f"reading {clip}")
        store_reference(results, clip, readers[clip])
    for (name, contender), case in product(methods.items(), cases):
        missing = [clip for clip in clips if contender.works and not is_made(results, name, case, clip)]
        done += len(clips) - len(missing)
        size = contender.at_once(max(results.manifest.clips.values()), cases[case])
        for begin in range(0, len(missing), size):
            group = missing[begin : begin + size]
            step(f"{name}: making {case}")
            generate(results, name, contender.outpaint, case, group, first=begin == 0 or len(group) < size)
            done += len(group) - 1
    with use_mesh(mesh):
        for case, clip in product(cases, clips):
            step("measuring the truth")
            score_reference(results, case, clip)
        for name, case, clip in product(methods, cases, clips):
            step(f"{name}: measuring {case}")
            score(results, name, case, clip)
    progress(total, total, "done")


def open_clips(
    protocol: str, dataset: str, data: str | Path, clips: Sequence[str] | None = None, metrics: Sequence[str] = ()
) -> dict[str, Frames]:
    """All that an evaluation needs to be there, looked for before its work: metric weights, and clips by name.

    Arguments are those of `evaluate`.

    Raises:
      UserError: a name is unknown, the data set cannot be read, or the weights of a metric were not fetched.
    """
    for what, name, table in (("protocol", protocol, PROTOCOLS), ("data set", dataset, DATASETS)):
        if name not in table:
            raise UserError(f"there is no {what} {name}: choose of {', '.join(table)}")
    readers = _choose(DATASETS[dataset](Path(data)), clips)
    for name in metrics or PROTOCOLS[protocol].metrics:
        if name not in METRICS:
            raise UserError(f"there is no metric {name}: choose of {', '.join(METRICS)}")
        if needed := METRICS[name].weights:
            weights.load(needed)
    return readers


def _choose(readers: Readers, names: Sequence[str] | None) -> dict[str, Frames]:
    """Opens the clips that were asked for."""
    for name in names or ():
        if name not in readers:
            like = difflib.get_close_matches(name, readers) or list(readers)[:3]
            raise UserError(f"the data set has no clip {name}: it has {len(readers)}, {', '.join(like)} among them")
    for name in readers if names is None else names:
        if not is_name(name) or "." in name:
            raise UserError(f"clip {name!r} must be named anew, without dots and slashes: its results become a folder")
    return {name: open_clip() for name, open_clip in readers.items() if names is None or name in names}


def _versions() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"gp_jax": __version__, "python": platform.python_version()} | versions
