"""GlobalPaint as a method of the registry."""

from typing import Any

from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline, side_by_side
from gp_jax.methods.of_checkpoint import OfCheckpoint


class GlobalPaint(OfCheckpoint):
    """This package's model."""

    name = "globalpaint"
    Options = Options
    Pipeline = OutpaintPipeline
    default = "tiny"
    adaptable = True

    def side_by_side(self, options: Any) -> int:
        """See `Method`."""
        return side_by_side(self.mesh, options)
