"""Programs that were prepared are not compiled again, and a loop counts as often as it turns."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import ShapeDtypeStruct as Shape

from gp_jax.jobs.programs import Call, flops_of, prepare

N = 24


@functools.partial(jax.jit, static_argnames="turns")
def program(x, y, *, turns):
    return jax.lax.scan(lambda carry, _: (jnp.sin(carry @ y), None), x, None, length=turns)[0]


def test_what_was_prepared_is_not_compiled_again(caplog):
    shape, given = Shape((N, N), np.float32), np.ones((N, N), np.float32)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        costs = prepare([Call(name, program, (shape, given), {"turns": 3}, times=7) for name in ("a", "b")])
        compiled = [record.message for record in caplog.records if "Compiling jit(program)" in record.message]
        assert len(compiled) == 1, "equal programs are one"
        program(given, given, turns=3)
        assert [record.message for record in caplog.records if "Compiling jit(program)" in record.message] == compiled
    assert [(cost.name, cost.times) for cost in costs] == [("a", 7), ("b", 7)]
    assert all(cost.flops == 3 * 2 * N**3 and cost.bytes >= 3 * 4 * N**2 for cost in costs)


def attend(x):
    return jnp.einsum("bqd,bkd->bqk", x, x)


def convolve(x):
    return jax.lax.conv(x[:, None], jnp.ones((5, 1, 3, 3)), (1, 1), "SAME")


def branch(x):
    return jax.lax.cond(x.sum() > 0, lambda x: x[..., :5], attend, x)


COUNTED = {
    "product": (attend, 2 * 4 * 5 * 5 * 6),
    "convolution": (convolve, 2 * (4 * 5 * 6 * 5) * 9),
    "map": (functools.partial(jax.lax.map, lambda x: x @ x.T), 4 * 2 * 5 * 5 * 6),
    "within jit": (jax.jit(attend), 2 * 4 * 5 * 5 * 6),
    "branches": (branch, 2 * 4 * 5 * 5 * 6),
    "nothing": (jnp.sin, 0),
}


@pytest.mark.parametrize("name", COUNTED)
def test_operations_are_those_of_products_and_convolutions(name):
    function, flops = COUNTED[name]
    shape = Shape((4, 5, 6), np.float32)
    assert flops_of(jax.jit(function).trace(shape).jaxpr.jaxpr) == flops
