"""GlobalPaint as a method of the registry."""

from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.methods.of_checkpoint import OfCheckpoint


class GlobalPaint(OfCheckpoint):
    """This package's model."""

    name = "globalpaint"
    Options = Options
    Pipeline = OutpaintPipeline
    default = "tiny"
    adaptable = True
