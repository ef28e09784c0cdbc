"""Small runs: eight devices compile a step of these networks in seconds."""

import jax
import pytest

from tests.training import small


@pytest.fixture(scope="package", autouse=True)
def fast_compilation():
    """Programs are compiled in half the time: without most optimizations."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    """A folder of records of `small.SIZE`."""
    return small.write_records(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A small checkpoint, its weights random."""
    return small.make_checkpoint(tmp_path_factory.mktemp("checkpoint"))
