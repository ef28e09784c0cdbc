"""The table of an evaluation in the form of the papers: PSNR, SSIM, LPIPS, FVD, a row for each method.

    table.markdown(summary(Results("davis-m3ddm-256")))

Measured rows come first, once for the whole frame and once for the unknown region; the published rows of the protocol
follow in sections of their own. All numbers are the mean over the cases of the protocol, as in the papers; `by_case`
has them one by one.
"""

import statistics

from gp_jax.evaluation.published import PUBLISHED, SOURCE
from gp_jax.evaluation.results import MEAN, Manifest, Results, Score
from gp_jax.evaluation.table import Column, Section, Table
from gp_jax.methods.method import STAND_INS

# Names and decimals as papers print them, in their order; other metrics stand behind them under their own names.
COLUMNS = {
    "psnr": Column("PSNR", 2, "higher"),
    "ssim": Column("SSIM", 4, "higher"),
    "lpips": Column("LPIPS", 4, "lower"),
    "fvd": Column("FVD", 1, "lower"),
    "warping-error": Column("warping error", 5, "lower"),
    "flicker": Column("flicker", 4, "lower"),
    "pulse": Column("pulse", 4, "lower"),
    "seam": Column("seam", 4, "zero"),
}
REGIONS = {"whole": "whole frame", "unknown": "unknown region"}

Kind = tuple[str, str]  # metric and preset


def summary(results: Results) -> Table:
    """Mean over the cases, and the published rows.

    Raises:
      UserError: the folder holds no finished evaluation.
    """
    manifest, scores = results.manifest, [score for score in results.scores() if score.case == MEAN]
    kinds = _kinds(scores)
    cases = " and ".join(results.protocol.cases)
    published = []
    for data in dict.fromkeys(row.data for row in PUBLISHED.get(manifest.protocol, ())):
        rows = [row for row in PUBLISHED[manifest.protocol] if row.data == data]
        cells = tuple((row.method, *(row.value(*kind) for kind in kinds)) for row in rows)
        published.append(Section(f"Published for {data} ({SOURCE})", cells, ours=False))
    measured = (
        _section(scores, kinds, MEAN, region, f"Measured here, {_what(manifest)}, mean of {cases}, {name}")
        for region, name in REGIONS.items()
    )
    parts = (f"{name}: {about[STAND_INS]}" for name, about in manifest.methods.items() if STAND_INS in about)
    said = *(manifest.note,) * bool(manifest.note), *parts
    return Table(_columns(scores, kinds), (*measured, *published), (*said, *notes(scores)))


def by_case(results: Results) -> Table:
    """A section for each case and region; errors as for `summary`."""
    scores = [score for score in results.scores() if score.case != MEAN]
    kinds = _kinds(scores)
    sections = (
        _section(scores, kinds, case, region, f"{case}, {name}")
        for case in results.protocol.cases
        for region, name in REGIONS.items()
    )
    return Table(_columns(scores, kinds), tuple(sections), notes(scores))


def cost(results: Results) -> Table:
    """What a frame costs each method; errors as for `summary`."""
    timings = results.timings()
    rows = []
    for method in dict.fromkeys(timing.method for timing in timings):
        own = [timing for timing in timings if timing.method == method]
        # The first clip's time is the compiler's; where there is no other, it has to do.
        later = [timing for timing in own if not timing.first] or own
        seconds = statistics.median(timing.seconds / timing.frames for timing in later)
        rows.append((method, seconds, max(timing.peak_memory for timing in own) / 2**20))
    kinds = ", ".join(sorted({timing.memory_of for timing in timings}))
    note = (
        "Seconds: median over the clips, without the first of each method. Memory: the most that the "
        f"{kinds} had in use meanwhile, networks of other methods that were still loaded among it."
    )
    columns = Column("method"), Column("seconds per frame", 3, "lower"), Column("peak memory (MiB)")
    return Table(columns, (Section("At the protocol's size, on the machine of this run", tuple(rows)),), (note,))


def _kinds(scores: list[Score]) -> list[Kind]:
    """The columns: metrics in the order of `COLUMNS`, then others."""
    kinds = dict.fromkeys((score.metric, score.preset) for score in scores)
    order = [*COLUMNS]
    return sorted(kinds, key=lambda kind: order.index(kind[0]) if kind[0] in order else len(order))


def _columns(scores: list[Score], kinds: list[Kind]) -> tuple[Column, ...]:
    better = {(score.metric, score.preset): score.better for score in scores}
    metrics = [metric for metric, _ in kinds]
    columns = []
    for metric, preset in kinds:
        column = COLUMNS.get(metric, Column(metric, 4, better[metric, preset]))
        several = metrics.count(metric) > 1
        columns.append(column._replace(name=f"{column.name} {preset}") if several else column)
    return (Column("method"), *columns)


def _section(scores: list[Score], kinds: list[Kind], case: str, region: str, title: str) -> Section:
    values = {
        (score.method, score.metric, score.preset): score.value
        for score in scores
        if (score.case, score.region) == (case, region)
    }
    methods = dict.fromkeys(score.method for score in scores)
    rows = tuple((method, *(values.get((method, *kind)) for kind in kinds)) for method in methods)
    return Section(title, rows)


def _what(manifest: Manifest) -> str:
    clips = len(manifest.clips)
    return f"{clips} clip{'s' * (clips != 1)} of {manifest.data_name}"


def notes(scores: list[Score]) -> tuple[str, ...]:
    """What the numbers depend on, and every reservation of the harness, with what it is about unless that is all."""
    presets = sorted({f"{score.metric}: {score.preset}" for score in scores})
    sizes = sorted({f"{score.resolution}, {score.clips} clips, {score.frames} frames" for score in scores})
    lines = ["; ".join(sizes) + ". Presets: " + ", ".join(presets)]
    for note in dict.fromkeys(score.note for score in scores if score.note):
        noted = [score for score in scores if score.note == note]
        about = []
        for aspect in (lambda s: s.method, lambda s: s.metric, lambda s: REGIONS[s.region]):
            if set(map(aspect, noted)) != set(map(aspect, scores)):
                about.append(", ".join(dict.fromkeys(map(aspect, noted))))
        lines.append(": ".join([*about, note]))
    return tuple(lines)
