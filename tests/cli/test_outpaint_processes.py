"""`gp-jax outpaint` in processes that cut the parameters between them: the frames of one, and the same end."""

import functools
import re

import cv2
import numpy as np
import pytest

from gp_jax.cli.main import main
from gp_jax.video import VideoReader, VideoWriter
from tests import small_m3ddm, small_motia, small_networks
from tests.parallel import together

# A texture under a moving camera; its seven frames are two levels of the plan.
TEXTURE = cv2.resize(np.random.default_rng(0).integers(0, 256, (4, 9, 3), np.uint8), (48, 16))
FRAMES = np.stack([TEXTURE[:, 2 * frame : 2 * frame + 24] for frame in range(7)])
# How often networks were called, and how many parameters no device holds alone; `now` is in call two.
COUNTED = """
import jax
from flax import nnx
from gp_jax.methods.latent_job import LatentJob
make, calls, cut = LatentJob._make, [], []
def counted(self, *arguments):
    calls.append(0)
    cut[:] = jax.tree.leaves(nnx.state(self.vae, nnx.Param))
    if len(calls) == 2:
        now()
    return make(self, *arguments)
LatentJob._make = counted
"""
TOLD = """
print(len(calls), "calls,", sum(not x.is_fully_replicated for x in cut), "cut")
"""
several = functools.partial(together.commands, before=COUNTED, after=TOLD)
KILLED, SLOW = "os.kill(os.getpid(), 9)", f"time.sleep({3 * together.PATIENCE})"


@pytest.fixture(scope="module")
def request_of(tmp_path_factory):
    """request_of(OUT, ...) -> the arguments of the command, without those of a mesh."""
    folder = tmp_path_factory.mktemp("request")
    checkpoint = small_networks.write(folder / "checkpoint")
    small_networks.write_text(checkpoint)
    with VideoWriter(folder / "clip", 24) as writer:
        for frame in FRAMES:
            writer.write(np.ascontiguousarray(frame))
    with VideoWriter(folder / "mask", 24) as writer:
        writer.write(np.pad(np.full((6, 6, 3), 255, np.uint8), ((5, 5), (9, 9), (0, 0))))

    def arguments(output, *more):
        source = [str(folder / "clip"), str(output), "--pad", "4,4,0,0", "--no-shots"]
        more = (str(one).replace("MASK", str(folder / "mask")) for one in more)
        return ["outpaint", *source, "--checkpoint", str(checkpoint), *more]

    return arguments


def alone(arguments, cache, mesh="fsdp=2", devices=2):
    """One process with all devices."""
    return together.command([*arguments, "--mesh", mesh], cache, "one", devices)


def frames(folder):
    return np.stack(list(VideoReader(folder, 24).frames_at(range(len(FRAMES)))))


@pytest.fixture(scope="module")
def one(request_of, tmp_path_factory, cache):
    """The frames of one process with both devices."""
    output = tmp_path_factory.mktemp("one") / "wide"
    (end,) = together.wait([alone(request_of(output), cache)], 600)
    assert end.code == 0, end
    return frames(output)


@pytest.mark.slow
def test_two_processes_make_what_one_makes(request_of, one, cache, tmp_path):
    ends = several(request_of(tmp_path / "wide"), cache)
    assert [end.code for end in ends] == [0, 0], ends
    assert "7 frames, 32x16" in ends[0].printed and "frames" not in ends[1].printed, ends
    assert np.array_equal(frames(tmp_path / "wide"), one)
    for end in ends:  # most parameters have a dimension that two divides
        assert "4 calls," in end.printed and int(re.search(r"(\d+) cut", end.printed)[1]) > 20, end


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["tensor=2", "data=2"])
def test_other_meshes_do_too(request_of, one, cache, tmp_path, mesh):
    """In another order of sums, whose last bits may become one level of 255."""
    ends = several(request_of(tmp_path / "wide"), cache, mesh)
    assert [end.code for end in ends] == [0, 0], ends
    assert np.abs(frames(tmp_path / "wide").astype(int) - one).max() <= 1


@pytest.mark.slow
def test_four_processes_make_what_one_makes(request_of, one, cache, tmp_path):
    ends = several(request_of(tmp_path / "wide"), cache, "fsdp=2,tensor=2", count=4)
    assert [end.code for end in ends] == [0] * 4, ends
    assert np.abs(frames(tmp_path / "wide").astype(int) - one).max() <= 1
    assert all(int(re.search(r"(\d+) cut", end.printed)[1]) > 20 for end in ends), ends


@pytest.mark.slow
def test_all_wait_for_one_that_is_slow(request_of, one, cache, tmp_path):
    """For longer than a sign of life may take: it gives these meanwhile."""
    ends = several(request_of(tmp_path / "wide"), cache, who=1, does=SLOW)
    assert [end.code for end in ends] == [0, 0], ends
    assert np.array_equal(frames(tmp_path / "wide"), one)


REQUESTS = [
    ["--overlap", "2"],
    ["--method", "m3ddm"],
    ["--method", "motia", "--steps", "2", "--adapt", "1"],
    ["--pad", "36,36,8,8", "--detail", "tiles"],  # in rounds
    ["--pad", "36,36,8,8", "--detail", "source"],
    ["--propagate"],
    ["--mask", "MASK"],
    ["--stabilize"],
    ["--adapt", "2", "--save-lora", "LORA"],
    ["--plan", "sequential", "--sampler", "lcm"],
]


@pytest.mark.slow
@pytest.mark.parametrize("more", REQUESTS, ids=" ".join)
def test_other_requests_are_shared_too(request_of, cache, tmp_path, more):
    if "m3ddm" in more:
        checkpoint = small_m3ddm.write(tmp_path / "m3ddm", native_area=1024, steps=3, global_frames=4)
        more = [*more, "--checkpoint", checkpoint]
    if "motia" in more:
        more = [*more, "--checkpoint", small_motia.write(tmp_path / "motia")]
    one, two = (
        request_of(tmp_path / name, *(str(part).replace("LORA", f"{tmp_path / name}.safetensors") for part in more))
        for name in ("one", "two")
    )
    ends = [*together.wait([alone(one, cache)], 600), *several(two, cache)]
    assert [end.code for end in ends] == [0, 0, 0], ends
    assert np.array_equal(frames(tmp_path / "two"), frames(tmp_path / "one"))
    assert len({path.read_bytes() for path in tmp_path.glob("*.safetensors")}) == ("LORA" in more)


@pytest.mark.slow
@pytest.mark.parametrize("who, count, mesh", [(0, 2, "fsdp=2"), (1, 2, "fsdp=2"), (3, 4, "fsdp=2,tensor=2")])
def test_what_a_kill_ends_goes_on(request_of, one, cache, tmp_path, who, count, mesh):
    """The others end with a sentence and leave nothing half-written but the journal, with which all go on."""
    request = request_of(tmp_path / "wide", "--resume")
    ends = several(request, cache, mesh, count, who=who, does=KILLED)
    assert ends[who].code == -9, ends
    for end in ends[:who] + ends[who + 1 :]:
        assert end.code not in (0, -9) and "has died or cannot be reached" in end.printed and end.seconds < 90, ends
    left = {path.name for path in tmp_path.iterdir() if who or not path.name.startswith(".gp_jax")}
    assert left == {"wide.gp-jax-work"}, left
    ends = several(request, cache, mesh, count)
    assert [end.code for end in ends] == [0] * count, ends
    assert all("3 calls," in end.printed for end in ends), ends  # of four
    assert np.abs(frames(tmp_path / "wide").astype(int) - one).max() <= count // 4
    assert {path.name for path in tmp_path.iterdir()} == {"wide"}


@pytest.mark.slow
def test_both_end_where_one_cannot_begin(request_of, cache, tmp_path):
    """The output stands there already, which process 0 alone looks at; or one was given another command."""
    (tmp_path / "wide").mkdir()
    (tmp_path / "wide" / "own").touch()
    ends = several(request_of(tmp_path / "wide"), cache)
    assert [end.code for end in ends] == [2, 2] and all("is there already" in end.printed for end in ends), ends
    ends = several(request_of(tmp_path / "new"), cache, others=request_of(tmp_path / "new", "--seed", "3"))
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
