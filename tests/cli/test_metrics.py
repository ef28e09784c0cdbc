"""`gp-jax metrics` from files to numbers that say what they are."""

import json

import numpy as np
import pytest
from PIL import Image

from gp_jax.cli.main import main
from gp_jax.metrics.perceptual import load_lpips


@pytest.fixture
def clips(tmp_path):
    """A clip of 3 frames, 48x36, and one whose left 8 columns differ by 51 of 255."""
    video = np.random.default_rng(0).integers(0, 200, (3, 36, 48, 3), np.uint8)
    made = video.copy()
    made[:, :, :8] += 51
    for name, frames in (("true", video), ("made", made)):
        (tmp_path / name).mkdir()
        for index, frame in enumerate(frames):
            Image.fromarray(frame).save(tmp_path / name / f"{index}.png")
    return str(tmp_path / "true"), str(tmp_path / "made")


def test_every_number_says_what_it_is(clips, capsys):
    assert main(["metrics", *clips, "--pad", "8,0,0,0", "--metric", "psnr", "--json"]) == 0
    whole, unknown = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert unknown == unknown | {
        "metric": "psnr",
        "preset": "mean of frames",
        "region": "unknown",
        "resolution": "48x36",
        "clips": 1,
        "frames": 3,
    }
    np.testing.assert_allclose(
        [whole["value"], unknown["value"]], [20 * np.log10(5) + 10 * np.log10(6), 20 * np.log10(5)]
    )


def test_the_table_shows_the_same(clips, capsys):
    assert main(["metrics", *clips, "--metric", "psnr", "--metric", "seam"]) == 0
    head, psnr, seam = capsys.readouterr().out.splitlines()
    assert head.split() == ["metric", "preset", "region", "resolution", "N", "value"]
    assert "1 clip, 3 frames" in psnr and "21.761 ↑" in psnr
    assert seam.endswith("nothing to measure in this region")


def test_a_protocol_scales_and_measures_each_case(clips, capsys):
    assert main(["metrics", *clips, "--protocol", "m3ddm-256", "--metric", "psnr", "--json"]) == 0
    scores = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [score["region"] for score in scores] == ["whole", "unknown 0.25", "unknown 0.66"]
    assert {score["resolution"] for score in scores} == {"256x256"}


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--metric", "psrn"], "there is no metric psrn"),
        (["--pad", "30,30,0,0"], "--pad 30,30,0,0 leaves no pixel of a clip of 48x36"),
        (["--protocol", "m3ddm"], "invalid choice"),
        (["--pad", "1,1,1,1", "--protocol", "m3ddm-256"], "not allowed with"),
    ],
)
def test_mistakes_are_one_sentence(clips, arguments, sentence, capsys):
    assert main(["metrics", *clips, *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_missing_weights_are_named_with_their_command(clips, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GP_JAX_CACHE", str(tmp_path))
    load_lpips.cache_clear()
    assert main(["metrics", *clips, "--metric", "lpips"]) == 2
    assert "run `gp-jax fetch lpips-alex`" in capsys.readouterr().err
