"""`gp-jax outpaint --path`, `--stabilize` and `--mask` on a real clip, into a file that loses nothing."""

import numpy as np
import pytest

from gp_jax.cli.main import main
from gp_jax.jobs.comparison import GREY
from gp_jax.video import VideoReader
from tests import small_networks

SOURCE, WIDTH, HEIGHT = "sample:carphone", 212, 168  # of 176 x 144
PATH = [(2 * t, 24 - 3 * t) for t in range(8)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return small_networks.write(tmp_path_factory.mktemp("checkpoint"))


def outpaint(checkpoint, out, count, *more):
    """The first frames, before and after."""
    words = ["outpaint", SOURCE, str(out), "--checkpoint", str(checkpoint), "--frames", f"0:{count}", "--codec", "ffv1"]
    assert main([*words, *more]) == 0
    return list(VideoReader(SOURCE).frames_at(range(count))), list(VideoReader(out))


@pytest.mark.parametrize("detail", ["none", "source"])
def test_the_pixels_of_a_source_that_moves_are_exact(tmp_path, checkpoint, detail):
    (tmp_path / "path.csv").write_text("".join(f"{x},{y}\n" for x, y in PATH))
    asked = ["--size", f"{WIDTH}x{HEIGHT}", "--path", str(tmp_path / "path.csv"), "--compare", "--detail", detail]
    source, made = outpaint(checkpoint, tmp_path / "out.mkv", len(PATH), *asked)
    for frame, own, beside, (x, y) in zip(made, source, VideoReader(tmp_path / "out-compare.mkv"), PATH, strict=True):
        place = slice(y, y + 144), slice(x, x + 176)
        np.testing.assert_array_equal(frame[place], own)
        there, result, difference = np.split(beside, 3, axis=1)
        np.testing.assert_array_equal(result, frame)
        np.testing.assert_array_equal(there[place], own)
        assert not difference[place].any(), "black: the source is as it was"
        seen = np.zeros((HEIGHT, WIDTH), bool)
        seen[place] = True
        assert (there[~seen] == GREY).all() and (difference[~seen] == GREY).all()


def test_a_steadied_clip_is_its_source_but_for_its_borders(tmp_path, checkpoint):
    source, made = outpaint(checkpoint, tmp_path / "out.mkv", 16, "--stabilize", "--compare")
    there = [beside[:, :176] for beside in VideoReader(tmp_path / "out-compare.mkv")]
    for frame, own, shown in zip(made, source, there, strict=True):
        seen = (shown != GREY).any(axis=-1)
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        part = frame[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        shifts = [(y, x) for y in range(145 - len(part)) for x in range(177 - part.shape[1])]
        assert any(np.array_equal(own[y : y + len(part), x : x + part.shape[1]], part) for y, x in shifts)
    assert any((shown == GREY).all(axis=-1).any() for shown in there), "its camera moves"
