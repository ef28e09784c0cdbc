"""What several commands share."""

import pytest


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Where processes of one number keep their compiled programs: the beginning of a folder's name."""
    return str(tmp_path_factory.mktemp("programs") / "of")
