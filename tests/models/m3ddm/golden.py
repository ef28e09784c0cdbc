"""The small network whose outputs were computed by the authors' code, and how its weights are filled."""

import numpy as np

from gp_jax.checkpoint import parameters
from gp_jax.convert.m3ddm import RULES
from gp_jax.convert.rules import to_ours, to_theirs
from gp_jax.models.m3ddm.network import M3DDM, M3DDMConfig

SMALL = M3DDMConfig(block_out_channels=(32, 64, 96, 96), attention_head_dim=4, norm_num_groups=8)


def wave(shape, pace):
    """sin(pace * arange), float32."""
    return np.sin(pace * np.arange(np.prod(shape))).reshape(shape).astype(np.float32)


def filled(shapes):
    """Values for tensors of these names and shapes: sines whose phase is the place of the name in the alphabet."""
    made = {}
    for place, name in enumerate(sorted(shapes)):
        shape = shapes[name].shape
        s = np.sin(0.37 * np.arange(int(np.prod(shape))) + place).reshape(shape)
        if name.endswith("num_batches_tracked"):
            s = np.zeros(shape)
        elif len(shape) > 1:
            s = s / np.sqrt(np.prod(shape[1:]))
        elif name.endswith((".weight", "running_var")):
            s = 1 + 0.1 * s
        else:
            s = 0.1 * s
        made[name] = s.astype(np.float32)
    return made


def theirs(config=SMALL):
    """The network's tensors under their published names."""
    return filled(to_theirs(RULES, parameters.shapes(M3DDM, config)))


def network(config=SMALL):
    """The network that these tensors make."""
    shapes = parameters.shapes(M3DDM, config)
    module = parameters.abstract(M3DDM, config)
    parameters.load_into(module, to_ours(RULES, theirs(config), list(shapes)))
    return module
