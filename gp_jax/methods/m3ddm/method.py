"""M3DDM as a method of the registry."""

from gp_jax.methods.m3ddm.options import Options
from gp_jax.methods.m3ddm.pipeline import Model
from gp_jax.methods.of_checkpoint import OfCheckpoint


class M3DDMMethod(OfCheckpoint):
    """M3DDM with public or other weights."""

    name = "m3ddm"
    Options = Options
    Pipeline = Model
    source = "gp-jax convert M3DDM-Video-Outpainting/ m3ddm/ --vae stable-diffusion-v1-5/, then --checkpoint m3ddm/"
