"""The page of `gp-jax bench --diff --output DIR`: one HTML file with tables, a plot and a frame of each side.

Plot and style are those of the report of an evaluation.
"""

import base64
import io
import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

import numpy as np
from PIL import Image

from gp_jax.bench.drift import Line, by_step, label, told
from gp_jax.bench.record import Record
from gp_jax.evaluation.report.plots import COLOURS, line_plot

_LEAST = 1e-9  # where a logarithm ends
_GAIN = 16  # of pictures of a difference
_COLUMNS = ("", "drift", "tolerance", "largest", "reference", "other", "within")
_STYLE = """
h3 { margin-top: 22px; }
img { width: 100%; display: block; border-radius: 6px; image-rendering: pixelated; }
.panels { max-width: 900px; }
.panels figure { cursor: default; }
.plots.one { max-width: 620px; }
.playhead { display: none; }
span i { display: inline-block; width: 10px; height: 10px; border-radius: 3px; background: var(--c); margin: 0 5px; }
"""


def render(names: Sequence[str], sides: Sequence[Record], compared: Sequence[list[Line]]) -> str:
    """HTML that refers to nothing outside itself.

    Args:
      names: of the records, the reference first.
      sides: the records.
      compared: `drift.compare` of each but the first.
    """
    reference, others = sides[0], sides[1:]
    style = (files("gp_jax.evaluation.report") / "files" / "style.css").read_text("utf-8") + _STYLE
    legend = " ".join(f'<span class="m{i % COLOURS}"><i></i>{escape(name)}</span>' for i, name in enumerate(names[1:]))
    steps = {name: _logarithms(by_step(reference, side)) for name, side in zip(names[1:], others)}
    plot = line_plot("drift after each step of sampling, log10", steps)
    parts = [_table(*told_of) for told_of in zip(names[1:], others, compared, [reference] * len(others))]
    about = [("", "what", "seconds of a step", "versions")]
    about += [
        (name, label(side), _seconds(side.seconds.get("steps", {}).get("median")), _versions(side))
        for name, side in zip(names, sides)
    ]
    pictures = "".join(_pictures(name, reference, side) for name, side in zip(names[1:], others))
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Drift</title>
<style>{style}</style></head>
<body><header><h1>What differs, and where it starts</h1>
<p>Reference: {escape(names[0])}, {escape(label(reference))}</p></header>
<main><section><h2>Records</h2>
<div class="scroll"><table class="extremes">{_head(about[0])}{_rows(about[1:])}</table></div></section>
<section><h2>Drift by stage</h2>{_overview(names[1:], compared)}
<div class="plots one">{plot}</div><p>{legend}</p></section>
<section><h2>Each beside the reference</h2>{"".join(parts)}</section>
<section><h2>A frame in the middle</h2><p>Differences are shown {_GAIN} times as large.</p>{pictures}</section>
</main></body></html>
"""


def _overview(names: Sequence[str], compared: Sequence[list[Line]]) -> str:
    """A row for each stage and metric, a column for each record; the deeper, the nearer to what is tolerated."""
    by_name = [{line.name: line for line in lines} for lines in compared]
    rows = []
    for stage in dict.fromkeys(line.name for lines in compared for line in lines):
        cells = "".join(_drift(lines.get(stage)) for lines in by_name)
        rows.append(f"<tr><td>{escape(stage)}</td>{cells}</tr>")
    return f'<div class="scroll heat"><table>{_head(("", *names))}<tbody>{"".join(rows)}</tbody></table></div>'


def _drift(line: Line | None) -> str:
    if line is None:
        return "<td>-</td>"
    share = _shade(line.drift) / _shade(line.tolerance)
    return f'<td style="--heat:{45 * min(share, 1):.0f}%">{line.drift:.1e}{"" if line.is_within else " beyond"}</td>'


def _shade(value: float) -> float:
    """Decades above the least that is told apart."""
    return max(0.0, math.log10(value / _LEAST)) if math.isfinite(value) and value > 0 else 0.0


def _table(name: str, other: Record, lines: list[Line], reference: Record) -> str:
    rows = [
        (
            *(line.name, f"{line.drift:.1e}", f"{line.tolerance:g}", f"{line.largest:.1e}"),
            *(*map(_seconds, line.seconds), "yes" if line.is_within else "no"),
        )
        for line in lines
    ]
    return (
        f"<h3>{escape(name)}</h3><p>{escape(told(reference, other, lines))}</p>"
        f'<div class="scroll"><table>{_head(_COLUMNS)}{_rows(rows)}</table></div>'
    )


def _head(cells: Iterable[str]) -> str:
    return f"<thead><tr>{''.join(f'<th>{escape(cell)}</th>' for cell in cells)}</tr></thead>"


def _rows(rows: Iterable[Sequence[str]]) -> str:
    made = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<tbody>{made}</tbody>"


def _pictures(name: str, reference: Record, other: Record) -> str:
    a, b = (side.arrays["pixels"][len(side.arrays["pixels"]) // 2] for side in (reference, other))
    difference = np.minimum(255, _GAIN * np.abs(b.astype(np.int16) - a)).astype(np.uint8)
    shown = {"reference": a, name: b, "difference": difference}
    figures = "".join(
        f'<figure><img src="{_png(x)}" alt=""><figcaption>{escape(what)}</figcaption></figure>'
        for what, x in shown.items()
    )
    return f'<div class="panels">{figures}</div>'


def _png(frame: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _logarithms(values: Iterable[float]) -> list[float | None]:
    return [math.log10(max(value, _LEAST)) if math.isfinite(value) else None for value in values]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g} s"


def _versions(side: Record) -> str:
    return ", ".join(f"{name} {version}" for name, version in side.about["versions"].items())
