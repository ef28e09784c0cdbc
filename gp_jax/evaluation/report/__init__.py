"""The report of an evaluation: one HTML file that needs nothing but a browser, and the table as Markdown and CSV.

    write_report(Results("davis-m3ddm-256"))    ->  summary.md, summary.csv and report.html in that folder

`page` puts the page together, from `pieces` (tables and cards), `plots` (SVG), `videos` (H.264) and the files beside
them; `numbers` answers what it asks of the results.
"""

from pathlib import Path

from gp_jax.evaluation.report.page import render
from gp_jax.evaluation.results import Results
from gp_jax.evaluation.summary import summary
from gp_jax.evaluation.table import comma_separated, markdown
from gp_jax.files import write_text


def write_report(results: Results) -> list[Path]:
    """Writes the three files into the evaluation's folder, and returns their paths.

    Raises:
      UserError: the evaluation is not finished, or a file of it cannot be read or written.
    """
    numbers = summary(results)
    texts = {"summary.md": markdown(numbers), "summary.csv": comma_separated(numbers), "report.html": render(results)}
    for name, text in texts.items():
        write_text(results.folder / name, text)
    return [results.folder / name for name in texts]
