"""Which rows a process brings, and what it takes to find the others."""

import jax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from gp_jax.errors import UserError
from gp_jax.parallel import make_mesh
from gp_jax.parallel.processes import process_share, start


class Rows:
    """A sharding of which this process has some devices."""

    def __init__(self, *spans):
        self.spans = spans

    def addressable_devices_indices_map(self, shape):
        return {number: (slice(*span),) for number, span in enumerate(self.spans)}


@pytest.mark.parametrize(
    "spans, share",
    [
        ([(0, 4), (4, 8)], (0, 2)),
        ([(12, 16), (8, 12)], (1, 2)),
        ([(8, 12), (8, 12)], (2, 4)),
        ([(None, None), (None, None)], (0, 1)),
    ],
    ids=["first half", "second half", "a quarter, on two devices", "all"],
)
def test_a_process_brings_the_rows_of_its_devices(spans, share):
    assert process_share(Rows(*spans), 16) == share


def test_a_process_on_its_own_brings_everything():
    for mesh in ("data=8", "fsdp=4,data=2", "context=8"):
        sharding = NamedSharding(make_mesh(mesh, jax.devices()), PartitionSpec(("data", "fsdp")))
        assert process_share(sharding, 16) == (0, 1)
    start(None)


@pytest.mark.parametrize("arguments", [(None, 2, 0), ("auto", 2, 0), ("here:1",), ("here:1", 2)])
def test_contradictions_are_refused(arguments):
    with pytest.raises(UserError, match="--coordinator"):
        start(*arguments)
