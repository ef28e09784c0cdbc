"""Meshes: every axis is always there, and sizes that don't fit are refused in words."""

import jax
import pytest

from gp_jax.errors import UserError
from gp_jax.parallel import AXES, make_mesh


@pytest.mark.parametrize(
    "shape, sizes",
    [
        ("data=2,context=4", (2, 1, 1, 4)),
        ("fsdp=-1, tensor=2", (1, 4, 2, 1)),
        ({"tensor": 8}, (1, 1, 8, 1)),
        (None, (8, 1, 1, 1)),
    ],
)
def test_all_axes_exist_and_multiply_to_the_devices(shape, sizes):
    mesh = make_mesh(shape)
    assert mesh.axis_names == AXES
    assert mesh.devices.shape == sizes


def test_a_mesh_of_some_devices():
    assert make_mesh("data=2", jax.devices()[:2]).size == 2


@pytest.mark.parametrize(
    "shape, word",
    [
        ("model=8", "model"),
        ("data=3", "does not fit"),
        ("data=-1,fsdp=-1", "at most one"),
        ("data=0", "positive"),
        ("data", "form"),
        ("data=x", "form"),
    ],
)
def test_what_does_not_fit_is_named(shape, word):
    with pytest.raises(UserError, match=word):
        make_mesh(shape)
