"""No perceptual number without the published weights."""

import numpy as np
import pytest

from gp_jax.checkpoint.tensors import write_tensors
from gp_jax.errors import UserError
from gp_jax.published import weights


def test_missing_weights_are_named_with_the_command_that_fetches_them(monkeypatch, tmp_path):
    monkeypatch.setenv("GP_JAX_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"gp-jax fetch lpips-alex"):
        weights.load("lpips-alex")


def test_other_weights_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("GP_JAX_CACHE", str(tmp_path))
    write_tensors(weights.weights_path("lpips-vgg"), {"heads.0": np.zeros(64, np.float32)})
    with pytest.raises(UserError, match="does not hold the published weights"):
        weights.load("lpips-vgg")


def test_the_digest_sees_names_shapes_types_and_values_but_not_their_order():
    a, b = np.arange(6, dtype=np.float32), np.ones(2, np.float32)
    same = weights.digest({"a": a, "b": b})
    assert weights.digest({"b": b, "a": a}) == same
    others = [{"a": b, "b": a}, {"a": a.reshape(2, 3), "b": b}, {"a": a.view(np.int32), "b": b}, {"a": a + 1, "b": b}]
    assert same not in map(weights.digest, others)


def test_the_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("GP_JAX_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.cache_folder() == tmp_path / "gp_jax"
    monkeypatch.setenv("GP_JAX_CACHE", str(tmp_path / "own"))
    assert weights.cache_folder() == tmp_path / "own"
