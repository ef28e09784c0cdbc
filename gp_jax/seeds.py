"""Seeds: every whole number from 0 to 2^64 - 1 is one, and no two are the same.

`jax.random.key` forgets all but the lower 32 bits of a number, so keys are made here:

    key = random_key(3)            # what jax.random.key(3) is
    key = random_key(2**32 + 3)    # another one
"""

import operator

import numpy as np

from gp_jax.errors import UserError


def check_seed(seed: int) -> int:
    """`seed` itself, a Python or NumPy integer from 0 to 2^64 - 1; raises UserError on anything else."""
    try:
        # A truth value is an integer to Python, but nobody means one.
        if not isinstance(seed, (bool, np.bool_)) and 0 <= operator.index(seed) < 2**64:
            return operator.index(seed)
    except TypeError:
        pass
    said = "a longer one" if isinstance(seed, int) and seed.bit_length() > 99 else f"{seed!r:.40}"
    raise UserError(f"a seed is a whole number from 0 to 2^64 - 1, not {said}")


def random_key(seed: int):
    """The `jax.random` key of a seed; raises UserError as `check_seed` does."""
    import jax  # here, because the command line checks seeds without waiting for it

    high, low = divmod(check_seed(seed), 2**32)
    return jax.random.wrap_key_data(jax.numpy.array([high, low], np.uint32), impl="threefry2x32")
