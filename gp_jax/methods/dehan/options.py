"""What can be asked of Dehan's method."""

from dataclasses import dataclass

from gp_jax.flow.estimate import ESTIMATORS
from gp_jax.methods.dehan.plugs import COMPLETIONS, SEGMENTATIONS
from gp_jax.methods.options import option


@dataclass(frozen=True)
class Options:
    """Its learned parts by name, and a variant."""

    flow: str = option("dis", "what estimates optical flow; gmflow needs `gp-jax fetch gmflow`", choices=ESTIMATORS)
    segmentation: str = option("homography", "what finds objects before the scene", choices=SEGMENTATIONS)
    completion: str = option(
        "telea", f"what makes up what no frame shows: {', '.join(COMPLETIONS)}, or globalpaint:CHECKPOINT", "NAME"
    )
    smooth: bool = option(False, "new sides smoothed by a Gaussian of two pixels")
