"""The extractor: what it sees, and what it does not."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from gp_jax.checkpoint import parameters
from gp_jax.models.global_tokens import GlobalTokens, GlobalTokensConfig
from gp_jax.parallel import make_mesh, parameter_shardings, use_mesh

CONFIG = GlobalTokensConfig(feature_width=6, width=8, tokens=3, layers=2, heads=2, output_width=10)
EXTRACTOR = GlobalTokens(CONFIG, rngs=nnx.Rngs(0))
FEATURES = jax.random.normal(jax.random.key(0), (2, 5, 4, 6))
POSITIONS = jax.random.uniform(jax.random.key(1), (2, 5, 4, 2))
TIMES = jnp.broadcast_to(jnp.linspace(0, 1, 5), (2, 5))
VALID = jnp.array([[True] * 5, [True] * 3 + [False] * 2])


def test_shape_and_config_round_trip():
    assert EXTRACTOR(FEATURES, POSITIONS, TIMES, VALID).shape == (2, 3, 10)
    assert GlobalTokensConfig.from_json(CONFIG.to_json()) == CONFIG


def test_frames_that_only_fill_the_batch_are_not_seen():
    expected = EXTRACTOR(FEATURES, POSITIONS, TIMES, VALID)
    other = FEATURES.at[1, 3:].set(7.0)
    np.testing.assert_array_equal(EXTRACTOR(other, POSITIONS, TIMES, VALID), expected)
    short = EXTRACTOR(FEATURES[1:, :3], POSITIONS[1:, :3], TIMES[1:, :3], VALID[1:, :3])
    np.testing.assert_allclose(short, expected[1:], atol=1e-5)


def test_every_frame_and_place_and_time_counts():
    expected = EXTRACTOR(FEATURES, POSITIONS, TIMES, VALID)
    for changed in (
        (FEATURES.at[0, 4, 2].add(1.0), POSITIONS, TIMES),
        (FEATURES, POSITIONS.at[0, 2, 1, 0].add(0.3), TIMES),
        (FEATURES, POSITIONS, TIMES.at[0, 1].add(0.3)),
    ):
        tokens = EXTRACTOR(*changed, VALID)
        assert not np.allclose(tokens[0], expected[0], atol=1e-4)
        np.testing.assert_array_equal(tokens[1], expected[1])


def test_the_order_of_frames_does_not_matter_only_their_times():
    order = jnp.array([3, 1, 4, 0, 2])
    shuffled = EXTRACTOR(FEATURES[:, order], POSITIONS[:, order], TIMES[:, order], VALID[:, order])
    np.testing.assert_allclose(shuffled, EXTRACTOR(FEATURES, POSITIONS, TIMES, VALID), atol=1e-5)


def test_a_mesh_of_several_axes_gives_each_clip_its_own_tokens():
    config = GlobalTokensConfig(feature_width=16, width=16, tokens=3, layers=1, heads=2, output_width=16)
    extractor, rng = GlobalTokens(config, rngs=nnx.Rngs(1)), np.random.default_rng(0)
    params = parameters.flatten(extractor)
    clips = [rng.random(shape).astype(np.float32) for shape in ((8, 2, 4, 16), (8, 2, 4, 2), (8, 2))]
    clips.append(np.ones((8, 2), bool))
    mesh = make_mesh("data=2,fsdp=2,tensor=2")
    places = parameter_shardings(params, mesh)
    placed = {name: jax.device_put(x, places[name]) for name, x in params.items()}
    rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    with use_mesh(mesh):
        found = jax.jit(lambda params, *clips: parameters.bind(extractor, params)(*clips))(
            placed, *(jax.device_put(x, rows) for x in clips)
        )
    np.testing.assert_allclose(found, extractor(*clips), atol=1e-5)
