"""The motion module in both of its readings: each frame normalised by itself, or all frames together."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gp_jax.models.motion import MotionModule

# Of the original codes, for x = sin(.013 * arange) of the shape (1, 64, 5, 4, 3): AnimateDiff's, and diffusers'.
GOLDEN = {
    True: (-0.00621573, 0.80530913, (0.1733652, 0.1908211, 0.2086916, 0.2269886), (-0.3780913, -0.3687585)),
    False: (-0.00639942, 0.80933139, (0.1209868, 0.1350039, 0.149071, 0.1631887), (-0.440997, -0.4247881)),
}
# Names in AnimateDiff's files, by those of a module here; they decide which number each parameter is filled with.
NAMES = {
    "norm.scale": "norm.weight",
    "norm.bias": "norm.bias",
    "project_in.kernel": "proj_in.weight",
    "project_in.bias": "proj_in.bias",
    "feed_forward.expand.kernel": "transformer_blocks.0.ff.net.0.proj.weight",
    "feed_forward.expand.bias": "transformer_blocks.0.ff.net.0.proj.bias",
    "feed_forward.contract.kernel": "transformer_blocks.0.ff.net.2.weight",
    "feed_forward.contract.bias": "transformer_blocks.0.ff.net.2.bias",
    "feed_forward_norm.scale": "transformer_blocks.0.ff_norm.weight",
    "feed_forward_norm.bias": "transformer_blocks.0.ff_norm.bias",
    "project_out.kernel": "proj_out.weight",
    "project_out.bias": "proj_out.bias",
    **{
        f"attention.{k}.{ours}": f"transformer_blocks.0.{theirs}"
        for k in range(2)
        for ours, theirs in {
            "query.kernel": f"attention_blocks.{k}.to_q.weight",
            "key.kernel": f"attention_blocks.{k}.to_k.weight",
            "value.kernel": f"attention_blocks.{k}.to_v.weight",
            "output.kernel": f"attention_blocks.{k}.to_out.0.weight",
            "output.bias": f"attention_blocks.{k}.to_out.0.bias",
            "norm.scale": f"norms.{k}.weight",
            "norm.bias": f"norms.{k}.bias",
        }.items()
    },
}


def filled(shape, place, norm):
    """By the rule of the golden values: a wave whose phase is the place of the name among all names."""
    wave = np.sin(0.37 * np.arange(np.prod(shape)) + place).reshape(shape)
    if len(shape) > 1:
        return wave / np.sqrt(np.prod(shape[1:]))
    return norm + 0.1 * wave


@pytest.mark.parametrize("frame_norm", [True, False])
def test_golden_values(frame_norm):
    options = {"heads": 8, "groups": 32, "attention": "einsum", "dtype": None}
    module = MotionModule(64, frame_norm=frame_norm, rngs=nnx.Rngs(0), **options)
    places = {name: place for place, name in enumerate(sorted(NAMES.values()))}
    for path, parameter in nnx.to_flat_state(nnx.state(module, nnx.Param)):
        theirs = NAMES[".".join(map(str, path))]
        shape = parameter.get_value().shape[::-1]
        value = filled(shape, places[theirs], theirs.endswith("weight"))
        nnx.update(module, nnx.from_flat_state([(path, parameter.replace(jnp.asarray(value.T, jnp.float32)))]))
    x = np.sin(0.013 * np.arange(64 * 5 * 4 * 3)).reshape(1, 64, 5, 4, 3).astype(np.float32)
    out = module(jnp.asarray(x.transpose(0, 2, 3, 4, 1)), jnp.arange(5)[None])
    out = np.asarray(out).transpose(0, 4, 1, 2, 3).ravel()
    mean, std, first, last = GOLDEN[frame_norm]
    np.testing.assert_allclose(out.mean(), mean, atol=1e-6)
    np.testing.assert_allclose(out.std(), std, atol=1e-6)
    np.testing.assert_allclose(out[:4], first, atol=1e-5)
    np.testing.assert_allclose(out[-2:], last, atol=1e-5)
