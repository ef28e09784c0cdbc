"""Processes that cut the parameters between them: the same run as one, down to the files; and the same end."""

import jax
import numpy as np
import pytest

from gp_jax.checkpoint.components import WEIGHTS_FILE
from gp_jax.checkpoint.tensors import read_tensors
from gp_jax.convert import convert
from gp_jax.parallel import make_mesh
from gp_jax.training.loop import train
from tests.parallel import together
from tests.training import processes, small

STEPS = 2
RUN = """
    from pathlib import Path
    from tests.training import small
    from gp_jax.training import loop
    from gp_jax.training.loop import train
    jax.config.update("jax_compilation_cache_dir", {cache!r} + sys.argv[1])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    config = {config}
    config.update({fields!r})
    {before}
    train(config, Path({workdir!r}), **{options})
"""


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """several(config, workdir) -> how two processes, or `count`, ended that have trained with `mesh` over all."""
    cache = str(tmp_path_factory.mktemp("cache") / "of")

    def run(config, workdir, before="", options="{}", mesh="fsdp=2", count=2, **fields):
        parts = {"config": config, "workdir": str(workdir), "before": before, "options": options, "cache": cache}
        return together.run(RUN.format(fields={"mesh": mesh, **fields}, **parts), devices=1, seconds=900, count=count)

    return run


@pytest.mark.parametrize("stage", ["autoencoder", pytest.param("keyframes", marks=pytest.mark.slow)])
def test_two_processes_make_what_one_makes(several, records, checkpoint, tmp_path, stage):
    """Losses and weights, bit for bit, since a sum of two has one order only; of clips, validation and samples too."""
    fields, options = {}, {}
    arguments = f"{stage!r}, {str(records)!r}, {str(checkpoint)!r}, steps={STEPS}"
    if stage == "keyframes":
        fields["samples"] = {"interval": STEPS, "clip": "sample:carphone", "aspect": 4.0, "frames": 3}
        fields["validation"] = {"interval": 1, "batches": 1}
        options["evaluate"] = lambda folder, step: {"psnr": 12.5}
    told = "{'evaluate': lambda folder, step: {'psnr': 12.5}}" if options else "{}"
    ends = several(f"small.config({arguments})", tmp_path / "two", options=told, **fields)
    assert [end.code for end in ends] == [0, 0], ends

    config = small.config(stage, records, checkpoint, steps=STEPS)
    config.update(fields)
    assert train(config, tmp_path / "one", mesh=make_mesh("fsdp=2", jax.devices()[:2]), **options)
    assert processes.lines(tmp_path / "two") == processes.lines(tmp_path / "one")
    files = [
        {
            str(file.relative_to(tmp_path / run))
            for part in ("samples", "checkpoint")
            for file in (tmp_path / run / part).rglob("*")
        }
        for run in ("one", "two")
    ]
    assert files[0] == files[1] and ("samples/0000002.mp4" in files[0]) == (stage == "keyframes")
    for component in {"autoencoder": ["vae"], "keyframes": ["unet", "global_tokens"]}[stage]:
        found, expected = (
            read_tensors(tmp_path / run / "checkpoint" / component / WEIGHTS_FILE) for run in ("two", "one")
        )
        assert found.keys() == expected.keys()
        for name in expected:
            np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(expected[name]), err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
def test_the_other_ends_when_one_is_killed_in_the_middle(several, records, tmp_path, who):
    call = f"small.autoencoder({str(records)!r}, steps=10_000)"
    kill = f"lambda done, *_: os.kill(os.getpid(), 9) if done == 5 and number == {who} else None"
    ends = several(call, tmp_path / "run", options=f"{{'progress': {kill}}}")
    assert ends[who].code == -9 and ends[1 - who].code not in (0, -9), ends
    assert "has died or cannot be reached" in ends[1 - who].printed, ends[1 - who].printed


FULL = """
    def fill(done, *_):
        import resource
        if done == 2 and number == {who}:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
"""


@pytest.mark.slow
@pytest.mark.parametrize("who, steps", [(0, 3), (1, 10_000), (0, 10_000)])
def test_both_end_when_one_is_out_of_disk(several, records, tmp_path, who, steps):
    """In the export, or while the state is saved."""
    call, fields = f"small.autoencoder({str(records)!r}, steps={steps})", {"checkpoints": {"interval": 4}}
    ends = several(call, tmp_path / "run", FULL.format(who=who).strip(), "{'progress': fill}", **fields)
    assert [end.code for end in ends] == [2, 2], ends
    assert all("cannot write" in end.printed or "cannot save" in end.printed for end in ends), ends


SLOW = f"lambda done, *_: time.sleep({2 * together.PATIENCE}) if done == 2 and number == 1 else None"


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["autoencoder", "keyframes"])
def test_four_processes_of_which_one_is_slow_make_what_one_makes(several, records, checkpoint, tmp_path, stage):
    """All wait for it; heads and hidden widths are cut too, and sums in another order differ by their last bits."""
    mesh, arguments = "fsdp=2,tensor=2", f"{stage!r}, {str(records)!r}, {str(checkpoint)!r}, steps=3"
    told = f"{{'progress': {SLOW}}}"
    ends = several(f"small.config({arguments})", tmp_path / "four", options=told, mesh=mesh, count=4)
    assert [end.code for end in ends] == [0] * 4, ends
    config = small.config(stage, records, checkpoint, steps=3)
    assert train(config, tmp_path / "one", mesh=make_mesh(mesh, jax.devices()[:4]))
    same(tmp_path / "four", tmp_path / "one", "vae" if stage == "autoencoder" else "unet")


@pytest.mark.slow
def test_what_four_processes_saved_before_one_was_killed_goes_on_in_two(several, records, tmp_path):
    call = f"small.autoencoder({str(records)!r})"
    kill = "lambda done, *_: os.kill(os.getpid(), 9) if done == 5 and number == 2 else None"
    ends = several(call, tmp_path / "run", options=f"{{'progress': {kill}}}", mesh="fsdp=2,tensor=2", count=4)
    assert ends[2].code == -9 and all(end.code not in (0, -9) for end in (*ends[:2], ends[3])), ends
    assert all("has died or cannot be reached" in ends[number].printed for number in (0, 1, 3)), ends
    assert not (tmp_path / "run" / "checkpoint").exists()
    convert(tmp_path / "run", tmp_path / "newest")  # one process exports what four have saved
    ends = several(call, tmp_path / "run")
    assert [end.code for end in ends] == [0, 0], ends
    assert train(small.autoencoder(records), tmp_path / "one", mesh=make_mesh("fsdp=2", jax.devices()[:2]))
    same(tmp_path / "run", tmp_path / "one", "vae")
    middle, last = (
        read_tensors(folder / "vae" / WEIGHTS_FILE) for folder in (tmp_path / "newest", tmp_path / "run" / "checkpoint")
    )
    assert middle.keys() == last.keys()
    assert all(np.abs(np.asarray(middle[name]) - np.asarray(last[name])).max() < 0.1 for name in last)


def same(run, other, component):
    """Losses and exported weights."""
    found, expected = ([line["loss"] for line in processes.lines(workdir)] for workdir in (run, other))
    np.testing.assert_allclose(found, expected, rtol=2e-3)
    found, expected = (read_tensors(workdir / "checkpoint" / component / WEIGHTS_FILE) for workdir in (run, other))
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(np.asarray(found[name]), np.asarray(expected[name]), atol=5e-3, err_msg=name)
