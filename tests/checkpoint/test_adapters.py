"""Adapters are dictionaries beside dictionaries: they add up, come apart again, and change nothing else."""

import numpy as np
import pytest

from gp_jax.checkpoint.adapters import Update, apart, beside, merged, ranks, together
from gp_jax.errors import UserError

RNG = np.random.default_rng(0)
SHAPES = {"query": (5, 7), "down.0.conv1": (3, 2, 5, 7)}
TENSORS = {f"{name}.kernel": RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
TENSORS |= {"query.bias": np.ones(7, np.float16), "norm.scale": np.ones(5, np.float32)}


def draw(rank, scale=1.0, names=tuple(SHAPES)):
    return {
        name: Update(
            RNG.normal(size=(*SHAPES[name][:-1], rank)).astype(np.float32),
            RNG.normal(size=(rank, SHAPES[name][-1])).astype(np.float32),
            scale,
        )
        for name in names
    }


def read(tensors):
    return {name: np.asarray(x) for name, x in tensors.items()}


def test_merged_are_the_kernels_with_the_product_added():
    adapter = draw(3, scale=0.5)
    made = merged(TENSORS, adapter)
    assert made.keys() == TENSORS.keys()
    for name, (down, up, _) in adapter.items():
        delta = (down.reshape(-1, 3) @ up).reshape(SHAPES[name])
        np.testing.assert_allclose(
            made[f"{name}.kernel"], TENSORS[f"{name}.kernel"] + 0.5 * delta, rtol=1e-5, atol=1e-6
        )
    assert made["query.bias"] is TENSORS["query.bias"] and made["norm.scale"] is TENSORS["norm.scale"]


def test_several_are_their_sum():
    first, second = draw(2, 0.3), draw(4, -2.0, ("query",))
    both = together([(first, 0.7), (second, -1.5)])
    expected = merged(merged(TENSORS, together([(first, 0.7)])), together([(second, -1.5)]))
    for name, x in read(merged(TENSORS, both)).items():
        np.testing.assert_allclose(x, np.asarray(expected[name]), rtol=1e-5, atol=1e-5)
    assert ranks(both) == (("down.0.conv1", 2), ("query", 6))


def test_no_strength_is_no_change():
    for name, x in read(merged(TENSORS, together([(draw(3), 0.0)]))).items():
        np.testing.assert_array_equal(x, TENSORS[name])


def test_what_was_put_beside_comes_apart_again():
    adapter = together([(draw(3, 0.25), 2.0)])
    tensors, again = apart(beside(TENSORS, adapter))
    assert tensors.keys() == TENSORS.keys() and again.keys() == adapter.keys()
    for name, update in adapter.items():
        np.testing.assert_array_equal(update.delta(), again[name].delta())


def test_what_float32_cannot_hold_is_told():
    told = pytest.raises(UserError, match="the LoRA makes numbers of query that float32 cannot hold")
    ones = {"query": Update(np.ones((5, 3)), np.ones((3, 7)))}
    with told:
        together([(ones, 1e39)])
    made = merged(TENSORS, together([(ones, 3e38)]))
    with told:
        np.asarray(made["query.kernel"])
