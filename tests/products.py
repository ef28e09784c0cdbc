"""Which products of matrices, and convolutions, a program holds for a device, and how precise they are."""

from collections.abc import Callable

import jax

PLATFORMS = ("cuda", "tpu")


def imprecise(function: Callable, *arguments, platform: str) -> list[str]:
    """The products of `function` that are not asked for at full precision, as StableHLO; at least one is looked at."""
    lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,))
    products = [line for line in lowered.as_text().splitlines() if "dot_general" in line or "convolution(" in line]
    assert products, "nothing to look at"
    return [line.strip() for line in products if line.count("HIGHEST") != 2]
