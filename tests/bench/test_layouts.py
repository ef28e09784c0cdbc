"""Layouts are followed as devices would have them, by hand-made programs of a few operations."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from gp_jax.bench.layouts import follow, layout_of
from gp_jax.jobs.programs import flops_of
from gp_jax.parallel import constrain, make_mesh, use_mesh

SIZES = {"data": 2, "tensor": 2, "context": 2}
ROWS = PartitionSpec("data")


def followed(function, *inputs, sizes=SIZES):
    """Args: inputs: (shape, partition)."""
    with use_mesh(make_mesh("data=2,tensor=2,context=2")):
        program = jax.jit(function).trace(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape, _ in inputs)).jaxpr
    made = follow(program.jaxpr, [layout_of(spec, len(shape)) for shape, spec in inputs], sizes)
    return made, flops_of(program.jaxpr)


def test_columns_then_rows_of_weights_make_one_sum():
    def layer(x, first, second):
        return jax.nn.silu(x @ first) @ second

    sides = ((16, 8), PartitionSpec(None, "tensor")), ((8, 16), PartitionSpec("tensor", None))
    made, flops = followed(layer, ((2, 5, 16), ROWS), *sides)
    assert made.moved == {("all-reduce", "tensor"): 1 * 5 * 16 * 4} and made.flops == flops / 4
    alone, _ = followed(layer, ((2, 5, 16), ROWS), *sides, sizes={"data": 2})
    assert not alone.moved and alone.flops == flops / 2


def test_what_both_factors_cut_is_gathered_once():
    def three(x, weights):
        return x @ weights, jnp.sin(x) + 1, x @ weights

    made, flops = followed(
        three, ((2, 5, 16), PartitionSpec("data", None, "tensor")), ((16, 8), PartitionSpec(None, "tensor"))
    )
    assert made.moved == {("all-gather", "tensor"): 5 * 16 * 4} and made.flops == flops / 4


def test_a_function_that_is_called_twice_sends_twice():
    @jax.jit
    def layer(x, weights):
        return x @ weights

    def both(x, y, weights):
        return layer(x, weights), layer(y, weights)

    cut = (2, 5, 16), PartitionSpec("data", None, "tensor")
    made, _ = followed(both, cut, cut, ((16, 8), PartitionSpec(None, "tensor")))
    assert made.moved == {("all-gather", "tensor"): 2 * 5 * 16 * 4}


def test_frames_become_positions_all_to_all_and_gradients_are_not_followed():
    def there_and_back(x):
        y = constrain(x, "batch", "frame", None, None).swapaxes(1, 2)
        y = constrain(y, "batch", "window", None, None)
        return constrain(y.swapaxes(1, 2), "batch", "frame", None, None)

    x = (2, 4, 6, 3), PartitionSpec("data", "context")
    made, _ = followed(there_and_back, x)
    piece = 4 * 6 * 3 * 4 / 2
    assert made.moved == {("all-to-all", "context"): 2 * piece}

    made, flops = followed(jax.grad(lambda w, x: (x @ w).sum()), ((3, 5), PartitionSpec()), x)
    assert not made.moved and made.flops == flops / 8  # nobody needs the product itself
    summed, _ = followed(lambda x: x.sum(axis=1), x)
    assert summed.moved == {("all-reduce", "context"): 6 * 3 * 4}


def test_halves_of_a_cut_dimension_and_what_is_joined_along_it_travel():
    x = (2, 4, 8), PartitionSpec("data", None, "tensor")
    made, _ = followed(lambda x: jnp.split(x, 2, axis=-1), x)
    assert made.moved == {("collective-permute", "tensor"): 2 * 4 * 2 * 4}  # two halves of a half
    made, _ = followed(lambda x: jnp.concatenate([x, x], axis=-1), x)
    assert made.moved == {("all-to-all", "tensor"): (4 * 4 + 4 * 4 + 4 * 8) * 4}
    made, _ = followed(lambda x: x.reshape(2, 4, 4, 2), x)
    assert not made.moved
    made, _ = followed(lambda x: x.reshape(2, 32), x)  # its pieces are no whole runs
    assert made.moved == {("all-gather", "tensor"): 4 * 8 * 4}


@pytest.mark.parametrize("turns", [1, 3])
def test_a_loop_counts_as_often_as_it_turns(turns):
    def loop(x, weights):
        return jax.lax.scan(lambda x, _: (x @ weights @ weights.T, None), x, length=turns)[0]

    made, flops = followed(loop, ((2, 5, 8), ROWS), ((8, 6), PartitionSpec(None, "tensor")))
    assert made.moved == {("all-reduce", "tensor"): turns * 5 * 8 * 4} and made.flops == flops / 4


def test_a_convolution_gathers_channels_that_its_kernel_cuts_too():
    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    x = (2, 6, 6, 4), PartitionSpec("data", None, None, "tensor")
    made, flops = followed(convolve, x, ((3, 3, 4, 8), PartitionSpec(None, None, None, "tensor")))
    assert made.moved == {("all-gather", "tensor"): 6 * 6 * 4 * 4} and made.flops == flops / 4
    made, flops = followed(convolve, x, ((3, 3, 4, 8), PartitionSpec()))
    assert made.moved == {("all-reduce", "tensor"): 6 * 6 * 8 * 4} and made.flops == flops / 4
