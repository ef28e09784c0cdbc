"""A server that is asked without a network."""

import contextlib

import pytest
from starlette.testclient import TestClient

from gp_jax.web.choices import Offered
from gp_jax.web.server import Desk, make_app
from tests.video.conftest import encode, moving_picture


@pytest.fixture
def desk(tmp_path):
    with contextlib.closing(Desk(tmp_path / "kept", Offered.of(), most_bytes=2**19, most_frames=40)) as made:
        yield made


@pytest.fixture
def client(desk):
    return TestClient(make_app(desk, hosts=("testserver",)))


@pytest.fixture
def film(tmp_path):
    """film("name.mp4", frames=8) -> the path of a new file."""
    return lambda name="clip.mp4", frames=8, **options: encode(tmp_path / name, moving_picture(frames), **options)
