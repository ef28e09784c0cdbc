"""Every command that a reader meets is run, as it is written and in the order he meets it, on small data.

Small are models, protocols, I3D and the programs that the ablation counts, too. Sampling is repeated borders, for which
nothing is compiled, and training leaves a checkpoint that lay ready; the slow test of README trains, and samples what
it trained. A command that is neither run nor listed in `PARSED`, or that needs what no command before it made and
`GIVEN` does not name, fails.
"""

import argparse
import os
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from gp_jax.checkpoint import folder as checkpoint_folder
from gp_jax.checkpoint.folder import find_checkpoint
from gp_jax.cli import main as command_line
from gp_jax.evaluation import ablation
from gp_jax.evaluation.protocols import PROTOCOLS
from gp_jax.files import cache_folder
from gp_jax.methods import classical
from gp_jax.methods.globalpaint import pipeline
from gp_jax.methods.globalpaint.cost import ProgramCost
from gp_jax.methods.method import Estimate, Progress, quiet
from gp_jax.methods.options import NoOptions
from gp_jax.metrics import frechet
from gp_jax.training.config import load_config
from tests.documents import DOCUMENTS, MAKERS, ROOT, commands
from tests.evaluation import small_protocol

# Document -> what lies there before its first command, and which of `MAKERS` made it.
SD2 = {
    "stable-diffusion-2-inpainting": "stable-diffusion-2-inpainting",
    "CLIP-ViT-H-14-laion2B-s32B-b79K": "CLIP-ViT-H-14",
}
M3DDM = {"M3DDM-Video-Outpainting": "M3DDM", "stable-diffusion-v1-5": "stable-diffusion-v1-5"}
MOTIA = {"Be-Your-Outpainter": "MOTIA"}
CLIP, VIDEOS = {"clip.mp4": "clip.mp4"}, {"truth.mp4": "truth.mp4", "outpainted.mp4": "outpainted.mp4"}
SOURCES = {**CLIP, "clip.mov": "clip.mov", "frames": "frames"}
DAVIS = {"DAVIS": "DAVIS"}
ARMS = "baseline-0", "baseline-1", "est-0", "est-1"
GIVEN: dict[str, dict[str, str]] = {
    "README.md": {
        **(SOURCES | VIDEOS | DAVIS | SD2 | M3DDM | MOTIA),
        "phone.mp4": "phone.mp4",
        "ink.safetensors": "ink.safetensors",
        **{"films": "films", "outputs/motia": "outputs", "a": "plain", "b": "windows", "c": "checkpoint"},
    },
    "gp_jax/cli/outpaint.py": {
        **SOURCES,
        **{"phone.mp4": "phone.mp4", "my_model": "converted", "ink.safetensors": "ink.safetensors"},
        **{"logo.png": "logo.png", "places.csv": "places.csv"},
    },
    "gp_jax/cli/evaluate.py": {**DAVIS, "my_model": "checkpoint", "clips": "clips", "outputs/motia": "outputs"},
    "gp_jax/cli/ablation.py": {**DAVIS, "a": "plain", "b": "windows", "c": "checkpoint"},
    "gp_jax/cli/metrics.py": {**VIDEOS, **DAVIS, "outputs": "clips"},
    "gp_jax/cli/convert.py": {**SD2, **M3DDM, **MOTIA},
    "configs/sd2.py": {**CLIP, **SD2, "OpenVid/list.csv": "list.csv", "OpenVid/film.mp4": "film.mp4"},
    "configs/m3ddm.py": {**M3DDM, "OpenVid/list.csv": "list.csv", "OpenVid/film.mp4": "film.mp4"},
    "tools/average_checkpoints.py": {"W/soft/checkpoint": "checkpoint", "W/sharp/checkpoint": "checkpoint"},
    "tools/build_records.py": {
        "films": "films",
        **DAVIS,
        "clips_72x128.npy": "clips.npy",
        "clips_72x128.json": "clips.json",
    },
    "tools/contact_sheet.py": {f"{name}.mp4": "clip.mp4" for name in ("clip", "wide", "a", "wide_a", "b", "wide_b")},
    "tools/mute_modules.py": {**DAVIS, "W/full-0/checkpoint": "checkpoint"},
    "tools/plot_training.py": dict.fromkeys(("W/3", "W/4", *(f"A/{arm}" for arm in ARMS)), "log"),
}
# Written so -> run so: the same work on less.
SMALLER = {
    "sample:carphone": "clip.mp4",
    "1920x1080": "192x108",
    "256x256": "32x32",
    "128x128": "32x32",
    "448x256": "32x24",
    "64,64,0,0": "16,16,0,0",
}
BESIDE = {
    "gp-jax outpaint": ["--steps", "1"],
    "gp-jax ablation": ["--steps", "1"],
    "python tools/bench_flow.py": ["--frames", "3"],
    "gp-jax train": [
        *("--config.steps=1", "--config.batch_size=8", "--config.microbatches=1", "--config.data.workers=0"),
        *("--config.data.downsampling=4", "--config.data.view_size=21", "--config.data.view_patch=7"),
        *("--config.settings.native_area=1024", "--config.mesh=data=1"),
    ],
}
SAMPLED = ("--checkpoint W/2/checkpoint",)  # part of a command
# Part of a command -> why its words are parsed, its configuration is read, and no more.
PARSED = {
    "gp-jax demo": "serves until Ctrl-C: tests/cli/test_demo.py, tests/web",
    "gp-jax bench": "compiles full-size steps for minutes: tests/training/test_full_size_sharding.py",
    "gp-jax train --config configs/sd15.py": "as sd2.py; tests/configs trains it",
    "gp-jax train --config configs/m3ddm.py": "networks of full size; tests/configs trains it",
    "gp-jax train --config configs/sd2_ablation.py": "as sd2.py; tests/configs trains it",
    "gp-jax train --config configs/tiny": "networks of full size, for two cores; tests/configs trains them",
    "--config configs/sd2.py:keyframes --workdir W ": "as configs/sd2.py; several processes: tests/training",
    "--checkpoint W/5/checkpoint": "what configs/tiny.py trains",
    " sd15/": "as sd2.py; tests/convert converts what is in its place",
    "convert v1-5-pruned.safetensors": "tests/convert/test_formats.py and test_motion.py",
    "--coordinator gpu1:99": "several processes: tests/cli/test_outpaint_processes.py and those beside it",
    "--method m3ddm --checkpoint": "takes more steps than one: tests/methods/m3ddm",
    "--method motia --checkpoint": "takes programs of its own: tests/methods/motia",
    "--adapt 200": "takes minutes: tests/methods/globalpaint/test_clip_lora.py",
    "convert run/": "tests/checkpoint/test_reading_state.py",
    "convert W/1 newest/": "tests/checkpoint/test_reading_state.py",
    "build_records.py videos films/ records ": "of configs/sd15.py; as sd2.py",
    "build_records.py csv OpenVid/list.csv records/openvid": "tests/data/test_film_lists.py reads such columns",
    "build_records.py csv WebVid": "tests/data/test_film_lists.py reads such columns",
    "build_records.py list OpenVid/list.parquet": "tests/data/test_film_lists.py reads Parquet",
    "--engine ray": "a cluster: tests/cli/test_on_ray.py",
    "build_records.py youtube-vos": "tests/data/test_sources.py reads that layout",
    "build_records.py tfds": "tests/data/test_tfds_frames.py reads that layout",
    "data/returning": "needs cameras that move far: tests/tools/test_build_returning_clips.py",
    "prepare_tfds.py": "fetches DAVIS: tests/data/test_tfds_frames.py",
    "precompute.py records/256": "README's and sd2.py's are run; tests/tools/test_precompute.py",
    "gp_data": "0.4 GB of packages: tests/tools/test_fetch_training_data.py and test_build_tiny_clips.py",
    "gp_test_data": "0.4 GB of packages: tests/tools/test_build_test_clips.py",
    "bench_overfit.py": "minutes of training",
    "bench_few_steps.py": "minutes for each clip: tests/tools/test_bench_few_steps.py",
    "bench_adaptation.py": "compiles full-size steps: tests/tools/test_bench_adaptation.py",
    "bench_attention.py": "minutes: tests/tools/test_bench_attention.py",
    "bench_convolution.py": "a minute: tests/tools/test_bench_convolution.py",
    "bench_accelerator.py": "hours: tests/tools/test_bench_accelerator.py",
    "bench_flow.py --estimators": "needs the weights of GMFlow: tests/flow/test_gmflow.py",
    "bench_seams.py": "needs real clips: tests/tools/test_bench_seams.py",
    "bench_length.py": "minutes: tests/tools/test_bench_length.py",
    "bench_lists.py": "a minute: tests/tools/test_bench_lists.py",
    "bench_shots.py": "needs real clips: tests/tools/test_bench_shots.py",
    "bench_flashes.py": "half a minute for each clip: tests/tools/test_bench_flashes.py",
    "bench_detail.py": "minutes for each clip: tests/tools/test_bench_detail.py",
}
# Documents whose commands take more than a few seconds together.
LONG = (
    *("README.md", "configs/sd2.py", "tools/build_records.py"),
    *(f"gp_jax/cli/{name}.py" for name in ("ablation", "convert", "evaluate", "metrics")),
)
# The environment that the tests run in; .ci/run makes it by these.
SET_UP = (
    "python3 -m venv .venv",
    *(f"pip install -e .[{extras}]" for extras in ("samples", "test", "web,samples")),
    "pytest -n 2 --dist loadfile",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Name -> the place where `MAKERS` made it, once."""
    folder = tmp_path_factory.mktemp("made")

    def find(name: str) -> Path:
        place = folder / name
        if not place.exists():
            MAKERS[name](place)
        return place

    return find


@pytest.fixture
def world(made, tmp_path, monkeypatch):
    """The current folder, and the user's home: configurations, tools, a `tiny` and protocols that are small."""
    for name in ("configs", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".models").mkdir()
    (tmp_path / ".models" / "tiny").symlink_to(made("checkpoint"))
    monkeypatch.setattr(checkpoint_folder, "SHIPPED", tmp_path / ".models")
    one = jax.devices()[:1]  # for which programs are compiled faster
    for name in ("devices", "local_devices"):
        monkeypatch.setattr(jax, name, lambda *which: one)
    monkeypatch.setattr(frechet, "load_i3d", small_protocol.Pool)
    monkeypatch.setattr(ablation, "program_cost", lambda *_, **__: ProgramCost(1, 1.0, 1))
    for name in PROTOCOLS:
        monkeypatch.setitem(PROTOCOLS, name, small_protocol.PROTOCOL)
    monkeypatch.setenv("GP_JAX_CACHE", str(cache_folder()))  # which lies in the home
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("weights")
@pytest.mark.filterwarnings("default::gp_jax.errors.Notice")  # a prompt that is cut, by a text tower of 9 tokens
@pytest.mark.parametrize(
    "document, whole",
    [
        *(
            pytest.param(document, False, marks=[pytest.mark.slow] * (document in LONG))
            for document in DOCUMENTS
            if commands(document)
        ),
        pytest.param("README.md", True, marks=pytest.mark.slow),
    ],
)
def test_commands_run_as_they_are_written(document, whole, world, made, capfd):
    for name, maker in GIVEN.get(document, {}).items():
        (world / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if made(maker).is_dir() else shutil.copy)(made(maker), world / name)
    for words in commands(document):
        status, said = run(words, whole, made), capfd.readouterr()
        assert not status, f"{' '.join(words)}\n{said.err}"


def test_what_is_listed_is_there():
    lines = [" ".join(words) for document in DOCUMENTS for words in commands(document)]
    for part in (*PARSED, *BESIDE, *SMALLER, *SAMPLED, *SET_UP):
        assert any(part in line for line in lines), part
    assert set(GIVEN) <= set(DOCUMENTS)


def run(words: list[str], whole: bool, made: Callable[[str], Path]) -> int | str:
    """The exit status of a command, in this process. Where not `whole`, training leaves a checkpoint that lay ready."""
    line = " ".join(words)
    if line in SET_UP:
        return 0
    beside = [] if "--method" in words else BESIDE.get(" ".join(words[:2]), [])
    words = [os.path.expanduser(SMALLER.get(word, word)) for word in words] + beside
    parsed = any(part in line for part in PARSED)
    trained = words[:2] == ["gp-jax", "train"] and not whole and not parsed
    with pytest.MonkeyPatch.context() as patch:
        if not (whole and any(part in line for part in SAMPLED)):
            patch.setattr(pipeline.OutpaintJob, "frames", _edges)
            patch.setattr(pipeline.OutpaintJob, "estimate", Estimate())
        if parsed or trained:
            patch.setattr(argparse.ArgumentParser, "parse_known_args", _parse_and_stop)
        patch.setattr(sys, "argv", words[1:])
        patch.syspath_prepend(str(ROOT / "tools"))
        try:
            if words[0] == "gp-jax":
                return command_line.main(words[1:])
            if words[1] == "-c":
                exec(words[2], {})
            else:
                runpy.run_path(words[1], run_name="__main__")
        except SystemExit as stopped:
            if trained and not stopped.code:
                assert find_checkpoint(words[words.index("--init-from") + 1])
                shutil.copytree(made("checkpoint"), Path(words[words.index("--workdir") + 1], "checkpoint"))
            return stopped.code or 0
    return 0


def _edges(job: pipeline.OutpaintJob, progress: Progress = quiet) -> Iterator[np.ndarray]:
    """In the place of sampling: repeated borders."""
    return classical.edge().prepare(job.clip, job.canvas, NoOptions()).frames(progress)


_parse = argparse.ArgumentParser.parse_known_args


def _parse_and_stop(parser, arguments=None, namespace=None):
    if namespace is not None:  # a subcommand
        return _parse(parser, arguments, namespace)
    found, rest = _parse(parser, arguments)
    if getattr(found, "config", None):
        load_config(found.config, rest)
        rest = []
    sys.exit(f"not understood: {rest}" if rest else 0)
