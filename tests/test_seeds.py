"""Every number from 0 to 2^64 - 1 is a seed of its own, nothing else is one, and small ones are what they were."""

import jax
import numpy as np
import pytest

from gp_jax.checkpoint.fresh import initialise
from gp_jax.data import DataConfig
from gp_jax.data.precomputed import Recipe
from gp_jax.errors import UserError
from gp_jax.methods.globalpaint.method import GlobalPaint
from gp_jax.methods.globalpaint.options import Options
from gp_jax.seeds import check_seed, random_key
from tests.small_networks import NETWORKS

SEEDS = [0, 1, 3, 2**31, 2**32 - 1, 2**32, 2**32 + 3, 3 * 2**32, 2**63, 2**64 - 2**32, 2**64 - 1]
NOT_SEEDS = [
    -1,
    -(10**5000),
    2**64,
    10**5000,
    1.0,
    0.5,
    float("nan"),
    True,
    False,
    None,
    "1",
    np.array([1]),
    1j,
]


def test_seeds_have_keys_of_their_own():
    drawn = [tuple(np.asarray(jax.random.bits(random_key(seed), (4,)))) for seed in SEEDS]
    assert len(set(drawn)) == len(SEEDS)


@pytest.mark.parametrize("seed", [seed for seed in SEEDS if seed < 2**32])
def test_keys_of_seeds_below_2_to_the_32_are_those_of_jax(seed):
    expected = jax.random.key(np.uint32(seed))
    np.testing.assert_array_equal(*(jax.random.key_data(key) for key in (random_key(seed), expected)))


def test_integers_of_numpy_are_seeds():
    assert all(check_seed(kind(7)) == 7 for kind in (np.int8, np.int64, np.uint64))


@pytest.mark.parametrize("seed", NOT_SEEDS, ids=lambda seed: type(seed).__name__)
@pytest.mark.parametrize(
    "use",
    [
        check_seed,
        random_key,
        lambda seed: GlobalPaint("tiny").settings(Options(seed=seed)),
        lambda seed: DataConfig(records=("a",), segment_frames=1, seed=seed),
        lambda seed: Recipe(variants=1, feature_frames=1, seed=seed),
        lambda seed: initialise(*NETWORKS["vae"], ["encoder.conv_in.bias"], seed),
    ],
)
def test_everything_else_is_refused_in_one_sentence(use, seed):
    with pytest.raises(UserError, match="a seed is a whole number from 0 to") as refusal:
        use(seed)
    assert len(str(refusal.value)) < 120
