"""Work over time, and MFU only where the peak of the device is known."""

import time

import jax
import jax.numpy as jnp
import pytest

from gp_jax.training import speed


def test_rates_are_work_over_time(monkeypatch):
    program = jax.jit(lambda x: x @ x).lower(jnp.ones((64, 64))).compile()
    assert speed.flops_of(program) == pytest.approx(2 * 64**3, rel=0.01)
    now = [10.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = speed.Clock([program], microbatches=3)
    for _ in range(4):
        clock.tick()
    now[0] = 12.0
    found = clock.read()
    assert found["seconds_per_step"] == 0.5 and "mfu" not in found
    assert found["flops_per_second"] == pytest.approx(3 * 2 * 64**3 / 0.5 * jax.device_count(), rel=0.01)
    monkeypatch.setitem(speed.PEAK_FLOPS, jax.devices()[0].device_kind, 6 * 64**3)
    clock.tick()
    now[0] = 13.0
    assert clock.read()["mfu"] == pytest.approx(1.0, rel=0.01)
