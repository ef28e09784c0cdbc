"""However an evaluation comes about, it gives the same numbers; and no output is averaged away."""

import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.evaluation.harness import Contender, evaluate, open_clips
from gp_jax.evaluation.protocols import PROTOCOLS
from gp_jax.evaluation.report import write_report
from gp_jax.evaluation.results import MEAN, Manifest, Results, add_to_manifest
from gp_jax.methods.classical import Classical, mirror
from gp_jax.methods.registry import load
from gp_jax.metrics.score import measure, pair_up
from gp_jax.parallel import make_mesh
from gp_jax.published import weights
from tests.evaluation import small_protocol
from tests.evaluation.small_protocol import CASES, CLIPS, PROTOCOL

NAMES = ("edge", "mirror")


@pytest.fixture(autouse=True)
def protocol(monkeypatch):
    small_protocol.install(monkeypatch)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_protocol.write_clips(tmp_path_factory.mktemp("data") / "clips")


def entered(*names, **others):
    """Contenders by name; of the others the name in the registry is given."""
    return {label: Contender(load(name)) for label, name in ({name: name for name in names} | others).items()}


def run(output: Path, data: Path, names=NAMES, **options):
    methods = {"methods": entered(*names)}
    return evaluate(output, protocol="small", dataset="folder", data=data, **methods | options)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """An evaluation that ran through at once."""
    output = tmp_path_factory.mktemp("whole") / "out"
    with pytest.MonkeyPatch.context() as monkeypatch:
        small_protocol.install(monkeypatch)
        assert run(output, data) == (True, [])
    return output


def numbers(output: Path) -> tuple[str, str]:
    return tuple((output / name).read_text() for name in ("results.jsonl", "scores.jsonl"))


def test_everything_has_its_line(whole):
    results = Results(whole)
    assert results.manifest.clips == dict(sorted(CLIPS.items()))
    lines = {(r.method, r.case, r.clip, r.metric, r.region): r for r in results.results()}
    frames = {"psnr": 0, "ssim": 0, "seam": 0, "flicker": 1}
    assert len(lines) == len(NAMES) * len(CASES) * len(CLIPS) * len(frames) * 2
    for (_, _, clip, metric, region), line in lines.items():
        assert (line.frames, len(line.per_frame)) == (CLIPS[clip], CLIPS[clip] - frames[metric])
        if (metric, region) == ("seam", "whole"):
            assert line.value is None and "nothing to measure" in line.note
        else:
            np.testing.assert_allclose(line.value, np.mean(line.per_frame), rtol=1e-12)
    scores = results.scores()
    assert len(scores) == len(NAMES) * (len(CASES) + 1) * len(PROTOCOL.metrics) * 2
    assert {(s.clips, s.frames, s.resolution) for s in scores} == {(3, 51, "48x36")}
    assert {s.preset for s in scores if s.metric == "fvd" and "only 3 clips" in s.note} == {"videogpt"}
    timings = results.timings()
    assert len(timings) == len(NAMES) * len(CASES) * len(CLIPS)
    assert sum(timing.first for timing in timings) == len(NAMES) * len(CASES)
    assert min(timing.seconds for timing in timings) > 0 and min(timing.peak_memory for timing in timings) > 2**20


def test_a_smaller_number_of_clips_made_together_counts_as_a_first_one(data, tmp_path, monkeypatch):
    """Of three clips two are the first, and the third one alone is another shape to compile."""
    monkeypatch.setattr(Contender, "at_once", lambda self, frames, canvas: 2)
    run(tmp_path / "out", data, ["edge"], metrics=["psnr"])
    assert [timing.first for timing in Results(tmp_path / "out").timings()] == [True] * len(CLIPS) * len(CASES)


def test_scores_are_those_of_gp_jax_metrics(whole):
    scores = {(s.metric, s.region): s.value for s in Results(whole).scores() if (s.method, s.case) == ("edge", "0.5")}
    pairs = pair_up(whole / "reference", whole / "generated" / "edge" / "0.5")

    def regions(height, width):
        mask = np.ones((height, width), np.float32)
        unknown = mask.copy()
        unknown[CASES["0.5"].observed] = 0
        return {"whole": mask, "unknown": unknown}

    for score in measure(pairs, PROTOCOL.metrics, regions):
        if score.value is None:
            assert scores[score.metric, score.region] is None
        else:
            np.testing.assert_allclose(scores[score.metric, score.region], score.value, rtol=1e-5)


def test_the_mean_of_cases_is_their_mean(whole):
    scores = {(s.case, s.region): s.value for s in Results(whole).scores() if (s.method, s.metric) == ("mirror", "fvd")}
    for region in ("whole", "unknown"):
        np.testing.assert_allclose(scores[MEAN, region], np.mean([scores[case, region] for case in CASES]))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_shards_merge_to_the_whole(whole, data, tmp_path, order):
    ends = [run(tmp_path / "out", data, shard=(k, 3)) for k in order]
    assert [end.finished for end in ends] == [False, False, True]
    assert numbers(tmp_path / "out") == numbers(whole)


def test_a_mesh_changes_nothing(whole, data, tmp_path):
    run(tmp_path / "out", data, names=("edge",), mesh=make_mesh("data=2,context=4"))
    expected = [s for s in Results(whole).scores() if s.method == "edge"]
    for score, other in zip(Results(tmp_path / "out").scores(), expected, strict=True):
        assert dataclasses.replace(score, value=None) == dataclasses.replace(other, value=None)
        if other.value is not None:
            np.testing.assert_allclose(score.value, other.value, rtol=1e-6 if score.metric != "fvd" else 1e-5)


def test_methods_can_be_added_and_what_is_there_is_kept(whole, data, tmp_path):
    run(tmp_path / "out", data, names=("edge",))
    frame = tmp_path / "out" / "generated" / "edge" / "0.5" / "pond" / "000000.png"
    before = frame.stat().st_mtime_ns
    run(tmp_path / "out", data, names=("mirror",))
    assert numbers(tmp_path / "out") == numbers(whole)
    assert frame.stat().st_mtime_ns == before


def test_interrupted_at_any_file_it_ends_the_same(whole, data, tmp_path, monkeypatch):
    """Each run ends at its seventh new file, the evaluation still comes to its end."""
    runs = 0

    def interrupted(rename):
        def interrupt(*names):
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            rename(*names)

        return interrupt

    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, interrupted(getattr(os, name)))
    finished = False
    while not finished:
        left, runs = 7, runs + 1
        try:
            finished = run(tmp_path / "out", data).finished
        except KeyboardInterrupt:
            continue
    assert runs > 5
    assert numbers(tmp_path / "out") == numbers(whole)


SCRIPT = """
import sys, pytest
from pathlib import Path
from tests.evaluation import small_protocol
from tests.evaluation.test_harness import run
small_protocol.install(pytest.MonkeyPatch())
print("ready", flush=True)
run(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_killed_it_ends_the_same(whole, data, tmp_path):
    output = tmp_path / "out"
    for files in (5, 150):
        environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
        command = [sys.executable, "-c", SCRIPT, output, data]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            # os.walk passes over folders that are renamed meanwhile.
            while process.poll() is None and sum(len(names) for *_, names in os.walk(output)) < files:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert not (output / "scores.jsonl").exists()
    run(output, data)
    assert numbers(output) == numbers(whole)
    assert not list(output.rglob(".*")), "what was half-written is swept, and locks are gone"


HOLD = """
import sys
from gp_jax.evaluation.results import Results, claimed
with claimed(Results(sys.argv[1]), ({}, {})):
    print("has it", flush=True)
    input()
"""


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        ((0, 1), (0, 1), True),
        ((0, 2), (0, 2), True),
        ((0, 2), (0, 1), True),
        ((0, 1), (1, 2), True),
        ((0, 2), (1, 2), False),
    ],
)
def test_two_programs_do_not_do_the_same_work(data, tmp_path, first, second, refused):
    command = [sys.executable, "-c", HOLD.format(*first), tmp_path / "out"]
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    told = pytest.raises(UserError, match="in use by process") if refused else contextlib.nullcontext()
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"has it\n"
        with told:
            run(tmp_path / "out", data, names=("edge",), clips=["pond"], frames=3, shard=second)
        assert (tmp_path / "out" / "manifest.json").exists() != refused
        process.communicate(b"\n")
    run(tmp_path / "out", data, names=("edge",), clips=["pond"], frames=3, shard=second)


@pytest.fixture
def others(whole, tmp_path):
    """Outputs of another system that are the truth itself."""
    for case in CASES:
        shutil.copytree(whole / "reference", tmp_path / "others" / case)
    return tmp_path / "others"


def test_the_truth_has_the_best_scores(others, data, tmp_path):
    (others / "0.5" / "pond" / "thumbnails").mkdir()
    (others / "0.5" / "pond" / "link").symlink_to("nowhere")
    outcome = run(tmp_path / "out", data, methods=entered(others=f"folder:{others}"))
    assert outcome == (True, [])
    values = {(s.metric, s.region, s.case): s.value for s in Results(tmp_path / "out").scores()}
    for (metric, region, _), value in values.items():
        if (metric, region) != ("seam", "whole"):
            np.testing.assert_allclose(value, {"psnr": 100, "ssim": 1}.get(metric, 0), atol=1e-5)


def test_outputs_for_a_single_case_may_lie_in_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "single", dataclasses.replace(PROTOCOL, cases={"0.5": CASES["0.5"]}))
    methods = {"motia": {"folder": str(tmp_path / "motia")}}
    add_to_manifest(Results(tmp_path / "out"), Manifest("single", "folder", "/clips", CLIPS, methods, {}))
    for place in (tmp_path / "motia" / "pond", tmp_path / "motia" / "0.5" / "pond"):
        place.mkdir(parents=True)
        assert Results(tmp_path / "out").generated("motia", "0.5", "pond") == place


def remove(clip: Path) -> None:
    shutil.rmtree(clip)


def cut(clip: Path) -> None:
    (clip / "000016.png").unlink()


def shrink(clip: Path) -> None:
    shutil.rmtree(clip)
    with small_protocol.VideoWriter(clip, 24) as writer:
        for _ in range(CLIPS["pond"]):
            writer.write(np.zeros((16, 20, 3), np.uint8))


@pytest.mark.parametrize(
    "damage, sentence", [(remove, "no output"), (cut, "has 16 frames.*has 17"), (shrink, "20x16.*48x36")]
)
def test_an_output_that_does_not_match_is_named_and_costs_the_score(others, data, tmp_path, damage, sentence):
    damage(others / "0.5" / "pond")
    outcome = run(tmp_path / "out", data, methods=entered("edge", others=f"folder:{others}"))
    (problem,) = outcome.problems
    assert re.search(f"pond.*{sentence}", problem)
    scores = [s for s in Results(tmp_path / "out").scores() if s.method == "others"]
    for score in scores:
        assert (score.value is None) == (score.case != "0.3" or (score.metric, score.region) == ("seam", "whole"))
        assert score.case == "0.3" or problem in score.note
    assert all(s.value for s in Results(tmp_path / "out").scores() if s.method == "edge" and s.metric == "psnr")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_shards_end_though_an_output_is_missing(others, data, tmp_path, order):
    """Whoever ends last tells of all problems, its own or not."""
    for clip in ("pond", "reed"):  # of different shards
        shutil.rmtree(others / "0.5" / clip)
    ends = [run(tmp_path / "out", data, methods=entered(others=f"folder:{others}"), shard=(k, 2)) for k in order]
    assert [(end.finished, len(end.problems)) for end in ends] == [(False, 1), (True, 2)]
    notes = {s.note for s in Results(tmp_path / "out").scores() if s.case == "0.5"}
    assert notes == {"; ".join(ends[-1].problems)}


def test_a_mended_output_is_measured_anew(others, data, tmp_path):
    clip = others / "0.5" / "pond"
    keep = shutil.move(clip, tmp_path / "right")
    shutil.copytree(keep, clip)
    shutil.copy(clip / "000003.png", clip / "000004.png")
    methods = entered(others=f"folder:{others}")
    run(tmp_path / "out", data, methods=methods)
    assert next(s.value for s in Results(tmp_path / "out").scores() if s.metric == "psnr") < 100
    shutil.copy(keep / "000004.png", clip / "000004.png")
    run(tmp_path / "out", data, methods=methods)
    assert {s.value for s in Results(tmp_path / "out").scores() if s.metric == "psnr"} == {100}


class Seeded(Classical):
    def settings(self, options):
        return {"seed": 1}


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"frames": 9}, r"other clips \(heron: 18 there, 9 now\): repeat that, or choose another folder"),
        ({"clips": ["pond"]}, r"other clips \(heron: 18 there, nothing now\)"),
        ({"metrics": ["psnr"]}, "another metrics|other metrics"),
        ({"clips": ["pend"]}, "no clip pend: it has 3, pond among them"),
        (
            {"methods": {"edge": Contender(Seeded("edge", mirror().make))}},
            r"edge with other settings \(seed: nothing there, 1 now\)",
        ),
        ({"methods": {"mean": Contender(load("edge"))}}, "the name 'mean'"),
    ],
)
def test_another_evaluation_does_not_go_into_the_same_folder(whole, data, change, sentence):
    before = numbers(whole)
    with pytest.raises(UserError, match=sentence):
        run(whole, data, **change)
    assert numbers(whole) == before


class Picky(Classical):
    def prepare(self, clip, canvas, options, work=None):
        raise UserError(f"picky about {len(clip)} frames of {canvas.source_width}x{canvas.source_height}")


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"protocol": "large"}, "no protocol large: choose of"),
        ({"dataset": "movies"}, "no data set movies: choose of"),
        ({"metrics": ["psnr", "vmaf"]}, "no metric vmaf: choose of psnr, "),
        ({"methods": {"..": Contender(load("edge"))}}, "the name '..'"),
        ({"methods": {"a/b": Contender(load("edge"))}}, "the name 'a/b'"),
        ({"methods": {"picky": Contender(Picky("edge", mirror().make))}}, "picky about 18 frames of 24x36"),
    ],
)
def test_what_cannot_be_done_is_known_before_anything_is_written(data, tmp_path, change, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate(tmp_path / "out", **{"protocol": "small", "dataset": "folder", "data": data, "methods": {}} | change)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["/etc/cron.d", "../../secret", "a/b", "..", "a.b", ".hidden", "x" * 201, "a\x07b"])
def test_a_list_cannot_lead_out_of_the_folders(tmp_path, name):
    lists = tmp_path / "data" / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "train.txt").touch()
    (lists / "val.txt").write_text(f"{name}\n")
    with pytest.raises(UserError) as caught:
        evaluate(tmp_path / "out", protocol="small", dataset="davis", data=tmp_path / "data", methods={})
    assert repr(name) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_name_that_is_not_asked_for_may_be_anything(data, tmp_path):
    clips = shutil.copytree(data, tmp_path / "clips")
    shutil.copytree(clips / "pond", clips / "p.nd")
    assert list(open_clips("small", "folder", clips, ["pond"])) == ["pond"]
    with pytest.raises(UserError, match=r"clip 'p.nd' must be named anew"):
        open_clips("small", "folder", clips)


def test_an_evaluation_by_an_unknown_protocol_is_told(data, tmp_path):
    run(tmp_path, data)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"small"', '"m3ddm-8"'))
    with pytest.raises(UserError, match="names a protocol that this version has not"):
        Results(tmp_path).protocol  # noqa: B018


def test_a_folder_of_something_else_is_left_alone(data, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds no evaluation"):
        run(tmp_path, data)
    for other in ('{"shards": {}}', '{"protocol": "small"}'):  # of records; of an evaluation, with too little in it
        (tmp_path / "manifest.json").write_text(other)
        with pytest.raises(UserError, match=r"manifest.json is not of an evaluation: choose another folder"):
            run(tmp_path, data)


def test_a_part_that_does_not_say_what_of_is_measured_anew(data, tmp_path):
    for _ in range(2):
        run(tmp_path / "out", data, names=("edge",), clips=["pond"], frames=2, metrics=["psnr"])
        assert all(score.value for score in Results(tmp_path / "out").scores())
        Results(tmp_path / "out").part("scores", "edge", "0.5", "pond").write_text("{}")


def test_a_method_must_keep_observed_pixels(data, tmp_path):
    method = Contender(Classical("half", lambda frames, canvas: (x // 2 for x in mirror().make(frames, canvas))))
    with pytest.raises(ValueError, match="half changed observed pixels"):
        run(tmp_path / "out", data, methods={"half": method})


def test_chosen_metrics_alone_are_measured_and_need_no_others_weights(data, tmp_path, monkeypatch):
    def missing(name):
        raise UserError(f"the weights of {name} are not there")

    monkeypatch.setattr(weights, "load", missing)
    with pytest.raises(UserError, match="the weights of i3d"):
        run(tmp_path / "out", data)
    assert run(tmp_path / "out", data, metrics=["ssim", "psnr"]) == (True, [])
    assert {score.metric for score in Results(tmp_path / "out").scores()} == {"ssim", "psnr"}
    assert [path.suffix for path in write_report(Results(tmp_path / "out"))] == [".md", ".csv", ".html"]


def test_short_clips_have_no_fvd_and_say_so(data, tmp_path):
    run(tmp_path / "out", data, names=("edge",), frames=5)
    for score in Results(tmp_path / "out").scores():
        if score.metric == "fvd":
            assert score.value is None and "pond has 5 frames, 16 are needed" in score.note
        elif score.metric == "psnr":
            assert score.frames == 15 and score.value > 0
