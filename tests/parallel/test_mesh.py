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
        ("=8", "axis '' is unknown"),
        ("data=3", "does not fit"),
        ("data=16", "does not fit"),
        ("data=-1,fsdp=3", "does not fit"),
        ("data=-1,fsdp=16", "does not fit"),
        ("data=99999999999999999999999", "does not fit"),
        ("data=-1,fsdp=-1", "at most one"),
        ("data=-2,fsdp=-4", "positive"),
        ("data=-8", "positive"),
        ("data=-1,fsdp=-8", "positive"),
        ("data=0", "positive"),
        ("data=-1,fsdp=0", "positive"),
        ({"data": 8.0}, "whole"),
        ({"data": "8"}, "whole"),
        ("data=2,data=4", "twice"),
        ("data=4, fsdp=2,data=8", "twice"),
        ("data=8,data=-1", "twice"),
        ("data", "form"),
        ("data=x", "form"),
        ("data=8.0", "form"),
        ("data=2=4", "form"),
        ("data=8,", "form"),
        ("data=" + "9" * 5000, "form"),
        ("", "form"),
    ],
)
def test_what_does_not_fit_is_named(shape, word):
    with pytest.raises(UserError, match=word) as told:
        make_mesh(shape)
    assert len(str(told.value)) < 200 and "\n" not in str(told.value)
