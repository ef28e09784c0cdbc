"""Pieces of the page, as HTML text: tables, lists of clips, and the card of a clip.

Everything that is not markup goes through `html.escape`: names of clips are names of files, and may hold anything.
"""

import json
from collections.abc import Collection, Sequence
from html import escape
from urllib.parse import quote

import numpy as np

from gp_jax.evaluation.report.numbers import Clip, Numbers
from gp_jax.evaluation.report.plots import COLOURS, line_plot
from gp_jax.evaluation.report.videos import mosaic, tile_size
from gp_jax.evaluation.results import Results
from gp_jax.evaluation.summary import COLUMNS
from gp_jax.evaluation.table import GOOD, Table, marked, text
from gp_jax.geometry import Canvas
from gp_jax.video.clips import read_clip

COUNT = 3  # clips at either end of a list
GREY = 128  # of what a method was not shown


def table(numbers: Table) -> str:
    """A table; sections that hold published numbers look different."""
    head = "".join(f"<th>{escape(column.title)}</th>" for column in numbers.columns)
    bodies = []
    for section in numbers.sections:
        rows = [
            "".join(
                f'<td class="best">{escape(cell)}</td>' if best else f"<td>{escape(cell)}</td>" for cell, best in row
            )
            for row in marked(numbers.columns, section)
        ]
        name = f'<th colspan="{len(numbers.columns)}">{escape(section.title)}</th>'
        kind = "measured" if section.ours else "published"
        lines = "".join(f"<tr>{row}</tr>" for row in (name, *rows))
        bodies.append(f'<tbody class="{kind}">{lines}</tbody>')
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in numbers.notes)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>{"".join(bodies)}</table></div>{notes}'


def extremes(numbers: Numbers, metric: str, linked: Collection[Clip]) -> str:
    """For each method the clips with the worst and the best numbers."""
    rows = []
    for method in numbers.methods:
        ranked = numbers.worst_first(metric, method)

        def named(clips: Sequence[Clip], method: str = method) -> str:
            return "".join(
                f"<span>{_link(clip, linked)} <b>{_number(metric, numbers.value(metric, method, clip))}</b></span>"
                for clip in clips
            )

        rows.append(f"<td>{escape(method)}</td><td>{named(ranked[:COUNT])}</td><td>{named(ranked[::-1][:COUNT])}</td>")
    head = f"<th>{escape(title(metric))}</th><th>worst</th><th>best</th>"
    lines = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="scroll extremes"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def heat(numbers: Numbers, metric: str, linked: Collection[Clip]) -> str:
    """Every clip's number for every method; the better, the stronger its colour."""
    goodness = GOOD[COLUMNS[metric].good][1]
    values = {(m, c): numbers.value(metric, m, c) for c in numbers.clips for m in numbers.methods}
    good = [goodness(value) for value in values.values() if value is not None]
    low, span = min(good), max(max(good) - min(good), 1e-9)

    def cell(value: float | None) -> str:
        share = 0 if value is None else (goodness(value) - low) / span
        return f'<td style="--heat:{45 * share:.0f}%">{_number(metric, value)}</td>'

    head = "".join(f"<th>{escape(name)}</th>" for name in ("clip", *numbers.methods))
    lines = "".join(
        f"<tr><td>{_link(clip, linked)}</td>{''.join(cell(values[method, clip]) for method in numbers.methods)}</tr>"
        for clip in numbers.clips
    )
    body = f'<div class="scroll heat"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
    return f"<details><summary>{escape(title(metric))}</summary>{body}</details>"


def card(results: Results, numbers: Numbers, clip: Clip, metrics: Sequence[str]) -> str:
    """One clip: the pictures, side by side and in step, and their numbers over time."""
    case, name = clip
    canvas = results.protocol.cases[case]
    size = tile_size(canvas.height, canvas.width)
    truth = read_clip(results.reference(name), size)
    made = {
        method: read_clip(path, size)
        for method in numbers.methods
        if numbers.is_measured(method, clip) and (path := results.generated(method, case, name))
    }
    video = mosaic([source(truth, canvas), *made.values(), truth])

    values = {m: _mean(numbers, metrics, m, clip) for m in made}
    colours = {m: numbers.methods.index(m) % COLOURS for m in made}
    captions = [
        "source",
        *(f'<i class="m{colours[m]}"></i>{escape(m)}<b>{values[m]}</b>' for m in made),
        "ground truth",
    ]
    of_frames = ["", *(_of_frames(numbers, metrics, m, clip) for m in made), ""]
    figures = "".join(
        f'<figure><canvas width="{video.width}" height="{video.height}"></canvas><figcaption>{caption}</figcaption>'
        f'<output class="now" data-values="{escape(values)}"></output></figure>'
        for caption, values in zip(captions, of_frames)
    )
    shown = [*enumerate(("source", *made, "ground truth"))]
    left, right = (
        "".join(f'<option value="{n}"{" selected" * (n == chosen)}>{escape(name)}</option>' for n, name in shown)
        for chosen in (len(made) + 1, 1)
    )
    plots = "".join(line_plot(title(metric), numbers.over_time(metric, clip)) for metric in metrics)
    frames = len(truth)
    return f"""<article class="clip" id="{escape(_anchor(clip))}" data-case="{escape(case)}" data-frames="{frames}"
 data-columns="{video.columns}"><h3>{escape(name)}<small>{escape(case)}, {frames} frames</small></h3>
<div class="panels">{figures}</div>
<details class="compare"><summary>Compare two</summary><div class="two">
<canvas width="{video.width}" height="{video.height}"></canvas>
<label>left <select class="left">{left}</select></label> <label>right <select class="right">{right}</select></label>
<input type="range" class="line" min="0" max="100" value="50" aria-label="line between the two"></div></details>
<div class="player"><button type="button">❚❚</button>
<input type="range" min="0" max="{frames - 1}" value="0" aria-label="frame"><output></output></div>
<div class="plots">{plots}</div>
<video muted loop playsinline data-src="{video.uri}"></video></article>"""


def source(frames: np.ndarray, canvas: Canvas) -> np.ndarray:
    """What a method was shown: frames [T, h, w, 3] of any size, grey where the canvas is unknown."""
    rows, columns = canvas.resize(*frames.shape[1:3]).observed
    shown = np.full_like(frames, GREY)
    shown[:, rows, columns] = frames[:, rows, columns]
    return shown


def title(metric: str) -> str:
    """How a metric is named on the page."""
    return f"{COLUMNS[metric].title}, unknown region"


def _mean(numbers: Numbers, metrics: Sequence[str], method: str, clip: Clip) -> str:
    """The first metric's number, with its name."""
    metric = next(iter(metrics), None)
    return f"{COLUMNS[metric].name} {_number(metric, numbers.value(metric, method, clip))}" if metric else ""


def _of_frames(numbers: Numbers, metrics: Sequence[str], method: str, clip: Clip) -> str:
    """JSON: a list of texts, for each frame its numbers; what was not measured of a frame is left out."""
    columns = {metric: numbers.over_time(metric, clip)[method] for metric in metrics}
    told = [
        " ".join(
            f"{COLUMNS[metric].name} {_number(metric, values[frame])}"
            for metric, values in columns.items()
            if frame < len(values) and values[frame] is not None
        )
        for frame in range(max(map(len, columns.values()), default=0))
    ]
    return json.dumps(told)


def _number(metric: str, value: float | None) -> str:
    return text(COLUMNS[metric], value)


def _anchor(clip: Clip) -> str:
    return "/".join(clip)


def _link(clip: Clip, linked: Collection[Clip]) -> str:
    label = escape(f"{clip[1]} {clip[0]}")
    return f'<a href="#{quote(_anchor(clip))}">{label}</a>' if clip in linked else label
