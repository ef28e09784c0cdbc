"""The model as a method is named by all that its result depends on."""

import pytest

from gp_jax.checkpoint.folder import find_checkpoint
from gp_jax.cli.methods import ATTENTIONS
from gp_jax.errors import UserError
from gp_jax.methods.globalpaint.method import GlobalPaint
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.of_checkpoint import fingerprint
from gp_jax.models.attention import NAMES


def test_other_weights_are_another_method(tmp_path):
    for name in ("config.json", "unet/model.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"weights")
    prints = {fingerprint(tmp_path)}
    (tmp_path / "README.md").write_text("a card says nothing of the weights")
    assert fingerprint(tmp_path) in prints
    (tmp_path / "unet/model.safetensors").write_bytes(b"Weights")
    prints.add(fingerprint(tmp_path))
    (tmp_path / "unet").rename(tmp_path / "vae")
    prints.add(fingerprint(tmp_path))
    assert len(prints) == 3


def test_the_model_is_named_by_all_that_its_result_depends_on():
    settings = GlobalPaint("tiny").settings(Options(seed=3, steps=2))
    weights = fingerprint(find_checkpoint("tiny"))
    assert settings == {"checkpoint": "tiny", "weights": weights, "seed": 3, "steps": 2}


def test_a_checkpoint_that_is_not_there_is_named():
    with pytest.raises(UserError, match="no checkpoint nothing"):
        GlobalPaint("nothing")


def test_options_name_what_there_is():
    assert ATTENTIONS == NAMES
