"""What a call costs is seen while it runs, and forgotten afterwards."""

import time

import numpy as np

from gp_jax.evaluation.cost import measured


def test_time_and_memory_are_those_of_the_call():
    value, idle = measured(lambda: time.sleep(0.05) or "slept")
    assert value == "slept" and 0.05 <= idle.seconds < 1
    _, busy = measured(lambda: np.ones(2**28, np.uint8).sum())
    _, after = measured(lambda: None)
    assert busy.memory_of == "process"
    assert busy.peak_memory - idle.peak_memory > 2**27
    assert busy.peak_memory - after.peak_memory > 2**27
