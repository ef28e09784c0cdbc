"""Protocols are what they are called."""

import numpy as np
import pytest

from gp_jax.evaluation.protocols import PROTOCOLS
from gp_jax.metrics import METRICS


@pytest.mark.parametrize("name", PROTOCOLS)
def test_cases_hide_the_share_that_names_them(name):
    protocol = PROTOCOLS[name]
    regions = protocol.regions(protocol.height, protocol.width)
    assert len(regions) == 1 + len(protocol.cases)
    assert regions.pop("whole").all()
    for case, mask in zip(protocol.cases, regions.values()):
        np.testing.assert_allclose(mask.mean(), float(case), atol=1 / min(mask.shape))  # pixels are whole
        np.testing.assert_array_equal(mask, mask[::-1, ::-1])  # the source is in the middle
    assert set(protocol.metrics) <= METRICS.keys()


def test_the_protocol_of_the_field_is_horizontal_at_256():
    protocol = PROTOCOLS["m3ddm-256"]
    assert (protocol.height, protocol.width, list(protocol.cases)) == (256, 256, ["0.25", "0.66"])
    assert all(canvas.source_height == 256 for canvas in protocol.cases.values())
