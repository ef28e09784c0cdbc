"""Muted modules add nothing, and nothing else changes."""

import sys

import mute_modules
import numpy as np
import pytest

from gp_jax.checkpoint.tensors import read_tensors, write_tensors
from gp_jax.errors import UserError
from tests import small_networks


@pytest.fixture
def checkpoint(tmp_path):
    """With no parameter of zeros, as a trained one."""
    folder = small_networks.write(tmp_path / "checkpoint")
    for file in folder.glob("*unet/*.safetensors"):
        write_tensors(file, {name: np.ones(x.shape, x.dtype) for name, x in read_tensors(file).items()})
    return folder


def muted(checkpoint, modules, monkeypatch):
    target = checkpoint.parent / modules
    monkeypatch.setattr(sys, "argv", ["tool", str(checkpoint), str(target), "--modules", modules])
    mute_modules.main(mute_modules.parse())
    return target


@pytest.mark.parametrize(
    ("modules", "names"),
    [
        ("temporal", {"temporal.convolution", "space_time.temporal.output"}),
        ("windows", {"space_time.windowed.output"}),
        ("tokens", {"spatial.cross_attention.global_value"}),
    ],
)
def test_the_last_layers_of_the_modules_are_zero(checkpoint, monkeypatch, modules, names):
    target = muted(checkpoint, modules, monkeypatch)
    files = sorted(target.glob("*unet/*.safetensors"))
    assert len(files) == 2
    for file in files:
        before, after = read_tensors(checkpoint / file.relative_to(target)), read_tensors(file)
        zero = {name for name, x in after.items() if not np.asarray(x).any()}
        assert zero == {name for name in before if any(f"{part}." in name for part in names)} != set()
        assert all(np.array_equal(before[name], after[name]) for name in before.keys() - zero)


def test_a_target_within_the_checkpoint_is_refused(checkpoint, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tool", str(checkpoint), str(checkpoint / "muted"), "--modules", "windows"])
    with pytest.raises(UserError, match="choose a folder elsewhere"):
        mute_modules.main(mute_modules.parse())
    assert not (checkpoint / "muted").exists()


def test_a_network_without_such_modules_is_told(checkpoint, monkeypatch):
    for file in checkpoint.glob("*unet/*.safetensors"):
        write_tensors(file, {"conv_in.bias": np.ones(3, np.float32)})
    with pytest.raises(UserError, match="has no windows: there is nothing to mute"):
        muted(checkpoint, "windows", monkeypatch)
    assert not (checkpoint.parent / "windows").exists()
