"""Numbers that papers print, to stand beside the ones that are measured here.

They were measured by their authors on the real DAVIS and YouTube-VOS, with FVD in MOTIA's flavour, and none of the
papers says whether whole frames or only the made region are compared (M3DDM-Video-Outpainting issue 6). So they say
how far the field is, and are no column of a measurement on other clips: every table keeps them in sections of their
own, under titles that say so.
"""

from dataclasses import dataclass

SOURCE = "by their authors, on the real data set, not on these clips; region not stated"


@dataclass(frozen=True)
class Published:
    """One row of a paper: the mean of both mask ratios of the protocol."""

    data: str
    method: str
    psnr: float
    ssim: float
    lpips: float
    fvd: float

    def value(self, metric: str, preset: str) -> float | None:
        """The row's number for a metric of ours; None where it has none, or one of another flavour."""
        return None if metric == "fvd" and preset != "videogpt" else getattr(self, metric, None)


# By protocol. Dehan et al. 2022, Fan et al. 2023 and Wang et al. 2024 as table 1 of MOTIA (Wang et al.) has them;
# GlobalPaint as its abstract page has it.
PUBLISHED: dict[str, tuple[Published, ...]] = {
    "m3ddm-256": (
        Published("DAVIS", "Dehan 2022", 17.96, 0.6272, 0.2331, 363.1),
        Published("DAVIS", "M3DDM", 20.26, 0.7082, 0.2026, 300.0),
        Published("DAVIS", "MOTIA", 20.36, 0.7578, 0.1595, 286.3),
        Published("DAVIS", "GlobalPaint", 20.91, 0.7621, 0.1540, 227.8),
        Published("YouTube-VOS", "Dehan 2022", 18.25, 0.7195, 0.2278, 149.7),
        Published("YouTube-VOS", "M3DDM", 20.20, 0.7312, 0.1854, 66.62),
        Published("YouTube-VOS", "MOTIA", 20.25, 0.7636, 0.1727, 58.99),
        Published("YouTube-VOS", "GlobalPaint", 20.89, 0.7938, 0.1643, 60.49),
    ),
}

# GlobalPaint's ablation, FVD by arm.
PUBLISHED_ABLATION = {"baseline": 373.42, "est": 312.41, "global-tokens": 273.53}
