"""Seconds come from what was measured, else from a trial of the device; bytes from the largest program."""

import pytest

from gp_jax.jobs.estimate import Effort, peak_bytes, rates_of_this_device, seconds
from gp_jax.jobs.programs import Cost
from gp_jax.jobs.rates import Clock
from gp_jax.memory import most_used_bytes, used_bytes


@pytest.fixture
def rates(monkeypatch, tmp_path):
    monkeypatch.setenv("GP_JAX_CACHE", str(tmp_path))
    return rates_of_this_device()


def test_seconds_are_those_that_were_measured(rates):
    clock = Clock()
    clock.add("denoise", 10, 6.0, 3)
    rates.learn(clock)
    assert seconds([Effort("denoise", 10, 4, flops=1), Effort("denoise", 5)], rates) == 9.0


def test_what_was_never_measured_is_counted(rates):
    one = seconds([Effort("denoise", 10**9, 1, flops=10**9)], rates)
    assert 0 < one < 60
    assert seconds([Effort("denoise", 10**9, 7, flops=10**9)], rates) == pytest.approx(7 * one)
    assert seconds([Effort("copy", 1, bytes=10**9)], rates) > 0
    assert (rates_of_this_device().known or {}).keys() == {"trial product", "trial copy"}, "tried once"


def test_the_peak_is_that_of_the_largest_program():
    costs = [Cost("a", 9, 0, 100 * 2**20), Cost("b", 9, 0, 200 * 2**20)]
    assert 0 < used_bytes() <= most_used_bytes() < 2**40
    assert peak_bytes(costs, 2**20) - used_bytes() == pytest.approx(201 * 2**20, abs=16 * 2**20)
