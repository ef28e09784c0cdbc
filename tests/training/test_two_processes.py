"""Two processes that cut the parameters between them: the same run as one, down to the files; and the same end."""

import jax
import numpy as np
import pytest

from gp_jax.checkpoint.components import WEIGHTS_FILE
from gp_jax.checkpoint.tensors import read_tensors
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
    jax.config.update("jax_disable_most_optimizations", True)
    config = {config}
    config.update({fields!r})
    {before}
    train(config, Path({workdir!r}), **{options})
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """two(config, workdir) -> how two processes ended that have trained with `mesh` over both."""
    cache = str(tmp_path_factory.mktemp("cache") / "of")

    def run(config, workdir, before="", options="{}", mesh="fsdp=2", **fields):
        parts = {"config": config, "workdir": str(workdir), "before": before, "options": options, "cache": cache}
        return together.run(RUN.format(fields={"mesh": mesh, **fields}, **parts), devices=1, seconds=900)

    return run


@pytest.mark.parametrize("stage", ["autoencoder", pytest.param("keyframes", marks=pytest.mark.slow)])
def test_two_processes_make_what_one_makes(two, records, checkpoint, tmp_path, stage):
    """Losses and weights, bit for bit, since a sum of two has one order only; of clips, validation and samples too."""
    fields, options = {}, {}
    arguments = f"{stage!r}, {str(records)!r}, {str(checkpoint)!r}, steps={STEPS}"
    if stage == "keyframes":
        fields["samples"] = {"interval": STEPS, "clip": "sample:carphone", "aspect": 4.0, "frames": 3}
        fields["validation"] = {"interval": 1, "batches": 1}
        options["evaluate"] = lambda folder, step: {"psnr": 12.5}
    told = "{'evaluate': lambda folder, step: {'psnr': 12.5}}" if options else "{}"
    ends = two(f"small.config({arguments})", tmp_path / "two", options=told, **fields)
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
def test_the_other_ends_when_one_is_killed_in_the_middle(two, records, tmp_path, who):
    call = f"small.autoencoder({str(records)!r}, steps=10_000)"
    kill = f"lambda done, *_: os.kill(os.getpid(), 9) if done == 5 and number == {who} else None"
    ends = two(call, tmp_path / "run", options=f"{{'progress': {kill}}}")
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
def test_both_end_when_one_is_out_of_disk(two, records, tmp_path, who, steps):
    """In the export, or while the state is saved."""
    call, fields = f"small.autoencoder({str(records)!r}, steps={steps})", {"checkpoints": {"interval": 4}}
    ends = two(call, tmp_path / "run", FULL.format(who=who).strip(), "{'progress': fill}", **fields)
    assert [end.code for end in ends] == [2, 2], ends
    assert all("cannot write" in end.printed or "cannot save" in end.printed for end in ends), ends
