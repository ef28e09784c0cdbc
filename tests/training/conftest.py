"""Small runs: eight devices compile a step of these networks in seconds."""

import pytest

from tests import small_m3ddm
from tests.training import small


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    """A folder of records of `small.SIZE`."""
    return small.write_records(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A small checkpoint, its weights random."""
    return small.make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def windows(tmp_path_factory):
    """A folder of records of `small.WINDOW`."""
    return small.write_records(tmp_path_factory.mktemp("windows"), size=small.WINDOW)


@pytest.fixture(scope="session")
def m3ddm(tmp_path_factory):
    """A small checkpoint of M3DDM, its weights random."""
    return small_m3ddm.write(tmp_path_factory.mktemp("m3ddm") / "ours")
