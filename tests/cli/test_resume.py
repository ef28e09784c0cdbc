"""`gp-jax outpaint --resume` after kill -9: the same frames, bit for bit, as if nothing had happened."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gp_jax.cli.main import main
from gp_jax.cli.outpaint import WORK
from gp_jax.jobs import journal
from gp_jax.methods.globalpaint.plan import plan
from gp_jax.video import VideoReader, VideoWriter
from tests import small_networks

SIZE = "42x21"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return small_networks.write(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def outpaint(checkpoint, tmp_path):
    """outpaint("out", "--resume", frames=17) -> arguments for a clip of so many frames."""

    def arguments(out: str, *more: str, frames: int = 17, source: str = "clip") -> list[str]:
        if not (tmp_path / source).exists():
            write_clip(tmp_path / source, frames, seed=len(source))
        files = [str(tmp_path / source), str(tmp_path / out)]
        return ["outpaint", *files, "--size", SIZE, "--checkpoint", str(checkpoint), *more]

    return arguments


def write_clip(path: Path, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    with VideoWriter(path, 25) as writer:
        for _ in range(count):
            writer.write(rng.integers(0, 256, (21, 27, 3), np.uint8))


def pieces(work: Path) -> dict[str, int]:
    """The journal's files, and which file each of them is."""
    return {path.name: path.stat().st_ino for path in work.glob(f"*{journal.SUFFIX}") if path.name[0] != "."}


def kill_at(arguments: list[str], work: Path, count: int, later: float) -> bool:
    """Starts the command and kills it when so many pieces lie there, and a little later; whether it still lived."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gp_jax", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while len(pieces(work)) < count and process.poll() is None:
            time.sleep(0.002)
        time.sleep(later)
    finally:
        process.kill()
        code = process.wait()
    assert code in (0, -9)
    return code == -9


@pytest.mark.parametrize(
    ("frames", "kills"), [(17, 2), pytest.param(200, 10, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_killed_at_any_moment_and_resumed_it_makes_the_same_frames(tmp_path, outpaint, frames, kills, capsys):
    assert main(outpaint("whole", frames=frames)) == 0  # folders of PNGs: frames as they were before encoding
    work, arguments = tmp_path / f"again{WORK}", outpaint("again", "--resume")
    total = 1 + sum(map(len, plan(frames, small_networks.SETTINGS.segment_frames).levels))
    moment = random.Random(frames)
    # The first comes before anything lies there, the others while pieces are written, so early that some are left.
    counts = sorted(moment.sample(range(1, total * 3 // 4), kills - 1))
    moments = [(0, moment.uniform(0, 1)), *((count, moment.uniform(0, 0.01)) for count in counts)]
    before, killed = {}, 0
    for count, later in moments:
        killed += kill_at(arguments, work, count, later)
        after = pieces(work)
        assert before.items() <= after.items(), "what is done is not done again"
        assert not (tmp_path / "again").exists(), "nothing half-written"
        before = after
    assert killed == kills and len(before) > 0
    assert main(arguments) == 0
    whole, again = VideoReader(tmp_path / "whole"), VideoReader(tmp_path / "again")
    assert len(whole) == len(again) == frames
    for one, other in zip(whole, again):
        np.testing.assert_array_equal(one, other)
    assert not work.exists(), "nobody named it"
    assert not list(tmp_path.glob(".gp_jax*")), "what the dead left is swept"


@pytest.mark.slow
def test_killed_while_it_adapts_it_ends_with_the_same_lora(tmp_path, outpaint):
    def adapting(out):
        return outpaint(out, "--resume", "--adapt", "1500", "--save-lora", str(tmp_path / f"{out}.safetensors"))

    assert main(adapting("whole")) == 0
    work = tmp_path / f"again{WORK}"
    assert kill_at(adapting("again"), work, 1, 0.5)  # the state of the first fit, or its outcome
    assert list(work.glob("adapt-unet*")) and not list(work.glob("level*"))
    assert main(adapting("again")) == 0
    whole, again = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("whole", "again"))
    assert whole == again
    for one, other in zip(VideoReader(tmp_path / "whole"), VideoReader(tmp_path / "again")):
        np.testing.assert_array_equal(one, other)


REFUSED = {
    "source": (["--resume"], {"source": "other"}, "another source (sha256)"),
    "canvas": (["--resume", "--anchor", "left"], {}, "another canvas (left)"),
    "seed": (["--resume", "--seed", "1"], {}, "seed 0, not 1"),
    "steps": (["--resume", "--steps", "1"], {}, "steps 2, not 1"),
    "not asked": ([], {}, "go on with it by --resume"),
}


def test_other_work_is_refused_and_a_named_folder_stays(tmp_path, outpaint, checkpoint, capsys):
    named = ["--work-folder", str(tmp_path / "work")]
    assert main(outpaint("one", *named)) == 0
    there = pieces(tmp_path / "work")
    assert there and (tmp_path / "work" / journal.WORK).exists()
    for name, (more, source, words) in REFUSED.items():
        capsys.readouterr()
        assert main(outpaint("two", *named, *more, **source)) == 2, name
        said = capsys.readouterr().err.splitlines()[-1]
        assert words in said and str(tmp_path / "work") in said, said
    network = next((checkpoint / "vae").glob("*.safetensors"))
    data = network.read_bytes()
    try:
        network.write_bytes(data[:-1] + bytes([data[-1] ^ 0x80]))
        assert main(outpaint("two", *named, "--resume")) == 2
        assert "another checkpoint (vae)" in capsys.readouterr().err
    finally:
        network.write_bytes(data)
    assert not (tmp_path / "two").exists()
    assert main(outpaint("two", *named, "--resume")) == 0
    assert pieces(tmp_path / "work") == there
    for one, two in zip(VideoReader(tmp_path / "one"), VideoReader(tmp_path / "two")):
        np.testing.assert_array_equal(one, two)


def test_a_folder_of_other_things_is_no_work_folder(tmp_path, outpaint, capsys):
    assert main(outpaint("out", "--work-folder", str(tmp_path))) == 2
    assert "other things than the work of a job" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_threads_and_the_job_goes_on(tmp_path, outpaint, number):
    arguments, work = outpaint("out", "--resume", frames=60), tmp_path / f"out{WORK}"
    process = subprocess.Popen([sys.executable, "-m", "gp_jax", *arguments], stderr=subprocess.PIPE, text=True)
    while len(pieces(work)) < 3 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number and "Traceback" not in said
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".gp_jax*")) and not list(work.glob(".gp_jax*"))
    assert said.splitlines()[-1] == f"gp-jax: what is done lies in {work}: --resume goes on with it"
    assert main(arguments) == 0 and not work.exists()
