"""The plots of the report: a metric over time, a line for each method, as SVG text.

    line_plot("PSNR ↑", {"edge": [18.2, 18.0, None], "mirror": [16.9, 17.0, 17.1]})

Colours are left to the page: line number i has the class `m{i % COLOURS}`, so that it follows light and dark. A line is
broken where there is no value.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = 8  # that the page has
WIDTH, HEIGHT = 360, 150
LEFT, RIGHT, TOP, BOTTOM = 42, 8, 22, 18  # margins, in the units of the drawing


def line_plot(title: str, lines: Mapping[str, Sequence[float | None]]) -> str:
    """An SVG element; empty text where no line has a value.

    Args:
      title: what stands above.
      lines: values over time by name, in the order of their colours; all of one length.
    """
    values = [value for line in lines.values() for value in line if value is not None]
    if not values:
        return ""
    steps = max(len(line) for line in lines.values())
    marks = ticks(min(values), max(values))
    low, high = marks[0], marks[-1]

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / max(steps - 1, 1)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [f'<text class="title" x="{LEFT}" y="13">{escape(title)}</text>']
    for mark in marks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 5}" y="{y(mark) + 3:.1f}" text-anchor="end">{mark:g}</text>')
    for step, anchor in ((0, "start"), (steps - 1, "end")):
        parts.append(f'<text class="tick" x="{x(step):.1f}" y="{HEIGHT - 4}" text-anchor="{anchor}">{step + 1}</text>')
    for number, (name, line) in enumerate(lines.items()):
        kind = f"line m{number % COLOURS}" + " dashed" * (number >= COLOURS)
        points = [(f"{x(i):.1f},{y(v):.1f}" if v is not None else "") for i, v in enumerate(line)]
        runs = (list(run) for there, run in itertools.groupby(points, key=bool) if there)
        path = "".join("M" + "L".join(run) + "h0" for run in runs)  # h0: a lone point becomes a dot
        parts.append(f'<path class="{kind}" d="{path}"><title>{escape(name)}</title></path>')
    parts.append(f'<line class="playhead" x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    place = f'data-left="{LEFT}" data-right="{WIDTH - RIGHT}"'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" {place}>{"".join(parts)}</svg>'


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers, evenly spaced, that enclose [low, high]."""
    span = max(high - low, 1e-6 * max(abs(low), abs(high)), 1e-9)
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * count >= span)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]
