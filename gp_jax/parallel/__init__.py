"""Meshes, logical axes and the rules between them."""

from gp_jax.parallel.mesh import AXES, is_alone, make_mesh, platform
from gp_jax.parallel.sharding import ANY, RULES, constrain, parameter_shardings, use_mesh

__all__ = [
    "ANY",
    "AXES",
    "RULES",
    "constrain",
    "is_alone",
    "make_mesh",
    "parameter_shardings",
    "platform",
    "use_mesh",
]
