"""`gp-jax evaluate` from a folder of clips to table and report."""

import json

import pytest

from gp_jax.cli import evaluate
from gp_jax.cli.main import main
from gp_jax.evaluation.results import Results
from gp_jax.methods.classical import mirror
from gp_jax.methods.globalpaint import method
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.options import NoOptions
from gp_jax.methods.registry import METHODS
from tests import small_m3ddm, small_motia, small_networks
from tests.evaluation import small_protocol


@pytest.fixture(autouse=True)
def protocol(monkeypatch):
    small_protocol.install(monkeypatch)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_protocol.write_clips(tmp_path_factory.mktemp("data") / "clips")


def run(data, output, *options):
    arguments = ("--protocol", "small", "--dataset", "folder", "--data", data, "--output", output, *options)
    return main(["evaluate", *map(str, arguments)])


def test_what_takes_part_by_default_is_there():
    assert set(evaluate.DEFAULT_METHODS) <= set(METHODS)


def test_the_model_gets_its_options_and_stands_beside_a_classical_method(data, tmp_path, capsys, monkeypatch):
    wishes = []

    class Pipeline:
        """Stands in for `OutpaintPipeline`."""

        @classmethod
        def from_pretrained(cls, folder, mesh, dtype, attention):
            wishes.append(dict(mesh.shape)["data"])
            return cls()

        def prepare(self, clip, canvas, options, work):
            wishes.append(options)
            return mirror().prepare(clip, canvas, NoOptions())

    monkeypatch.setattr(method.GlobalPaint, "Pipeline", Pipeline)
    options = "--seed", "3", "--plan", "sequential", "--steps", "1", "--mesh", "data=8"
    assert run(data, tmp_path / "out", "--method", "globalpaint,edge", "--clips", "reed", *options) == 0
    assert wishes == [8, *[Options(seed=3, plan="sequential", steps=1)] * 4]
    check(tmp_path / "out", capsys.readouterr().out)


@pytest.mark.slow
def test_a_checkpoint_is_evaluated(data, tmp_path, capsys):
    checkpoint = small_networks.write(tmp_path / "model")
    options = "--method", "globalpaint", "--method", "edge", "--frames", "7", "--checkpoint", checkpoint
    assert run(data, tmp_path / "out", *options) == 0
    check(tmp_path / "out", capsys.readouterr().out)
    assert Results(tmp_path / "out").manifest.methods["globalpaint"]["checkpoint"] == str(checkpoint)


def test_m3ddm_of_a_folder_of_its_name_stands_beside_a_classical_method(data, tmp_path, capsys):
    checkpoint = small_m3ddm.write(tmp_path / "m3ddm", native_area=1024, steps=3, global_frames=4)
    assert run(data, tmp_path / "out", "--method", f"edge,m3ddm:{checkpoint}", "--frames", "7") == 0
    check(tmp_path / "out", capsys.readouterr().out, "m3ddm")
    about = Results(tmp_path / "out").manifest.methods["m3ddm"]
    assert about["checkpoint"] == str(checkpoint) and about["weights"]


@pytest.mark.slow  # two programs of its own, and one for the fit
def test_motia_fits_a_lora_to_each_clip(data, tmp_path, capsys):
    checkpoint = small_motia.write(tmp_path / "motia")
    options = "--frames", "7", "--steps", "2", "--adapt", "1"
    assert run(data, tmp_path / "out", "--method", f"edge,motia:{checkpoint}", *options) == 0
    check(tmp_path / "out", capsys.readouterr().out, "motia")
    assert Results(tmp_path / "out").manifest.methods["motia"]["adapt"] == 1


def test_the_parts_that_stand_in_for_those_of_a_published_method_are_told(data, tmp_path, capsys):
    assert run(data, tmp_path / "out", "--method", "edge,dehan", "--segmentation", "none", "--frames", "7") == 0
    check(tmp_path / "out", capsys.readouterr().out, "dehan")
    for name in ("report.html", "summary.md"):
        text = (tmp_path / "out" / name).read_text()
        assert "dehan: dis in the place of RAFT, none in the place of COSNet, telea in the place of CoModGAN" in text


def check(output, printed, model="globalpaint"):
    """Both methods have scores, and all files are there and named."""
    psnr = {score.method: score.value for score in Results(output).scores() if score.metric == "psnr"}
    assert psnr.keys() == {model, "edge"} and min(psnr.values()) > 0
    for text in (model, "edge", "PSNR", "report.html", "summary.md", "summary.csv"):
        assert text in printed
    for name in ("report.html", "summary.md", "summary.csv"):
        assert (output / name).is_file()


@pytest.mark.slow
def test_two_processes_make_what_one_makes(data, tmp_path):
    words = "--dataset", "folder", "--data", str(data), "--method", "edge,mirror", "--metric", "psnr", "--frames", "16"
    for output, more in (("one", ()), ("two", ("--processes", "2", "--shards", "3"))):
        options = "--protocol", "m3ddm-96", "--output", str(tmp_path / output), *words, *more
        assert main(["evaluate", *options]) == 0
    one, two = (Results(tmp_path / output).scores() for output in ("one", "two"))
    assert one == two and len(one) > 0


def test_a_bad_output_is_told_and_shows_in_the_exit_code(data, tmp_path, capsys):
    (tmp_path / "motia" / "0.5").mkdir(parents=True)
    assert run(data, tmp_path / "out", "--method", f"edge,folder:{tmp_path / 'motia'}", "--clips", "pond") == 1
    captured = capsys.readouterr()
    assert "clip pond: motia has no output for the case 0.5" in captured.err
    assert "clip pond: motia has no output for the case 0.3" in captured.err
    lines = (tmp_path / "out" / "scores.jsonl").read_text().splitlines()
    empty = {score["method"]: score["value"] for score in map(json.loads, lines) if score["metric"] == "psnr"}
    assert empty["motia"] is None and empty["edge"] > 0


def test_a_metric_that_is_named_twice_is_measured_once(data, tmp_path):
    words = "--method", "edge", "--metric", "psnr,psnr", "--clips", "pond", "--frames", "2"
    assert run(data, tmp_path / "out", *words) == 0
    scores = [(score.case, score.region) for score in Results(tmp_path / "out").scores()]
    assert len(scores) == len(set(scores)) > 0


def test_the_last_shard_makes_the_table(data, tmp_path, capsys):
    for shard, tells in (("0/2", "others are not yet"), ("1/2", "report.html")):
        assert run(data, tmp_path / "out", "--method", "edge", "--shard", shard) == 0
        assert tells in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--method", "edgy"], "there is no method edgy"),
        (["--method", "edge,edge"], "two methods of the name edge: leave one out"),
        (["--method", "folder:nowhere"], "no folder nowhere"),
        (["--checkpoint", "nowhere"], "no checkpoint nowhere"),
        (["--method", "edge", "--checkpoint", "nowhere"], "--checkpoint is of methods that are made of one"),
        (["--method", "edge,globalpaint:my/", "--checkpoint", "tiny"], "and edge, globalpaint:my/ is none of these"),
        (["--shard", "2/2"], "not of the form K/N"),
        (["--method", "edge", "--shards", "4"], "--shards is of --processes and --engine ray"),
        (["--method", "edge", "--ask", "GPU=1"], "--ask is of --engine ray"),
        (["--method", "edge", "--engine", "ray", "--processes", "2"], "--processes is of this machine"),
        (["--method", "edge", "--shard", "0/2", "--processes", "2"], "--shard shares the work too"),
        (["--lora", "nowhere.safetensors:0.5"], "there is no LoRA nowhere.safetensors"),
        (["--lora", __file__], "is not a whole safetensors file"),
        (["--method", "edge", "--lora", __file__], "--lora is for networks, and edge has none"),
        (["--protocol", "m3ddm"], "invalid choice"),
        (["--data", "nowhere"], "no folder nowhere"),
        (["--mesh", "data=3"], "does not fit the 8 devices"),
        (["--sampler", "dpm"], "invalid choice: 'dpm'"),
        (["--steps", "1001"], "1001"),
        (["--plan", "random"], "invalid choice: 'random'"),
        (["--overlap", "2"], "overlap changes pixels of the source"),
        (["--stabilize"], "stabilize changes pixels of the source"),
    ],
)
def test_mistakes_are_one_sentence(data, tmp_path, arguments, sentence, capsys):
    assert run(data, tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
