"""From a foreign checkpoint to a video: the commands, one after the other."""

import numpy as np
import pytest
from PIL import Image

from gp_jax.checkpoint.components import COMPONENTS
from gp_jax.cli import convert as command
from gp_jax.cli.main import main
from gp_jax.convert import known
from gp_jax.convert.writers import WRITERS
from gp_jax.files import read_json, write_json
from tests.convert import references


def test_a_converted_stable_diffusion_2_outpaints_by_a_prompt(tmp_path, capsys):
    """Random weights, small widths: the path is what counts."""
    references.save_pipeline(tmp_path / "theirs")
    references.vision_tower().save_pretrained(tmp_path / "vision")
    ours = tmp_path / "ours"
    assert main(["convert", str(tmp_path / "theirs"), str(ours)]) == 0
    assert main(["convert", str(tmp_path / "vision"), str(ours)]) == 0
    printed = capsys.readouterr().out
    for part in ("unet", "global_tokens", "initialised", f"written to {ours}"):
        assert part in printed
    settings = read_json(ours / "config.json")
    write_json(ours / "config.json", settings | {"native_area": 16 * 24, "segment_frames": 3, "steps": 2})

    rng = np.random.default_rng(0)
    (tmp_path / "frames").mkdir()
    for i in range(3):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "frames" / f"{i}.png")
    for name, prompt in (("a", "a cat"), ("b", "a b c")):
        arguments = [str(tmp_path / "frames"), str(tmp_path / name), "--aspect", "3:2", "--checkpoint", str(ours)]
        assert main(["outpaint", *arguments, "--prompt", prompt]) == 0, capsys.readouterr().err
    videos = [[np.asarray(Image.open(f)) for f in sorted((tmp_path / name).iterdir())] for name in ("a", "b")]
    assert [frame.shape for frame in videos[0]] == [(16, 24, 3)] * 3
    assert not np.array_equal(*videos), "the prompt does not matter"


@pytest.mark.parametrize(
    "arguments",
    [[], ["source"], ["source", "dest", "--describe"], ["source", "dest"], ["source", "dest", "--only", "head"]],
)
def test_mistakes_are_one_sentence_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *arguments]) == 2
    printed = capsys.readouterr()
    assert not printed.out and printed.err.startswith("gp-jax: ") and printed.err.count("\n") == 1


@pytest.mark.parametrize("source", [(), ("tiny",)])
@pytest.mark.parametrize(
    "option",
    [
        "--to ldm",
        "--dtype float16",
        "--raw-weights",
        "--tokenizer x",
        "--vae x",
        "--prediction-type epsilon",
        "--seed 1",
    ],
)
def test_what_a_description_has_no_use_for_is_refused(capsys, source, option):
    assert main(["convert", "--describe", *source, *option.split()]) == 2
    assert f"--describe takes no {option.split()[0]}: leave it out" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--only unet", "--motion x"])
def test_what_only_a_source_has_is_refused_without_one(capsys, option):
    assert main(["convert", "--describe", *option.split()]) == 2
    assert f"--describe without SOURCE takes no {option.split()[0]}: leave it out" in capsys.readouterr().err


def test_known_models_are_counted(monkeypatch, capsys):
    """The image networks have as many parameters as their originals are known to have."""
    sd1, sd2 = known.KNOWN["stable-diffusion-inpainting"], known.KNOWN["stable-diffusion-2-inpainting"]
    monkeypatch.setattr(known, "KNOWN", {"a": sd2, "b": {"text": sd1["text"]}})
    assert main(["convert", "--describe"]) == 0
    printed = capsys.readouterr().out
    for part in ("865.9 M loaded (686 tensors)", "83.7 M loaded", "340.4 M loaded", "632.1 M loaded", "123.1 M loaded"):
        assert part in printed
    assert "tiny" in printed and "new: stride_embedding (4 tensors, 2.1 M)" in printed


def test_help_names_what_exists():
    assert set(command.FORMATS) == WRITERS.keys() and set(command.COMPONENTS) == COMPONENTS.keys()
