"""What the report asks of the results: one clip's number, its course over time, which clips are worst.

All of it in the unknown region, where methods differ.
"""

import itertools

from gp_jax.evaluation.results import Result, Results
from gp_jax.evaluation.summary import COLUMNS
from gp_jax.evaluation.table import GOOD

# Metrics by which a clip is a bad or good one; the first that was measured orders the page.
RANKING = ("psnr", "lpips", "ssim")

Clip = tuple[str, str]  # case and name


class Numbers:
    """The results of an evaluation by metric, method and clip.

    Attributes:
      methods, clips: in the order of the manifest; a clip is here once for each case.
      subject: the method that a reader came for: ours, or the first.
    """

    def __init__(self, results: Results):
        manifest = results.manifest
        self.methods = list(manifest.methods)
        self.clips: list[Clip] = [(case, clip) for case in results.protocol.cases for clip in manifest.clips]
        self.subject = "globalpaint" if "globalpaint" in self.methods else self.methods[0]
        self._rows: dict[tuple[str, str, str, str], Result] = {}
        for row in results.results():
            if row.region == "unknown":
                # Of a metric in two flavours the first is shown.
                self._rows.setdefault((row.metric, row.method, row.case, row.clip), row)
        # Metrics that compare sets have no rows; where there are no others, the parts tell what was measured.
        self._outputs = {key[1:] for key in self._rows} or {
            (method, *clip)
            for method, clip in itertools.product(self.methods, self.clips)
            if results.read_part(method, *clip)[0]
        }

    def measured(self, metrics: tuple[str, ...]) -> list[str]:
        """Those of the metrics that there are numbers of."""
        there = {key[0] for key in self._rows}
        return [metric for metric in metrics if metric in there]

    def is_measured(self, method: str, clip: Clip) -> bool:
        """Whether the method's output was there, whole and of the right size."""
        return (method, *clip) in self._outputs

    def value(self, metric: str, method: str, clip: Clip) -> float | None:
        """The mean over a clip."""
        row = self._rows.get((metric, method, *clip))
        return row.value if row else None

    def over_time(self, metric: str, clip: Clip) -> dict[str, list[float | None]]:
        """The values along a clip, by method; none where it was not measured."""
        rows = {method: self._rows.get((metric, method, *clip)) for method in self.methods}
        return {method: row.per_frame if row else [] for method, row in rows.items()}

    def worst_first(self, metric: str, method: str) -> list[Clip]:
        """The clips that have a number."""
        goodness = GOOD[COLUMNS[metric].good][1]
        there = [clip for clip in self.clips if self.value(metric, method, clip) is not None]
        return sorted(there, key=lambda clip: goodness(self.value(metric, method, clip)))

    def order(self) -> list[Clip]:
        """All clips, the worst of `subject` first."""
        metrics = self.measured(RANKING)
        ranked = self.worst_first(metrics[0], self.subject) if metrics else []
        return ranked + [clip for clip in self.clips if clip not in ranked]
