"""All that is offered has a name of its own, and can be used."""

import pytest

from gp_jax.checkpoint.folder import SHIPPED
from gp_jax.errors import UserError
from gp_jax.files import write_json
from gp_jax.web.choices import Offered


def test_paths_whose_last_part_others_have_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = ["W/1/checkpoint", "W/2/checkpoint", "my/tiny", "other"]
    for folder in folders:
        write_json(tmp_path / folder / "config.json", {"method": "motia"})
    files = ["a/ink.safetensors", "b/ink.safetensors", "b/dawn.safetensors"]
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    offered = Offered.of([*folders, "tiny"], files)
    assert offered.checkpoints.keys() == {"tiny", *folders} and offered.checkpoints["tiny"] == SHIPPED / "tiny"
    assert {name: str(path) for name, path in offered.loras.items()} == {
        "a/ink.safetensors": "a/ink.safetensors",
        "b/ink.safetensors": "b/ink.safetensors",
        "dawn.safetensors": "b/dawn.safetensors",
    }


@pytest.mark.parametrize("text, says", [("{", "cannot read"), ('{"method": "paint"}', "method is")])
def test_a_checkpoint_without_settings_is_refused(tmp_path, text, says):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=says) as told:
        Offered.of([str(tmp_path)])
    assert f"the checkpoint {tmp_path} cannot be offered" in str(told.value)
