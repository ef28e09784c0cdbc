"""The ablation: what each part of the model brings, and what it costs.

    arms = {"baseline": ["a/"], "est": ["b/"], "global-tokens": ["c/"], "sequential": ["c/"]}
    table, problems = ablate("results", arms, seeds=(0, 1, 2), protocol="m3ddm-256", dataset="davis", data="DAVIS")

An arm is one or more trained checkpoints and a plan. Every checkpoint is run with every seed, through the harness, so
an ablation that was killed goes on where it was, and arms can be added. An arm's number is the mean over its runs; the
interval is Student's t at 95%, over checkpoints where an arm has several (the noise of training), else over seeds (the
noise of sampling). Arms with as many checkpoints are also compared run by run, the first checkpoint of one with the
first of the other: trained with the same seeds they saw the same data, and what that does to both cancels.
"""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jax.sharding import Mesh
from scipy import stats

from gp_jax.checkpoint.components import CONFIG_FILE
from gp_jax.checkpoint.folder import find_checkpoint
from gp_jax.errors import UserError
from gp_jax.evaluation.harness import Contender, evaluate
from gp_jax.evaluation.published import PUBLISHED_ABLATION, SOURCE
from gp_jax.evaluation.results import MEAN, Results
from gp_jax.evaluation.summary import COLUMNS, REGIONS, notes
from gp_jax.evaluation.table import Cell, Change, Column, Interval, Section, Table, comma_separated, markdown
from gp_jax.files import read_json, write_text
from gp_jax.methods.globalpaint.cost import ProgramCost, program_cost
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.methods.options import Count, Seed
from gp_jax.methods.registry import load
from gp_jax.models.unet import UNetConfig
from gp_jax.seeds import check_seed

METRICS = ("psnr", "ssim", "lpips", "fvd")
COSTS = (
    Column("params (M)", 1, "lower"),
    Column("GFLOP/frame", 1, "lower"),
    Column("memory (MiB)", 0, "lower"),
    Column("s/frame", 3, "lower"),
)
NOTE = (
    "Runs: checkpoints x seeds. ±: 95% by Student's t over checkpoints, or over seeds where there is one checkpoint. "
    "GFLOP and memory: of the denoising network's program. Seconds: of everything, median over the clips."
)


class Arm(NamedTuple):
    """What an arm's checkpoints have to have, and how they are run."""

    windows: bool  # 3D windowed attention
    tokens: bool  # global tokens
    plan: str = "hierarchical"


# In the order of the table. The last two share their checkpoints.
ARMS = {
    "baseline": Arm(windows=False, tokens=False),
    "est": Arm(windows=True, tokens=False),
    "global-tokens": Arm(windows=True, tokens=True),
    "hierarchical": Arm(windows=True, tokens=True),
    "sequential": Arm(windows=True, tokens=True, plan="sequential"),
}


class Trial(NamedTuple):
    """One way through the harness; arms that agree in it share it."""

    checkpoint: Path
    plan: str
    seed: int


def ablate(
    output: str | Path,
    arms: Mapping[str, Sequence[str | Path]],
    *,
    seeds: Sequence[int] = (0,),
    steps: int | None = None,
    mesh: Mesh | None = None,
    **data: Any,
) -> tuple[Table, list[str]]:
    """Runs the arms, or goes on with them.

    Args:
      output: the folder for everything, as for `evaluate`; holds ablation.md and ablation.csv at the end.
      arms: by names of `ARMS`, their checkpoints: folders, or models of this package.
      seeds: of the sampling.
      steps: denoising steps; None for each checkpoint's own.
      mesh: the devices.
      **data: protocol, dataset, data, clips, frames and progress of `harness.evaluate`.

    Returns:
      The table, and a sentence on each output that could not be measured.

    Raises:
      UserError: there is no such arm or checkpoint, a checkpoint has not what its arm is about, or as for `evaluate`.
    """
    if unknown := set(arms) - set(ARMS):
        raise UserError(f"there is no arm {sorted(unknown)[0]}: choose of {', '.join(ARMS)}")
    folders = {name: [_check(name, checkpoint) for checkpoint in arms[name]] for name in ARMS if name in arms}
    for name, checkpoints in folders.items():
        if len({folder.resolve() for folder in checkpoints}) < len(checkpoints):
            raise UserError(f"arm {name}: a checkpoint is given twice, and its interval would be 0: give each once")
    runs = name_runs(folders, seeds)
    wanted = None if steps is None else Count(steps)
    methods = {
        name: Contender(
            load("globalpaint", run.checkpoint, mesh=mesh), Options(seed=Seed(run.seed), steps=wanted, plan=run.plan)
        )
        for run, name in runs.items()
    }
    problems = evaluate(output, methods=methods, mesh=mesh, **data).problems

    results = Results(output)
    canvas = next(iter(results.protocol.cases.values()))
    frames = round(statistics.median(results.manifest.clips.values()))
    costs = {}
    for arm, (folder, *_) in folders.items():
        pipeline = OutpaintPipeline.from_pretrained(folder, mesh=mesh)
        costs[arm] = program_cost(pipeline, canvas, frames, plan=ARMS[arm].plan, steps=steps)
    table = tabulate(results, folders, runs, seeds, costs)
    for name, text in (("ablation.md", markdown(table)), ("ablation.csv", comma_separated(table))):
        write_text(results.folder / name, text)
    return table, problems


def name_runs(folders: Mapping[str, Sequence[Path]], seeds: Sequence[int]) -> dict[Trial, str]:
    """Each run once, under the name of the first arm that needs it: `est-seed1`, or `est-2-seed1` of the second
    checkpoint."""
    runs: dict[Trial, str] = {}
    for arm, checkpoints in folders.items():
        for (number, folder), seed in itertools.product(enumerate(checkpoints, 1), seeds):
            part = f"-{number}" if len(checkpoints) > 1 else ""
            runs.setdefault(Trial(folder, ARMS[arm].plan, check_seed(seed)), f"{arm}{part}-seed{seed}")
    return runs


def tabulate(
    results: Results,
    folders: Mapping[str, Sequence[Path]],
    runs: Mapping[Trial, str],
    seeds: Sequence[int],
    costs: Mapping[str, ProgramCost],
) -> Table:
    """One row for each arm, for the whole frame and for the unknown region, and what the paper printed.

    Args:
      results: of all `runs`.
      folders: checkpoints by arm.
      runs: of `name_runs`, with the same seeds.
      costs: by arm.
    """
    scores = [score for score in results.scores() if score.case == MEAN]
    values = {(score.method, score.metric, score.region): score.value for score in scores}
    names = {
        arm: [[runs[Trial(folder, ARMS[arm].plan, seed)] for seed in seeds] for folder in checkpoints]
        for arm, checkpoints in folders.items()
    }
    seconds = {arm: _seconds(results, set(itertools.chain(*groups))) for arm, groups in names.items()}

    def measured(arm: str, metric: str, region: str) -> list[list[float | None]]:
        return [[values.get((name, metric, region)) for name in group] for group in names[arm]]

    def row(arm: str, region: str) -> tuple[Cell, ...]:
        numbers = (mean(measured(arm, metric, region)) for metric in METRICS)
        cost = costs[arm]
        count = f"{len(names[arm])} x {len(seeds)}"
        return arm, count, *numbers, cost.parameters / 1e6, cost.flops / 1e9, cost.memory / 2**20, seconds[arm]

    def change(arm: str, other: str, region: str) -> tuple[Cell, ...]:
        pairs = (zip(measured(arm, metric, region), measured(other, metric, region)) for metric in METRICS)
        gains = (mean([list(map(_difference, *groups)) for groups in pair]) for pair in pairs)
        count = f"{len(names[arm])} x {len(seeds)}"
        return f"{arm} - {other}", count, *(gain and Change(*gain) for gain in gains), *(None,) * len(COSTS)

    cases = " and ".join(results.protocol.cases)
    here = f"Measured here, {len(results.manifest.clips)} clips of {results.manifest.data_name}, mean of {cases}"
    sections = [
        Section(f"{here}, {title}", tuple(row(arm, region) for arm in folders)) for region, title in REGIONS.items()
    ]
    alike = [(b, a) for a, b in itertools.pairwise(folders) if len(names[a]) == len(names[b])]
    sections += [
        Section(f"Run by run, {title}", tuple(change(*pair, region) for pair in alike))
        for region, title in REGIONS.items()
        if alike
    ]
    empty = (None,) * len(COSTS)
    published = tuple((arm, "", None, None, None, fvd, *empty) for arm, fvd in PUBLISHED_ABLATION.items())
    sections.append(Section(f"Published by GlobalPaint ({SOURCE})", published, ours=False))
    columns = (Column("arm"), Column("runs"), *(COLUMNS[metric] for metric in METRICS), *COSTS)
    return Table(columns, tuple(sections), (NOTE, *notes([s for s in scores if s.metric in METRICS])))


def mean(groups: Sequence[Sequence[float | None]]) -> Interval | None:
    """The mean over all runs and half of its 95% interval.

    Args:
      groups: for each checkpoint the numbers of its seeds. None where there is none, and then the arm has none.
    """
    known = [[value for value in group if value is not None] for group in groups]
    if any(len(there) < len(group) for there, group in zip(known, groups)):
        return None
    sample = [statistics.fmean(group) for group in known] if len(known) > 1 else known[0]
    count = len(sample)
    half = stats.t.ppf(0.975, count - 1) * statistics.stdev(sample) / count**0.5 if count > 1 else None
    return Interval(statistics.fmean(sample), half)


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _check(arm: str, checkpoint: str | Path) -> Path:
    """The checkpoint's folder; raises UserError where it has, or lacks, what the arm is about."""
    folder = find_checkpoint(checkpoint)
    unet = UNetConfig.from_json(read_json(folder / "unet" / CONFIG_FILE))
    has = {
        "windows": unet.temporal and unet.window is not None,
        "tokens": unet.global_tokens and (folder / "global_tokens").is_dir() and (folder / "clip").is_dir(),
    }
    for part, title in (("windows", "3D windowed attention"), ("tokens", "global tokens")):
        if has[part] != getattr(ARMS[arm], part):
            raise UserError(f"arm {arm}: {folder} has {'' if has[part] else 'no '}{title}: give another checkpoint")
    return folder


def _seconds(results: Results, methods: set[str]) -> float | None:
    """Seconds per frame: the median over clips, without each run's first, which compiles."""
    timings = [timing for timing in results.timings() if timing.method in methods]
    later = [timing for timing in timings if not timing.first] or timings
    return statistics.median(timing.seconds / timing.frames for timing in later) if later else None
