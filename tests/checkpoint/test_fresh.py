import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gp_jax.checkpoint.fresh import initialise
from gp_jax.parallel import make_mesh, parameter_shardings


class Net(nnx.Module):
    """Kernels of two shapes, three of one and one of another, biases, and a parameter that nobody draws."""

    def __init__(self, width, *, rngs):
        self.layers = nnx.List(nnx.Linear(width, width, rngs=rngs) for _ in range(3))
        self.last = nnx.Linear(width, 1, rngs=rngs, kernel_init=nnx.initializers.normal(0.1))
        self.scale = nnx.Param(jnp.full((), 0.5))


NAMES = [*(f"layers.{index}.{name}" for index in range(3) for name in ("kernel", "bias")), "last.kernel", "last.bias"]


def test_each_is_what_one_program_for_all_would_draw():
    class Rngs:
        count = 0

        def params(self):
            self.count += 1
            return jax.random.fold_in(jax.random.key(7), self.count)

    whole = Net(4, rngs=Rngs())
    made = initialise(Net, 4, NAMES, seed=7)
    np.testing.assert_allclose(made["layers.2.kernel"], whole.layers[2].kernel[...], rtol=1e-6)
    np.testing.assert_allclose(made["last.kernel"], whole.last.kernel[...], rtol=1e-6)
    assert not np.array_equal(made["layers.0.kernel"], made["layers.1.kernel"])


def test_parameters_that_are_drawn_alike_share_a_program(monkeypatch):
    compiled, lower = [], jax.stages.Lowered.compile
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda self, *x: compiled.append(0) or lower(self, *x))
    initialise(Net, 4, NAMES)
    assert len(compiled) == 4  # of the inner kernels, of the last one, of biases of either length


def test_only_the_parameters_asked_for_are_made():
    made = initialise(Net, 5, {"layers.1.kernel", "scale"}, seed=3, dtype=jnp.float16)
    assert {name: (x.shape, x.dtype) for name, x in made.items()} == {
        "layers.1.kernel": ((5, 5), jnp.float16),
        "scale": ((), jnp.float16),
    }
    again, other = (initialise(Net, 5, ["layers.1.kernel"], seed)["layers.1.kernel"] for seed in (3, 4))
    assert np.array_equal(made["layers.1.kernel"], again.astype(jnp.float16)) and not np.array_equal(again, other)


@pytest.mark.parametrize("axes", ["fsdp=4", "data=2,fsdp=2"])
def test_each_lies_where_the_mesh_has_it_and_is_the_same(axes):
    mesh = make_mesh(axes, jax.devices()[:4])
    alone = initialise(Net, 8, NAMES)
    shardings = parameter_shardings(alone, mesh)
    cut = initialise(Net, 8, NAMES, shardings=shardings)
    for name, x in alone.items():
        assert cut[name].sharding == shardings[name] and np.array_equal(cut[name], x)
