"""`gp-jax outpaint` in two processes that cut the parameters between them: the frames of one, and the same end."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from gp_jax.cli.main import main
from gp_jax.video import VideoReader, VideoWriter
from tests import small_m3ddm, small_networks
from tests.parallel import together

FRAMES = np.random.default_rng(0).integers(0, 256, (7, 16, 24, 3), np.uint8)  # two levels of the plan
PROGRAM = """
import os, sys
from flax import nnx
import jax
from gp_jax.parallel import processes
from gp_jax.methods.latent_job import LatentJob
processes.PATIENCE = {patience}
make, calls, cut = LatentJob._make, [], []
def counted(self, *arguments):
    calls.append(0)
    cut[:] = jax.tree.leaves(nnx.state(self.vae, nnx.Param))
    if len(calls) == {last}:
        os.kill(os.getpid(), 9)
    return make(self, *arguments)
LatentJob._make = counted
from gp_jax.cli.main import main
code = main({arguments!r})
print(len(calls), "calls,", sum(not x.is_fully_replicated for x in cut), "cut")
sys.exit(code)
"""


@pytest.fixture(scope="module")
def request_of(tmp_path_factory):
    """request_of(OUT, ...) -> the arguments of the command, without those of a mesh."""
    folder = tmp_path_factory.mktemp("request")
    checkpoint = small_networks.write(folder / "checkpoint")
    small_networks.write_text(checkpoint)
    with VideoWriter(folder / "clip", 24) as writer:
        for frame in FRAMES:
            writer.write(frame)

    def arguments(output, *more):
        source = [str(folder / "clip"), str(output), "--pad", "4,4,0,0", "--no-shots"]
        return ["outpaint", *source, "--checkpoint", str(checkpoint), *map(str, more)]

    return arguments


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("programs") / "of")


def start(arguments, cache, number, devices=1, last=0):
    program = PROGRAM.format(arguments=arguments, patience=together.PATIENCE, last=last)
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_COMPILATION_CACHE_DIR": f"{cache}{number}",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-c", program], cwd=together.ROOT, env=environment, **pipes)


def two(cache, arguments, mesh="fsdp=2", kills=(0, 0), others=None):
    """How two processes ended that were given a request; `kills` are the calls at which they kill themselves."""
    address = together.free_address()
    running = []
    for number, last in enumerate(kills):
        given = arguments if number == 0 or others is None else others
        where = ["--mesh", mesh, "--coordinator", address, "--num-processes", "2", "--process-id", str(number)]
        running.append(start([*given, *where], cache, number, last=last))
    return together.wait(running, 600)


def frames(folder):
    return np.stack(list(VideoReader(folder, 24).frames_at(range(len(FRAMES)))))


@pytest.fixture(scope="module")
def one(request_of, tmp_path_factory, cache):
    """The frames of one process with both devices."""
    output = tmp_path_factory.mktemp("one") / "wide"
    (end,) = together.wait([start([*request_of(output), "--mesh", "fsdp=2"], cache, "one", devices=2)], 600)
    assert end.code == 0, end
    return frames(output)


@pytest.mark.slow
def test_two_processes_make_what_one_makes(request_of, one, cache, tmp_path):
    ends = two(cache, request_of(tmp_path / "wide"))
    assert [end.code for end in ends] == [0, 0], ends
    assert "7 frames, 32x16" in ends[0].printed and "frames" not in ends[1].printed, ends
    assert np.array_equal(frames(tmp_path / "wide"), one)
    for end in ends:  # most parameters have a dimension that two divides
        assert "4 calls," in end.printed and int(re.search(r"(\d+) cut", end.printed)[1]) > 20, end


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["tensor=2", "data=2"])
def test_other_meshes_do_too(request_of, one, cache, tmp_path, mesh):
    """In another order of sums, whose last bits may become one level of 255."""
    ends = two(cache, request_of(tmp_path / "wide"), mesh)
    assert [end.code for end in ends] == [0, 0], ends
    assert np.abs(frames(tmp_path / "wide").astype(int) - one).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("more", [["--overlap", "2"], ["--method", "m3ddm"]])
def test_other_requests_are_shared_too(request_of, cache, tmp_path, more):
    if "m3ddm" in more:
        checkpoint = small_m3ddm.write(tmp_path / "m3ddm", native_area=1024, steps=3, global_frames=4)
        more = [*more, "--checkpoint", checkpoint]
    alone = start([*request_of(tmp_path / "one", *more), "--mesh", "fsdp=2"], cache, "one", devices=2)
    ends = [*together.wait([alone], 600), *two(cache, request_of(tmp_path / "two", *more))]
    assert [end.code for end in ends] == [0, 0, 0], ends
    assert np.array_equal(frames(tmp_path / "two"), frames(tmp_path / "one"))


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
def test_what_a_kill_ends_goes_on(request_of, one, cache, tmp_path, who):
    """The other one ends with a sentence and leaves nothing half-written but the journal, with which both go on."""
    request, kills = request_of(tmp_path / "wide", "--resume"), [0, 0]
    kills[who] = 2
    ends = two(cache, request, kills=kills)
    assert ends[who].code == -9 and ends[1 - who].code not in (0, -9), ends
    assert "has died or cannot be reached" in ends[1 - who].printed and ends[1 - who].seconds < 60, ends
    left = {path.name for path in tmp_path.iterdir() if who or not path.name.startswith(".gp_jax")}
    assert left == {"wide.gp-jax-work"}, left
    ends = two(cache, request)
    assert [end.code for end in ends] == [0, 0], ends
    assert all("3 calls," in end.printed for end in ends), ends  # of four
    assert np.array_equal(frames(tmp_path / "wide"), one)
    assert {path.name for path in tmp_path.iterdir()} == {"wide"}


@pytest.mark.slow
def test_both_end_where_one_cannot_begin(request_of, cache, tmp_path):
    """The output stands there already, which process 0 alone looks at; or one was given another command."""
    (tmp_path / "wide").mkdir()
    (tmp_path / "wide" / "own").touch()
    ends = two(cache, request_of(tmp_path / "wide"))
    assert [end.code for end in ends] == [2, 2] and all("is there already" in end.printed for end in ends), ends
    ends = two(cache, request_of(tmp_path / "new"), others=request_of(tmp_path / "new", "--seed", "3"))
    assert [end.code for end in ends] == [2, 2] and all("another command" in end.printed for end in ends), ends
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "more, says",
    [
        ([], "give --mesh too"),
        (["--mesh", "fsdp=2", "--method", "mirror"], "mirror has none"),
        (["--mesh", "fsdp=2", "--num-processes", "2"], "goes with --num-processes and --process-id"),
    ],
)
def test_what_cannot_be_shared_is_refused(request_of, tmp_path, capsys, more, says):
    assert main([*request_of(tmp_path / "wide"), "--coordinator", "127.0.0.1:1", *more]) == 2
    assert says in capsys.readouterr().err and not (tmp_path / "wide").exists()
