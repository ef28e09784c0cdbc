"""An update beside a layer is the layer whose kernel has it added, and a fresh one is the layer itself."""

import jax
import numpy as np
import pytest
from flax import nnx

from gp_jax.checkpoint.adapters import apart, merged
from gp_jax.checkpoint.parameters import bind, flatten
from gp_jax.models.layers import conv3x3
from gp_jax.models.low_rank import beside, fresh, with_low_rank
from tests.small_networks import random_weights


class Net(nnx.Module):
    """One layer of each kind that can have an update; `config` is its width."""

    def __init__(self, config, *, rngs):
        self.layers = nnx.List(
            [
                nnx.Linear(3, config, use_bias=False, rngs=rngs),
                conv3x3(config, 4, rngs=rngs, dtype=None, stride=2),
                nnx.Conv(4, 5, (1, 1), rngs=rngs),
                conv3x3(5, 2, rngs=rngs, dtype=None),
            ]
        )

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


X = np.random.default_rng(0).normal(size=(2, 2, 7, 6, 3)).astype(np.float32)
RANKS = ("layers.0", 2), ("layers.1", 3), ("layers.2", 1)


@pytest.mark.parametrize("scale", [1.0, -0.3])
def test_beside_is_as_merged(scale):
    plain = Net(7, rngs=nnx.Rngs(0))
    adapted = with_low_rank(7, build=Net, ranks=RANKS, scale=scale, rngs=nnx.Rngs(0))
    tensors = random_weights(flatten(adapted), seed=1)
    kept, updates = apart(tensors, scale)
    assert kept.keys() == flatten(plain).keys() and {name: x.rank for name, x in updates.items()} == dict(RANKS)
    made = {name: np.asarray(x) for name, x in merged(kept, updates).items()}
    expected = bind(plain, made)(X)
    np.testing.assert_allclose(bind(adapted, tensors)(X), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected - bind(plain, kept)(X)).max() > 0.1
    own = {name: x for name, x in tensors.items() if "lora" in name}
    later = beside(bind(plain, kept), own, scale)
    np.testing.assert_array_equal(later(X), bind(adapted, tensors)(X))
    assert flatten(later).keys() == flatten(adapted).keys() and flatten(plain).keys() == kept.keys()


def test_a_fresh_update_changes_nothing_and_learns():
    adapted = with_low_rank(7, build=Net, ranks=RANKS, rngs=nnx.Rngs(0))
    kept, updates = apart(flatten(adapted))
    np.testing.assert_array_equal(adapted(X), bind(Net(7, rngs=nnx.Rngs(0)), kept)(X))
    for name, rank in RANKS:
        down = np.asarray(updates[name].down)
        assert not np.asarray(updates[name].up).any() and 0.4 / rank < down.std() < 1.6 / rank
    gradient = jax.grad(lambda tensors: (bind(adapted, tensors)(X) ** 2).sum())(flatten(adapted))
    assert all(np.abs(gradient[f"{name}.lora_up.kernel"]).max() > 0 for name, _ in RANKS)


def test_fresh_updates_for_a_network_that_is_there():
    plain = Net(7, rngs=nnx.Rngs(0))
    made = fresh({name: flatten(plain)[f"{name}.kernel"].shape for name, _ in RANKS}, rank=4, seed=2**63)
    assert {name: x.shape for name, x in made.items()} == {
        name: (*x.shape[:-1], 4) if "down" in name else (4, x.shape[-1])
        for name, x in flatten(with_low_rank(7, build=Net, ranks=RANKS, rngs=nnx.Rngs(0))).items()
        if "lora" in name
    }
    np.testing.assert_array_equal(beside(plain, made)(X), plain(X))
    assert 0.2 < made["layers.1.lora_down.kernel"].std() < 0.3
