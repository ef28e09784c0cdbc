"""Each way of computing a convolution is the convolution, gradients included, and is taken where it is for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gp_jax.jobs.programs import flops_of
from gp_jax.models import cpu_convolution as ways
from gp_jax.models.layers import conv3x3, for_loops
from gp_jax.parallel import make_mesh, use_mesh

RNG = np.random.default_rng(0)


def reference(maps, kernel):
    return jax.lax.conv_general_dilated(
        maps, kernel, (1, 1), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
    )


@pytest.mark.parametrize("size", [(4, 6), (5, 6), (4, 3), (1, 1), (7, 5)], ids=str)
@pytest.mark.parametrize("way", ["columns", "winograd"])
def test_it_is_the_convolution(way, size):
    maps = RNG.normal(size=(2, *size, 12)).astype(np.float32)
    kernel = RNG.normal(size=(3, 3, 12, 10)).astype(np.float32)

    def compute(maps, kernel):
        if way == "columns":
            return ways.by_columns(maps, kernel)
        return ways.by_winograd(maps, ways.turn_for_winograd(kernel))

    def loss(function):
        return jax.grad(lambda maps, kernel: (function(maps, kernel) ** 2).sum(), (0, 1))(maps, kernel)

    expected = reference(maps, kernel)
    np.testing.assert_allclose(compute(maps, kernel), expected, atol=3e-6 * float(jnp.abs(expected).max()))
    for found, gradient in zip(loss(compute), loss(reference)):
        np.testing.assert_allclose(found, gradient, atol=3e-6 * float(jnp.abs(gradient).max()))


def test_maps_of_many_numbers_are_taken_some_after_the_others(monkeypatch):
    maps, kernel = RNG.normal(size=(6, 4, 4, 8)).astype(np.float32), RNG.normal(size=(3, 3, 8, 8)).astype(np.float32)
    expected = reference(maps, kernel)
    for most, size in ((10_000, 6), (400, 3), (300, 2), (1, 1)):
        monkeypatch.setattr(ways, "MOST_NUMBERS", most)
        jax.clear_caches()
        turned = ways.turn_for_winograd(kernel)
        assert f"f32[16,{4 * size},8]" in str(jax.make_jaxpr(ways.by_winograd)(maps, turned))
        np.testing.assert_allclose(ways.by_winograd(maps, turned), expected, atol=3e-6 * float(jnp.abs(expected).max()))


def taken(layer, maps) -> str:
    """Which way a layer goes inside a loop, by the operations of its program."""
    module, parameters = nnx.split(layer)

    def call(parameters, maps):
        network = for_loops(nnx.merge(module, parameters))
        return jax.lax.scan(lambda x, _: (network(x), None), maps, length=2)[0]

    text = str(jax.make_jaxpr(call)(parameters, maps))
    if "conv_general_dilated" in text:
        return "xla"
    return "columns" if f"{9 * maps.shape[-1]}]" in text else "winograd"


@pytest.mark.parametrize(
    "shape, way",
    [
        ((1, 8, 8, 640), "columns"),
        ((1, 16, 16, 640), "winograd"),
        ((1, 8, 8, 128), "winograd"),
        ((2, 8, 9, 16, 128), "winograd"),
        ((1, 8, 8, 64), "xla"),
        ((16, 64, 64, 128), "xla"),
        ((2, 64, 64, 512), "winograd"),
    ],
    ids=str,
)
def test_the_way_that_was_measured_to_be_faster_is_taken(shape, way):
    layer = jax.eval_shape(lambda: nnx.split(conv3x3(shape[-1], shape[-1], rngs=nnx.Rngs(0), dtype=None)))
    assert taken(nnx.merge(*layer), jax.ShapeDtypeStruct(shape, jnp.float32)) == way


def test_other_convolutions_types_and_meshes_are_left_to_xla():
    maps = jnp.ones((1, 8, 8, 128))
    for options in ({"stride": 2}, {"dtype": jnp.bfloat16}):
        layer = conv3x3(128, 128, rngs=nnx.Rngs(0), **({"dtype": None} | options))
        assert "conv_general_dilated" in str(jax.make_jaxpr(for_loops(layer))(maps))
    layer = conv3x3(128, 128, rngs=nnx.Rngs(0), dtype=None)
    with use_mesh(make_mesh("data=2", jax.devices()[:2])):
        assert "conv_general_dilated" in str(jax.make_jaxpr(for_loops(layer))(maps))


def test_a_layer_in_a_loop_gives_what_it_gives_outside():
    layer = conv3x3(128, 130, rngs=nnx.Rngs(0), dtype=None)
    layer.bias.set_value(jnp.arange(130.0))
    maps = jnp.asarray(RNG.normal(size=(2, 3, 9, 16, 128)), jnp.float32)
    np.testing.assert_allclose(for_loops(layer)(maps), layer(maps), atol=1e-5 * 130)


def test_its_operations_are_counted_as_those_of_the_convolution():
    maps, kernel = jnp.ones((2, 9, 16, 128)), jnp.ones((3, 3, 128, 130))
    layer = conv3x3(128, 130, rngs=nnx.Rngs(0), dtype=None)
    counts = [
        flops_of(jax.make_jaxpr(x)(maps).jaxpr) for x in (for_loops(layer), layer, lambda x: reference(x, kernel))
    ]
    assert counts == [2 * 2 * 9 * 16 * 130 * 9 * 128] * 3
