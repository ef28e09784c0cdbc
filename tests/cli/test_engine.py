"""Jobs in processes of this machine; those on a Ray cluster are in test_on_ray.py."""

import os
import signal

import pytest

from gp_jax.cli.engine import Engine, share_out
from gp_jax.errors import UserError


def fall(number, done):
    if number:
        os.kill(os.getpid(), signal.SIGKILL)
    done(1)


def test_a_process_that_is_killed_is_one_sentence():
    with pytest.raises(UserError, match="a process was killed"):
        share_out(fall, [(0,), (1,)], Engine(processes=2), "jobs", 2)
