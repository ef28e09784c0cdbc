"""The page as a whole: which clips are on it, and what stands where.

From the top: the table, the costs, the worst and the best clips of each method, every clip's numbers, then the clips
themselves, source, methods and truth side by side with their numbers over time, the worst ones first.

A page of many videos has to stay small enough to open. So clips are put in, the worst and the best ones first, until
`BUDGET` is reached; what is left out keeps its numbers, and the page says how many.
"""

import itertools
import json
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from rich.console import Console
from rich.progress import track

from gp_jax.evaluation.report import pieces
from gp_jax.evaluation.report.numbers import RANKING, Clip, Numbers
from gp_jax.evaluation.results import Results
from gp_jax.evaluation.summary import COLUMNS, by_case, cost, summary

BUDGET = 22 * 2**20  # bytes of all clips
PLOTS = ("psnr", "ssim", "lpips")
EXTREMES = ("psnr", "lpips")


def render(results: Results) -> str:
    """HTML that refers to nothing outside itself; errors as for `write_report`."""
    manifest, protocol, numbers = results.manifest, results.protocol, Numbers(results)
    order = numbers.order()
    cards = _cards(results, numbers, order)
    folder = files("gp_jax.evaluation.report") / "files"
    parts = {
        "title": escape(f"Outpainting, protocol {manifest.protocol}"),
        "subtitle": escape(
            f"{len(manifest.clips)} clips of {manifest.data_name} ({manifest.dataset}), "
            f"{protocol.width}x{protocol.height}; cases {', '.join(protocol.cases)}; "
            f"methods {', '.join(manifest.methods)}"
        ),
        "style": (folder / "style.css").read_text("utf-8"),
        "script": "".join((folder / name).read_text("utf-8") for name in ("compare.js", "script.js")),
        "cases": "".join(f"<option>{escape(case)}</option>" for case in protocol.cases),
        "summary": pieces.table(summary(results)),
        "by_case": f"<details><summary>Case by case</summary>{pieces.table(by_case(results))}</details>",
        "cost": f"<h2>Cost</h2>\n{pieces.table(cost(results))}" if results.timings() else "",
        "extremes": "".join(pieces.extremes(numbers, metric, cards) for metric in numbers.measured(EXTREMES)),
        "numbers": "".join(pieces.heat(numbers, metric, cards) for metric in numbers.measured(PLOTS)),
        "order": escape(_order(numbers, len(order), len(cards))),
        "clips": "\n".join(cards[clip] for clip in order if clip in cards),
        "settings": f"<pre>{escape(_settings(results))}</pre>",
    }
    return Template((folder / "page.html").read_text("utf-8")).substitute(parts)


def _cards(results: Results, numbers: Numbers, order: list[Clip]) -> dict[Clip, str]:
    """HTML by clip, of as many as the page may hold, from both ends of the order."""
    both_ends = itertools.chain.from_iterable(zip(order, reversed(order)))
    cards, free = {}, BUDGET
    clips, console = list(dict.fromkeys(both_ends)), Console(stderr=True)
    for clip in track(clips, "videos of the report", console=console, transient=True):
        card = pieces.card(results, numbers, clip, numbers.measured(PLOTS))
        free -= len(card)
        if free < 0:
            break
        cards[clip] = card
    return cards


def _order(numbers: Numbers, clips: int, shown: int) -> str:
    metrics = numbers.measured(RANKING)
    order = f"The worst come first, by {numbers.subject}'s {COLUMNS[metrics[0]].name}. " if metrics else ""
    left_out = f"{clips - shown} of {clips}, from the middle, are left out to keep this page small. "
    return order + (left_out if shown < clips else "")


def _settings(results: Results) -> str:
    """The manifest, which says all that the numbers depend on, less the list of clips and where things lay."""
    manifest = results.manifest
    shown = {
        "protocol": manifest.protocol,
        "data": manifest.data_name,
        "dataset": manifest.dataset,
        "metrics": results.protocol.metrics,
        "methods": {
            method: {name: _name(value) if isinstance(value, str) else value for name, value in settings.items()}
            for method, settings in manifest.methods.items()
        },
        "versions": manifest.versions,
    }
    return json.dumps(shown, indent=2, default=dict)


def _name(text: str) -> str:
    """Of a path from the root its last part, as of `Manifest.data_name`."""
    return Path(text).name if Path(text).is_absolute() else text
