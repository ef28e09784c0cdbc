"""Small runs: eight devices compile a step of these networks in seconds, and no program twice."""

import jax
import pytest

from tests.training import small


@pytest.fixture(scope="package", autouse=True)
def fast_compilation(tmp_path_factory):
    """Programs that several tests compile are compiled once, and in half the time: without most optimizations."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    """A folder of records of `small.SIZE`."""
    return small.write_records(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A small checkpoint, its weights random."""
    return small.write_checkpoint(tmp_path_factory.mktemp("checkpoint"))
