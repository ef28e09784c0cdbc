"""All that is offered has a name of its own."""

from gp_jax.checkpoint.folder import SHIPPED
from gp_jax.files import write_json
from gp_jax.web.choices import Offered


def test_paths_whose_last_part_others_have_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = ["W/1/checkpoint", "W/2/checkpoint", "my/tiny", "other"]
    for folder in folders:
        write_json(tmp_path / folder / "config.json", {})
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
