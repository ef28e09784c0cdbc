import jax
import numpy as np
import pytest
from flax import nnx

from gp_jax.models import layers
from gp_jax.models.layers import ResidualBlock, for_loops
from gp_jax.parallel import make_mesh, use_mesh


@pytest.fixture
def block():
    return ResidualBlock(8, 16, groups=4, epsilon=1e-5, rngs=nnx.Rngs(0))


def looped(block, x):
    def turn(x, _):
        return block(x)[..., :8], None

    return jax.lax.scan(turn, x, length=2)[0]


@pytest.mark.parametrize("mesh", ["", "data=2,tensor=2,context=2"])
def test_a_network_for_loops_computes_the_same(block, mesh, monkeypatch):
    x = jax.random.normal(jax.random.key(0), (2, 3, 6, 5, 8))
    expected, kernel = looped(block, x), block.conv1.kernel[...]
    monkeypatch.setattr(layers, "platform", lambda: "gpu")
    with use_mesh(make_mesh(mesh) if mesh else None):
        found = jax.jit(lambda x: looped(for_loops(block), x))(x)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert block.conv1.kernel[...] is kernel


def test_kernels_are_turned_before_the_loop_and_not_in_it(block, monkeypatch):
    monkeypatch.setattr(layers, "platform", lambda: "gpu")
    x = jax.numpy.ones((1, 1, 6, 6, 8))
    text = jax.jit(lambda x: looped(for_loops(block), x)).lower(x).as_text()
    before, _, within = text.partition("stablehlo.while")
    assert before.count("dims = [3, 0, 1, 2]") == 2 and "dims = [3, 0, 1, 2]" not in within
    assert "[o, 0, 1, i]" in within and "[0, 1, i, o]x" not in within.replace("1x1", "")
