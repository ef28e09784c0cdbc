"""`gp-jax evaluate` in processes that cut the parameters between them: the numbers of one, written once."""

import dataclasses
import functools
import re

import numpy as np
import pytest

from gp_jax.cli.main import main
from gp_jax.evaluation.results import Results
from gp_jax.video.clips import read_clip
from tests import small_networks
from tests.evaluation import small_protocol
from tests.parallel import together

# What is measured and made: two clips together, and one, of each case; `now` is when the third job begins.
COUNTED = """
import jax, pytest
from flax import nnx
from gp_jax.evaluation import harness
from gp_jax.methods.latent_job import LatentJob
from tests.evaluation import small_protocol
small_protocol.install(pytest.MonkeyPatch())
scored, made, cut = [], [], []
score, frames = harness.score, LatentJob.frames
def counted(*arguments):
    scored.append(0)
    score(*arguments)
def watched(self, *arguments):
    made.append(0)
    cut[:] = jax.tree.leaves(nnx.state(self.vae, nnx.Param))
    if len(made) == 3:
        now()
    return frames(self, *arguments)
harness.score, LatentJob.frames = counted, watched
"""
TOLD = """
print(len(made), "made,", len(scored), "scored,", sum(not x.is_fully_replicated for x in cut), "cut")
"""
several = functools.partial(together.commands, before=COUNTED, after=TOLD)


@pytest.fixture(scope="module")
def request_of(tmp_path_factory):
    """request_of(OUTPUT, ...) -> the arguments of the command, without those of a mesh."""
    folder = tmp_path_factory.mktemp("request")
    checkpoint = small_networks.write(folder / "checkpoint")
    data = small_protocol.write_clips(folder / "clips")

    def arguments(output, *more):
        asked = ["--protocol", "small", "--dataset", "folder", "--data", data, "--output", output, "--frames", "7"]
        return ["evaluate", *asked, "--method", "globalpaint,edge", "--checkpoint", checkpoint, *more]

    return arguments


@pytest.fixture(scope="module")
def one(request_of, tmp_path_factory, cache):
    """What one process with both devices leaves."""
    output = tmp_path_factory.mktemp("one") / "out"
    request = [*request_of(output), "--mesh", "fsdp=2"]
    run = together.command(request, cache, "one", devices=2, before=COUNTED, after=TOLD)
    (end,) = together.wait([run], 900)
    assert end.code == 0 and "4 made, 12 scored" in end.printed, end
    return Results(output)


def same(output, one, levels=0):
    """Frames and scores, which a mesh of other devices measures in another order of sums."""
    results = Results(output)
    assert results.manifest.methods == one.manifest.methods
    for case in small_protocol.CASES:
        for clip in small_protocol.CLIPS:
            made, expected = (read_clip(each.generated("globalpaint", case, clip)) for each in (results, one))
            assert np.abs(made.astype(int) - expected).max() <= levels
    for score, expected in zip(results.scores(), one.scores(), strict=True):
        assert dataclasses.replace(score, value=None) == dataclasses.replace(expected, value=None)
        if expected.value is not None:
            np.testing.assert_allclose(score.value, expected.value, rtol=1e-2 if levels else 1e-5)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("count, mesh", [(2, "fsdp=2"), (4, "fsdp=2,tensor=2")])
def test_processes_give_the_numbers_of_one(request_of, one, cache, tmp_path, count, mesh):
    ends = several(request_of(tmp_path / "out"), cache, mesh, count)
    assert [end.code for end in ends] == [0] * count, ends
    assert same(tmp_path / "out", one, levels=count // 4)
    assert "4 made, 12 scored" in ends[0].printed and "report.html" in ends[0].printed, ends
    for end in ends:
        assert int(re.search(r"(\d+) cut", end.printed)[1]) > 20, end
    for end in ends[1:]:
        assert "4 made, 0 scored" in end.printed and "PSNR" not in end.printed, end


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
def test_what_a_kill_ends_goes_on(request_of, one, cache, tmp_path, who):
    ends = several(request_of(tmp_path / "out"), cache, who=who, does="os.kill(os.getpid(), 9)")
    assert ends[who].code == -9 and ends[1 - who].code not in (0, -9), ends
    assert "has died or cannot be reached" in ends[1 - who].printed and ends[1 - who].seconds < 90, ends
    assert not (tmp_path / "out" / "scores.jsonl").exists()
    ends = several(request_of(tmp_path / "out"), cache)
    assert [end.code for end in ends] == [0, 0] and all("2 made," in end.printed for end in ends), ends
    assert same(tmp_path / "out", one)


@pytest.mark.slow
def test_all_wait_for_one_that_is_slow_and_a_problem_shows_in_all_exit_codes(request_of, one, cache, tmp_path):
    (tmp_path / "motia" / "0.5").mkdir(parents=True)
    request = request_of(tmp_path / "out", "--method", f"folder:{tmp_path / 'motia'}")
    ends = several(request, cache, who=1, does=f"time.sleep({3 * together.PATIENCE})")
    assert [end.code for end in ends] == [1, 1] and "motia has no output" in ends[0].printed, ends
    scores = [score for score in Results(tmp_path / "out").scores() if score.method != "motia"]
    assert [score.value is None for score in scores] == [score.value is None for score in one.scores()]


@pytest.mark.slow
def test_both_end_with_one_sentence_where_one_cannot_begin(request_of, cache, tmp_path):
    """Too many steps, which both find; a folder that process 0 alone looks at; another command."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "own").touch()
    request = request_of(tmp_path / "new")
    for arguments, others, says in (
        ([*request, "--steps", "1001"], (), "1001"),
        (request_of(tmp_path / "there"), (), "holds no evaluation"),
        (request, [*request, "--seed", "3"], "another command"),
    ):
        ends = several(arguments, cache, others=others)
        assert [end.code for end in ends] == [2, 2], ends
        assert all(says in end.printed and end.printed.count("gp-jax: ") == 1 for end in ends), ends
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "more, says",
    [
        ([], "give --mesh too, or share clips by --shard"),
        (["--shard", "0/2"], "give --mesh too, or share clips by --shard"),
        (["--mesh", "fsdp=2", "--num-processes", "2"], "goes with --num-processes and --process-id"),
    ],
)
def test_what_cannot_be_shared_is_refused(request_of, tmp_path, capsys, monkeypatch, more, says):
    small_protocol.install(monkeypatch)
    request = map(str, request_of(tmp_path / "out"))
    assert main([*request, "--coordinator", "127.0.0.1:1", *more]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and not (tmp_path / "out").exists()
