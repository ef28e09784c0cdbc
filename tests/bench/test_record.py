"""Records: what two runs of one checkpoint differ in is measured, told, and within what is stated."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from gp_jax.bench import drift, fixed
from gp_jax.bench.drift import SCORE_TOLERANCES, TOLERANCES, compare, told
from gp_jax.bench.record import STAGES, Record, _condition, record
from gp_jax.cli.main import main
from gp_jax.errors import UserError
from gp_jax.methods.globalpaint.conditioning import FILLS
from gp_jax.methods.placement import Placement
from gp_jax.parallel import make_mesh
from tests import small_networks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = small_networks.write(tmp_path_factory.mktemp("checkpoint") / "small", native_area=48 * 48, guidance=2.0)
    small_networks.write_text(made)
    return made


@pytest.fixture(scope="module")
def run(folder):
    """A record of the checkpoint, made once for each set of options."""
    made = {}

    def of(dtype="float32", attention="einsum", mesh="", backend="jax"):
        key = dtype, attention, mesh, backend
        if key not in made:
            place = make_mesh(mesh, jax.devices()) if mesh else None
            subject = fixed.of_checkpoint(str(folder), dtype, attention, place)
            made[key] = record(subject, place, steps=3, repeats=1, backend=backend)
        return made[key]

    return of


def test_all_stages_are_kept_and_a_file_gives_them_back(run, tmp_path):
    made = run()
    assert list(made.arrays) == list(STAGES) and made.seconds.keys() == set(STAGES)
    assert all(np.isfinite(x).all() and x.std() > 0 for x in made.arrays.values())
    assert len(made.arrays["steps"]) == 3 and made.metrics.keys() == SCORE_TOLERANCES["float32"].keys()
    made.write(tmp_path / "a.safetensors")
    lines = compare(made, Record.read(tmp_path / "a.safetensors"))
    assert len(lines) == len(STAGES) + len(made.metrics) and all(line.is_within for line in lines)
    assert told(made, made, lines) == "equal to the last bit"


@pytest.mark.parametrize(
    "options",
    [
        {"attention": "blocks"},
        {"mesh": "data=2,tensor=2,context=2"},
        pytest.param({"attention": "xla"}, marks=pytest.mark.slow),
        pytest.param({"mesh": "fsdp=2,context=4"}, marks=pytest.mark.slow),
        {"backend": "torch"},
    ],
    ids=lambda options: ",".join(options.values()),
)
def test_kernels_meshes_and_torch_are_within_what_is_stated_for_float32(run, options):
    lines = compare(run(), run(**options))
    assert not [line for line in lines if not line.is_within]
    assert any(line.drift > 0 for line in lines)  # something else did run


def test_a_narrow_type_is_off_more_and_is_allowed_more(run):
    wide, narrow = run(), run(dtype="bfloat16")
    lines = {line.name: line for line in compare(wide, narrow)}
    assert not [line for line in lines.values() if not line.is_within]
    assert lines["latents"].drift == 0  # the autoencoder's
    assert all(lines[name].drift > TOLERANCES["float32"][name] for name in ("text", "features", "call", "steps"))
    said = told(wide, narrow, [*lines.values()])
    assert said.startswith("the difference starts at text") and "from step 1 to 3 it goes from" in said


@pytest.mark.parametrize("kind", TOLERANCES)
def test_no_tolerance_lets_a_fault_pass(run, kind, monkeypatch):
    """A tenth too much, or a level of noise too many, in any stage; a metric that a reader would see change."""
    monkeypatch.setattr(drift, "rounding", lambda *sides: kind)
    right = run()
    for name in STAGES:
        wrong = right.arrays[name].astype(np.float32) * 1.1
        other = dataclasses.replace(
            right, arrays=right.arrays | {name: wrong.clip(0, 255).astype(right.arrays[name].dtype)}
        )
        beyond = [line.name for line in compare(right, other) if not line.is_within]
        assert beyond == [name]
    wrong = np.full_like(right.arrays["steps"], np.nan)
    other = dataclasses.replace(right, arrays=right.arrays | {"steps": wrong})
    lines = compare(right, other)
    assert [line.name for line in lines if not line.is_within] == ["steps"]
    assert "the difference starts at steps (nan)" in told(right, other, lines)
    off = {"psnr": 0.3, "ssim": 0.02, "seam": 0.02, "flicker": 0.02}
    other = dataclasses.replace(right, metrics={name: x + off[name] for name, x in right.metrics.items()})
    assert {line.name for line in compare(right, other) if not line.is_within} == set(right.metrics)
    assert "it reaches the metrics" in told(right, other, compare(right, other))


def test_devices_that_round_otherwise_are_told_apart(run):
    gpu = dataclasses.replace(run(), about=run().about | {"device": "NVIDIA H100 80GB HBM3"})
    assert [drift.rounding(run(), x) for x in (run(), gpu, run(dtype="bfloat16"))] == ["float32", "tf32", "narrow"]


def test_what_was_not_given_the_same_is_not_compared(run):
    other = dataclasses.replace(run(), about=run().about | {"weights": "others"})
    with pytest.raises(UserError, match="made of other weights"):
        compare(run(), other)


def test_inputs_are_the_same_everywhere():
    """Of a clip by its bytes, since they are what every machine has to agree on."""
    clip = fixed.footage(3, 24, 32)
    assert clip.shape == (3, 24, 32, 3) and (np.diff(clip.astype(int), axis=0) != 0).any(axis=(1, 2, 3)).all()
    assert (int(clip.astype(int).sum()), clip[2, 12, 5].tolist()) == FOOTAGE


FOOTAGE = (647_869, [158, 128, 98])


def test_the_command_records_compares_and_draws(folder, tmp_path, capsys):
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    common = ["--checkpoint", str(folder), "--steps", "2", "--repeats", "1"]
    assert main(["bench", "--record", str(a), *common, "--attention", "einsum"]) == 0
    assert main(["bench", "--record", str(b), *common, "--dtype", "bfloat16", "--attention", "einsum"]) == 0
    assert main(["bench", "--diff", str(a), str(b), "--output", str(tmp_path / "page")]) == 0
    said = capsys.readouterr().out
    assert "reference " in said and said.count("yes") == len(STAGES) + 4 and "all within tolerance" in said
    page = (tmp_path / "page" / "drift.html").read_text()
    assert page.count("<svg") == 1 and page.count("data:image/png") == 3 and "http" not in page
    made = Record.read(b)
    broken = dataclasses.replace(made, arrays=made.arrays | {"call": 2 * made.arrays["call"]})
    broken.write(b)
    assert main(["bench", "--diff", str(a), str(b)]) == 1
    assert "beyond tolerance: call" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--diff", "a.safetensors"], "give two or more"),
        (["--diff", "a.safetensors", "b.safetensors"], "there is no file a.safetensors"),
        (["--diff", "README.md", "README.md"], "is no record: `gp-jax bench --record FILE` makes one"),
        (["--record", "a", "--diff", "a", "b"], "--record takes no --diff"),
        (["vae", "--record", "a"], "--record takes no vae"),
        (["--record", "a", "--typo"], "--record takes no --typo"),
        (["--record", "a", "--guidance", "0"], "--record takes no --guidance"),
        (["--record", "a", "--process-id", "0"], "--record takes no --process-id"),
        (["--diff", "a", "b", "--repeats", "3"], "--diff takes no --repeats"),
        (["--record", "a", "--steps", "1"], "--steps 1 is too few"),
        (["--record", "a", "--attention", "einsum,xla"], "give one --attention"),
        (["--record", "a", "--backend", "torch", "--mesh", "data=8"], "leave --mesh out"),
        (["--record", "a", "--checkpoint", "nowhere"], "there is no checkpoint nowhere"),
        (["step", "--backend", "torch"], "--backend is of --record"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(arguments, words, capsys):
    assert main(["bench", *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("fill", FILLS)
def test_conditions_are_made_for_every_fill(folder, fill):
    checkpoint = fixed.of_checkpoint(str(folder), "float32", "einsum", None).checkpoint
    given = fixed.inputs_of(checkpoint)
    place = Placement.of(given.canvas, given.canvas, checkpoint.vae.config.downsampling)
    pixels = np.zeros((*given.noise.shape[:2], *given.clip.shape[1:]), np.float32)
    wanted = functools.partial(_condition, fill=fill)
    mask, masked = jax.eval_shape(wanted, checkpoint.vae, pixels, place, given.noise)
    assert mask.shape == (*given.noise.shape[:4], 1) and masked.shape == given.noise.shape


@pytest.mark.slow
def test_the_small_checkpoint_is_random_throughout_and_torch_has_all_of_it():
    one, other = (
        record(fixed.small("float32", "einsum", None), None, steps=2, repeats=1, backend=x) for x in ("jax", "torch")
    )
    assert all(x.std() > 0.01 for x in one.arrays.values())
    assert all(line.is_within for line in compare(one, other))
