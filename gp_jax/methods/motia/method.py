"""MOTIA as a method of the registry."""

from gp_jax.methods.motia.options import Options
from gp_jax.methods.motia.pipeline import Model
from gp_jax.methods.of_checkpoint import OfCheckpoint


class MOTIAMethod(OfCheckpoint):
    """MOTIA with public or other weights."""

    name = "motia"
    Options = Options
    Pipeline = Model
    adaptable = True
    source = "gp-jax convert Be-Your-Outpainter/ motia/, then --checkpoint motia/"
