"""Devices that are not here."""

import importlib.util

import pytest
from jax.experimental import topologies

from gp_jax.errors import UserError
from gp_jax.parallel.absent import absent_devices


@pytest.mark.parametrize("installed", [False, True])
def test_what_libtpu_says_is_told_and_its_absence_only_where_it_is_absent(monkeypatch, installed):
    def refuse(**options):
        raise RuntimeError("INVALID_ARGUMENT: Invalid TPU external name: TPU v9z\nand a trace")

    monkeypatch.setattr(topologies, "get_topology_desc", refuse)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
    with pytest.raises(UserError, match="cannot compile for v9z:2x2") as error:
        absent_devices(["v9z:2x2"])
    assert ("pip install" in str(error.value)) == (not installed)
    assert "TPU v9z" in str(error.value) and "trace" not in str(error.value)


@pytest.mark.parametrize("name", ["v5p", "v5p:2xtwo", ":2x2", "-1"])
def test_a_name_that_is_no_device_is_a_sentence(name):
    with pytest.raises(UserError, match="neither a number of CPU devices nor a TPU slice"):
        absent_devices([name])
