"""The page of `gp-jax bench --diff --output DIR`: one HTML file with the tables, plots and a frame of each side.

Plots and style are those of the report of an evaluation.
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
from gp_jax.bench.record import STAGES, Record
from gp_jax.evaluation.report.plots import line_plot

_LEAST = 1e-9  # where a logarithm ends
_GAIN = 16  # of pictures of a difference


def render(names: Sequence[str], sides: Sequence[Record], compared: Sequence[list[Line]]) -> str:
    """HTML that refers to nothing outside itself.

    Args:
      names: of the records, the reference first.
      sides: the records.
      compared: `drift.compare` of each but the first.
    """
    reference, others = sides[0], sides[1:]
    style = (files("gp_jax.evaluation.report") / "files" / "style.css").read_text("utf-8")
    legend = "".join(f'<li class="m{i}" style="color:var(--c)">{escape(name)}</li>' for i, name in enumerate(names[1:]))
    steps = {name: _logarithms(by_step(reference, side)) for name, side in zip(names[1:], others)}
    stages = {
        name: _logarithms([line.drift for line in lines if line.name in STAGES and line.name != "pixels"])
        for name, lines in zip(names[1:], compared)
    }
    walked = [line.name for line in compared[0] if line.name in STAGES and line.name != "pixels"]
    plots = [
        line_plot("drift after each step of sampling, log10", steps),
        line_plot(f"drift by stage, log10: {', '.join(walked)}", stages),
        line_plot("seconds of a step, by record", {"seconds": [_step_seconds(side) for side in sides]}),
    ]
    parts = [_table(*told_of) for told_of in zip(names[1:], others, compared, [reference] * len(others))]
    about = _rows([(name, label(side), _versions(side)) for name, side in zip(names, sides)])
    pictures = "".join(_pictures(name, reference, side) for name, side in zip(names[1:], others))
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Drift</title>
<style>{style}</style></head>
<body><header><h1>What differs, and where it starts</h1>
<p>Reference: {escape(names[0])}, {escape(label(reference))}</p></header>
<main><section><h2>Records</h2><div class="scroll"><table>{about}</table></div></section>
<section><h2>Drift</h2><ul>{legend}</ul><div class="plots">{"".join(plots)}</div>{"".join(parts)}</section>
<section><h2>A frame in the middle</h2><p>Differences are shown {_GAIN} times as large.</p>{pictures}</section>
</main></body></html>
"""


def _table(name: str, other: Record, lines: list[Line], reference: Record) -> str:
    head = "".join(f"<th>{text}</th>" for text in ("", "drift", "tolerance", "largest", "reference", "other", "within"))
    rows = [
        (
            *(line.name, f"{line.drift:.1e}", f"{line.tolerance:g}", f"{line.largest:.1e}"),
            *(*map(_seconds, line.seconds), "yes" if line.is_within else "no"),
        )
        for line in lines
    ]
    return (
        f"<h3>{escape(name)}</h3><p>{escape(told(reference, other, lines))}</p>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{_rows(rows)}</tbody></table></div>'
    )


def _rows(rows: Iterable[Sequence[str]]) -> str:
    return "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)


def _pictures(name: str, reference: Record, other: Record) -> str:
    a, b = (side.arrays["pixels"][len(side.arrays["pixels"]) // 2] for side in (reference, other))
    difference = np.minimum(255, _GAIN * np.abs(b.astype(np.int16) - a)).astype(np.uint8)
    shown = {"reference": a, name: b, "difference": difference}
    figures = "".join(
        f'<figure><img src="{_png(x)}" width="{3 * x.shape[1]}" alt=""><figcaption>{escape(what)}</figcaption></figure>'
        for what, x in shown.items()
    )
    return f'<div class="panels">{figures}</div>'


def _png(frame: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _logarithms(values: Iterable[float]) -> list[float | None]:
    return [math.log10(max(value, _LEAST)) if math.isfinite(value) else None for value in values]


def _step_seconds(side: Record) -> float | None:
    return side.seconds.get("steps", {}).get("median")


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g} s"


def _versions(side: Record) -> str:
    return ", ".join(f"{name} {version}" for name, version in side.about["versions"].items())
