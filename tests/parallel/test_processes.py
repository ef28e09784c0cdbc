"""Which rows a process brings, and what it takes to find the others."""

import jax
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gp_jax.errors import UserError
from gp_jax.parallel import make_mesh
from gp_jax.parallel.processes import joined, on_first, process_rows


class Held:
    """A sharding of which this process has some of the devices."""

    def __init__(self, sharding, devices):
        self.sharding, self.devices = sharding, devices

    def addressable_devices_indices_map(self, shape):
        return {x: index for x, index in self.sharding.devices_indices_map(shape).items() if x.id in self.devices}


@given(
    order=st.permutations(range(8)),
    mesh=st.sampled_from([(8, 1, 1), (4, 2, 1), (2, 1, 4), (2, 2, 2), (1, 1, 8)]),
    axes=st.sampled_from([("data", "fsdp"), ("data",), ("fsdp", "data"), None]),
    held=st.sets(st.integers(0, 7), min_size=1),
    rows=st.sampled_from([8, 16, 24]),
)
@example(order=range(8), mesh=(8, 1, 1), axes=("data", "fsdp"), held={0, 2}, rows=16)  # rows 0-1 and 4-5
def test_a_process_brings_the_rows_of_its_devices_and_no_others(order, mesh, axes, held, rows):
    devices = np.array(jax.devices())[list(order)].reshape(mesh)
    sharding = NamedSharding(Mesh(devices, ("data", "fsdp", "context")), PartitionSpec(axes))
    wanted = {
        row
        for device, (index,) in sharding.devices_indices_map((rows,)).items()
        for row in range(rows)[index]
        if device.id in held
    }
    assert process_rows(Held(sharding, held), rows).tolist() == sorted(wanted)


def test_a_process_on_its_own_brings_everything():
    for mesh in ("data=8", "fsdp=4,data=2", "context=8"):
        sharding = NamedSharding(make_mesh(mesh, jax.devices()), PartitionSpec(("data", "fsdp")))
        assert process_rows(sharding, 16).tolist() == list(range(16))
    with joined(None):
        assert on_first(lambda: 5) == 5


@pytest.mark.parametrize("arguments", [(None, 2, 0), ("auto", 2, 0), ("here:1",), ("here:1", 2)])
def test_contradictions_are_refused(arguments):
    with pytest.raises(UserError, match="--coordinator"), joined(*arguments):
        pass
