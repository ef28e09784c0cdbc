"""What is predicted on paper: laws of it, and a check against what XLA makes of a small network on eight devices."""

import dataclasses
import math
from fractions import Fraction
from pathlib import Path

import jax
import pytest

from gp_jax.bench.case import prepare_case
from gp_jax.bench.chips import CHIPS, Collective, seconds
from gp_jax.bench.denoise import bench_denoising
from gp_jax.bench.paper import best, meshes, predict, traffic, work_of
from gp_jax.cli.main import main
from gp_jax.training.budget import count
from gp_jax.training.config import load_config
from tests.cli.test_bench import CONFIG

SD2 = f"{Path(__file__).parents[2] / 'configs' / 'sd2.py'}:keyframes"


@pytest.fixture(scope="module")
def config():
    """One level, half as wide as the full network, on little footage: every kind of parameter, soon compiled."""
    config = load_config(SD2)
    narrow = {
        "block_out_channels": [640],
        "down_block_types": ["CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D"],
        "layers_per_block": 1,
        "attention_head_dim": [10],
    }
    config.networks.unet.update(narrow)
    config.networks.global_tokens.layers = 1
    config.data.update({"segment_frames": 4, "feature_frames": 1})
    config.settings.native_area, config.dtype = 32 * 32, "float32"
    return config


@pytest.fixture(scope="module")
def work(config):
    return work_of(config, "step")


def mesh_of(**axes):
    return {"data": 1, "fsdp": 1, "tensor": 1, "context": 1} | axes


@pytest.mark.slow
@pytest.mark.parametrize("axes", [{"fsdp": 8}, {"data": 2, "fsdp": 4}, {"data": 8}], ids=str)
def test_traffic_is_what_xla_makes_of_it(config, work, axes):
    """XLA for CPUs sums gradients whole, over all devices, where a device needs a share: the bytes of a gradient are
    then there once, be it scattered or summed. The tokens of this footage are so few that XLA sends some of them, and
    sums what they make, in the place of parameters."""
    mesh = ",".join(f"{axis}={size}" for axis, size in axes.items())
    counted = count(prepare_case(config, jax.devices()[:8], segments=1, mesh=mesh)).collectives
    predicted = list(traffic(work, mesh_of(**axes)))
    gathered = sum(x.bytes for x in predicted if x.kind == "all-gather")
    summed = sum(x.bytes for x in predicted if x.kind == "reduce-scatter" or x.axes == "data and fsdp")
    if "fsdp" in axes:
        assert counted["all-reduce"].bytes == pytest.approx(summed, rel=0.15)
        assert 0.7 * gathered < counted["all-gather"].bytes < 1.05 * gathered
    else:
        assert counted["all-reduce"].bytes == pytest.approx(summed, rel=0.001)
        assert not gathered and counted.keys() == {"all-reduce"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "axes", [{"data": 4, "tensor": 2}, {"data": 4, "context": 2}, {"data": 2, "tensor": 2, "context": 2}], ids=str
)
def test_activations_travel_as_xla_sends_them(config, axes):
    """One call, whose parameters stay where they are: all that is sent are activations."""
    mesh = ",".join(f"{axis}={size}" for axis, size in axes.items())
    run = prepare_case(config, jax.devices()[:8], segments=1, mesh=mesh, attention="einsum")
    counted = bench_denoising(run, 0.0, repeats=0).budget.collectives
    row = predict(work_of(config, "denoise"), CHIPS["v5p"], mesh_of(**axes), Fraction(axes["data"], 8), 0.25)
    predicted = {kind: sum(x.bytes for x in row.collectives if x.kind == kind) for kind in counted}
    for kind, found in counted.items():
        assert found.bytes == pytest.approx(predicted[kind], rel=0.05), kind


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["tensor", "context"])
def test_activations_of_a_step_are_exchanged_as_xla_does(config, work, axis):
    run = prepare_case(config, jax.devices()[:8], segments=1, mesh=f"data=4,{axis}=2", attention="einsum")
    counted = count(run).collectives
    row = predict(work, CHIPS["v5p"], mesh_of(data=4, **{axis: 2}), Fraction(1, 2), 0.25)
    for kind in ("all-to-all", "collective-permute"):
        predicted = sum(x.bytes for x in row.collectives if x.kind == kind)
        assert 0.95 * predicted < counted[kind].bytes < 1.25 * predicted, kind


@pytest.mark.slow
def test_memory_is_about_what_xla_asks_for(config, work):
    budget = count(prepare_case(config, jax.devices()[:8], segments=2, mesh="fsdp=8"))
    row = predict(work, CHIPS["v5p"], mesh_of(fsdp=8), segments=2, share=0.25)
    assert 0.5 * budget.memory < row.memory < 1.1 * budget.memory


def test_sharing_in_more_pieces_holds_less_and_sends_more(work):
    chip = CHIPS["h100"]
    rows = [predict(work, chip, mesh_of(data=64 // cut, fsdp=cut), 4, 0.25) for cut in (1, 8, 64)]
    assert rows[0].memory > rows[1].memory > rows[2].memory
    assert rows[0].traffic("all-gather") == rows[0].traffic("reduce-scatter") == 0
    assert rows[1].traffic("all-gather") < rows[2].traffic("all-gather")
    assert rows[2].far > rows[1].far > 0 and all(0 < row.efficiency < 1 for row in rows)
    assert best(rows) is min(rows, key=lambda row: row.seconds)
    small = dataclasses.replace(chip, memory=1.0)
    assert best([predict(work, small, mesh_of(fsdp=8), 4, 0.25)]) is None


def test_more_segments_a_device_scale_better_and_a_call_sends_nothing(config, work):
    tried = [mesh_of(data=16), mesh_of(fsdp=16), mesh_of(data=2, fsdp=8), mesh_of(data=4, context=4)]
    few, many = (best([predict(work, CHIPS["h200"], x, n, 0.25) for x in tried]) for n in (1, 8))
    assert few.efficiency < many.efficiency and many.alone == pytest.approx(8 * few.alone)
    call = best([predict(work_of(config, "denoise"), CHIPS["h200"], x, 4, 0.25) for x in tried[::-1]])
    assert call.mesh == mesh_of(data=16) and call.efficiency == 1 and not call.collectives


@pytest.mark.parametrize("devices, number", [(1, 1), (8, 20), (256, 110)])
def test_all_meshes_are_tried(devices, number):
    tried = list(meshes(devices))
    assert all(math.prod(mesh.values()) == devices for mesh in tried)
    assert len({tuple(mesh.values()) for mesh in tried}) == len(tried) == number
    shared = list(meshes(devices, Fraction(1, 8)))
    assert shared == [mesh for mesh in tried if mesh["tensor"] * mesh["context"] % 8 == 0]


def test_cutting_segments_shares_their_work_and_sends_activations(config):
    work = work_of(config, "denoise")
    whole = predict(work, CHIPS["v5p"], mesh_of(data=8), 1, 0.25)
    for axes in ({"data": 4, "context": 2}, {"data": 4, "tensor": 2}):
        row = predict(work, CHIPS["v5p"], mesh_of(**axes), 1, 0.25)
        assert whole.flops <= row.flops < 1.2 * whole.flops  # what cannot be cut is computed twice
        assert row.near > 0 == whole.near and row.efficiency < whole.efficiency == 1
    waited_for = best([predict(work, CHIPS["v5p"], mesh, Fraction(1, 8), 0.25) for mesh in meshes(8, Fraction(1, 8))])
    assert waited_for.mesh["data"] == 1 and waited_for.seconds < whole.seconds


def test_a_ring_sends_all_but_its_own_share_and_hosts_share_what_is_far():
    h100 = CHIPS["h100"]
    assert Collective("all-gather", "fsdp", 8, 1, 800.0).sent(8) == (700.0, 0.0)
    assert Collective("all-reduce", "data", 4, 8, 800.0).sent(8) == (0.0, 1200.0)
    near, far = Collective("all-gather", "fsdp", 16, 1, 1600.0).sent(8)
    assert (near, far) == (1400.0, 100.0)  # half of an eighth comes from the other host
    assert seconds(h100, Collective("all-reduce", "data", 2, 8, 600e6)) == (0.0, pytest.approx(600e6 / 50e9))
    assert Collective("all-gather", "fsdp", 1, 1, 9.0).sent(8) == (0.0, 0.0)
    assert Collective("all-to-all", "context", 16, 1, 160.0).sent(8) == (70.0, 80.0)  # a tenth to each
    assert Collective("collective-permute", "context", 16, 1, 160.0).sent(8) == (0.0, 160.0)


def test_the_command_prints_a_line_for_each(tmp_path, capsys):
    (tmp_path / "config.py").write_text(CONFIG)
    asked = ["bench", "step", "--config", str(tmp_path / "config.py"), "--on-paper", "8,256"]
    assert main([*asked, "--chip", "h100,v5p", "--segments", "2"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("h100", "v5p"))]
    assert [line[:2] for line in lines] == [[chip, n] for chip in ("h100", "v5p") for n in ("8", "256")]
    assert all(line[-1].endswith("%") for line in lines)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--on-paper", "0"], "argument --on-paper"),
        (["--on-paper", "8", "--chip", "v9"], "'v9' is none of v5p, h100, h200"),
        (["--on-paper", "8", "--mesh", "data=8"], "leave --mesh out"),
        (["--chip", "v5p"], "say for how many devices"),
        (["--segments", "1/8"], "--segments 1/8 is of --on-paper"),
        (["vae", "--on-paper", "8"], "--on-paper is of step and denoise, not of vae"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(tmp_path, capsys, arguments, words):
    what = [arguments.pop(0)] if arguments[0] == "vae" else []
    assert main(["bench", *what, "--config", "configs/tiny.py:keyframes", *arguments]) == 2
    assert words in capsys.readouterr().err
