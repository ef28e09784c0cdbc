"""Evaluation: a protocol, a data set, methods; out come numbers that others can compare with.

    outcome = evaluate(
        "results",
        protocol="m3ddm-256",
        dataset="davis",
        data="DAVIS",
        methods={"edge": METHODS["edge"](), "globalpaint": METHODS["globalpaint"](checkpoint="my_model")},
    )
    Results("results").scores()

Three steps, each of which leaves files (results.py) and skips what is there already: the true frames at the protocol's
size; what each method makes of each case; what is measured of it. So an evaluation that was killed goes on where it
was when it is started again, methods can be added to it later, and processes share it by taking every n-th clip each.
"""

import importlib.metadata
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple

from jax.sharding import Mesh

from gp_jax import __version__
from gp_jax.data.sources import Frames
from gp_jax.errors import UserError
from gp_jax.evaluation.assemble import assemble, is_complete
from gp_jax.evaluation.datasets import DATASETS, Readers
from gp_jax.evaluation.generate import generate, store_reference
from gp_jax.evaluation.methods import Method
from gp_jax.evaluation.protocols import PROTOCOLS
from gp_jax.evaluation.results import MEAN, REFERENCE, Manifest, Results
from gp_jax.evaluation.scoring import score, score_reference
from gp_jax.metrics import METRICS, weights
from gp_jax.parallel import use_mesh

PACKAGES = ("jax", "numpy", "opencv-python-headless", "av")  # that numbers depend on, beside this one

Progress = Callable[[int, int, str], None]


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
    methods: Mapping[str, Method],
    clips: Sequence[str] | None = None,
    frames: int | None = None,
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
      shard: (k, n) works on the k-th of every n clips. Who finishes last writes the lines and scores of all.
      mesh: spreads measuring over devices.
      progress: called with (pieces of work done, pieces in all, what is next).

    Raises:
      UserError: a name is unknown, the data set cannot be read, the weights of a metric were not fetched, or `output`
        holds another evaluation.
    """
    results, cases = Results(output), PROTOCOLS[protocol].cases
    for name in PROTOCOLS[protocol].metrics:
        if METRICS[name].weights:
            weights.load(METRICS[name].weights)
    readers = _choose(DATASETS[dataset](Path(data)), clips)
    lengths = {name: min(len(reader), frames or len(reader)) for name, reader in readers.items()}
    settings = {name: dict(method.settings) for name, method in methods.items()}
    _agree(results, Manifest(protocol, dataset, str(Path(data).resolve()), lengths, settings, _versions()))

    mine = list(islice(readers, shard[0], None, shard[1]))
    total, done = len(mine) * (1 + len(cases) * (1 + 2 * len(methods))), 0

    def step(label: str) -> None:
        nonlocal done
        progress(done, total, label)
        done += 1

    for clip in mine:
        step(f"reading {clip}")
        store_reference(results, clip, readers[clip], lengths[clip])
    for (name, method), case in product(methods.items(), cases):
        first = True
        for clip in mine:
            step(f"{name}: making {case}")
            if method.outpaint is not None and generate(results, name, method.outpaint, case, clip, first):
                first = False
    problems: dict[tuple[str, str], list[str]] = {}
    with use_mesh(mesh):
        for case, clip in product(cases, mine):
            step("measuring the truth")
            score_reference(results, case, clip)
        for name, case, clip in product(methods, cases, mine):
            step(f"{name}: measuring {case}")
            try:
                score(results, name, case, clip)
            except UserError as error:
                problems.setdefault((name, case), []).append(str(error))
    progress(total, total, "done")
    finished = shard[1] == 1 or is_complete(results)
    if finished:
        assemble(results, problems)
    return Outcome(finished, [sentence for sentences in problems.values() for sentence in sentences])


def _choose(readers: Readers, names: Sequence[str] | None) -> dict[str, Frames]:
    """Opens the clips that were asked for."""
    if unknown := set(names or ()) - set(readers):
        raise UserError(f"the data set has no clip {sorted(unknown)[0]}: it has {', '.join(readers)}")
    if dotted := [name for name in readers if "." in name]:
        raise UserError(f"clip {dotted[0]} has a dot within its name: rename it, since its results become a folder")
    return {name: open_clip() for name, open_clip in readers.items() if names is None or name in names}


def _agree(results: Results, manifest: Manifest) -> None:
    """Writes the manifest, joined with that of an evaluation of the same kind that lies there already."""
    if reserved := {MEAN, REFERENCE} & manifest.methods.keys():
        raise UserError(f"no method can have the name {reserved.pop()}: choose another")
    methods = {}
    if (results.folder / "manifest.json").is_file():
        there = results.manifest
        methods = dict(there.methods)
        for what in ("protocol", "dataset", "data", "clips"):
            if getattr(there, what) != getattr(manifest, what):
                raise UserError(f"{results.folder} holds an evaluation with another {what}: choose another folder")
        for name in methods.keys() & manifest.methods.keys():
            if methods[name] != json.loads(json.dumps(manifest.methods[name])):
                raise UserError(f"{results.folder} has results of {name} with other settings: choose another folder")
    elif results.folder.is_dir() and any(results.folder.iterdir()):
        raise UserError(f"{results.folder} is there already and holds no evaluation: choose another folder")
    results.write_manifest(replace(manifest, methods=methods | manifest.methods))


def _versions() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"gp_jax": __version__, "python": platform.python_version()} | versions
