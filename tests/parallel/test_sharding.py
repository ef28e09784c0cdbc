"""Logical axes become mesh axes by the rules, and never where they don't fit."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from gp_jax.parallel import constrain, make_mesh, parameter_shardings, use_mesh
from gp_jax.parallel.sharding import parameter_axes, partition

MESH = {"data": 2, "fsdp": 2, "tensor": 2, "context": 1}


@pytest.mark.parametrize(
    "shape, axes, expected",
    [
        ((4, 3, 6), ("batch", "window", "heads"), P(("data", "fsdp"), None, ("tensor",))),
        ((2, 6), ("batch", "heads"), P(("data",), ("tensor",))),
        ((3, 5), ("batch", "heads"), P(None, None)),
        ((8, 8), ("embed", "embed"), P(("fsdp",), None)),
        ((8,), (None,), P(None)),
    ],
    ids=["all", "what divides", "nothing divides", "an axis is used once", "unnamed"],
)
def test_partition(shape, axes, expected):
    assert partition(shape, axes, MESH) == expected


@pytest.mark.parametrize(
    "path, rank, axes",
    [
        ("down.0.transformer.0.spatial.self_attention.query.kernel", 2, ("embed", "heads")),
        ("up.1.residual.0.spatial.conv1.kernel", 4, (None, None, "embed", "hidden")),
        ("x.feed_forward.contract.kernel", 2, ("hidden", "embed")),
        ("text.token_embedding.embedding", 2, (None, "embed")),
        ("norm_out.scale", 1, (None,)),
        ("subquery.kernel", 2, ("embed", None)),
    ],
)
def test_parameters_are_recognised_by_the_end_of_their_path(path, rank, axes):
    assert parameter_axes(path, rank) == axes


def test_constrain_places_under_a_mesh_and_does_nothing_without():
    x = jnp.ones((8, 4))

    def place(x):
        return constrain(2 * x, "batch", None)

    assert len(jax.jit(place)(x).sharding.device_set) == 1
    with use_mesh(make_mesh("data=4,tensor=2")):
        assert jax.jit(place)(x).sharding.spec == P("data")
    with use_mesh(make_mesh("data=4,tensor=2"), rules={"batch": ("tensor",)}):
        assert jax.jit(lambda x: constrain(3 * x, "batch", None))(x).sharding.spec == P("tensor")
    assert len(jax.jit(place)(x).sharding.device_set) == 1


def test_sharded_parameters_take_a_share_of_the_bytes():
    shapes = {"a.query.kernel": jax.ShapeDtypeStruct((16, 16), jnp.float32)}
    sharding = parameter_shardings(shapes, make_mesh("fsdp=4,tensor=2"))["a.query.kernel"]
    assert sharding.shard_shape((16, 16)) == (4, 8)
