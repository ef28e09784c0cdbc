"""Several clips that share a mesh: each is what it is alone, and fewer rows of the mesh are idle."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from gp_jax.evaluation.harness import Contender
from gp_jax.geometry import Canvas
from gp_jax.methods.execute import execute
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.methods.globalpaint.plan import PLANS
from gp_jax.methods.method import ArrayClip
from gp_jax.methods.options import Count, Whole
from gp_jax.methods.rows import rows_of_calls
from gp_jax.methods.shots import prepare
from gp_jax.methods.together import Together, joint, lengths_of
from gp_jax.parallel import make_mesh
from tests import small_networks

CANVAS = Canvas.from_pads(22, 28, 0, 14, 0, 0)
RNG = np.random.default_rng(5)
LENGTHS = (9, 3, 14, 1)
CLIPS = [RNG.integers(0, 256, (length, 22, 28, 3), np.uint8) for length in LENGTHS]


@pytest.mark.parametrize("lengths", [(9, 3, 14), (1,), (40, 200, 7, 7, 7, 90)])
@pytest.mark.parametrize("batch", [1, 4])
def test_frames_come_in_order_and_nothing_passes_from_clip_to_clip(lengths, batch):
    plans, held = [PLANS["hierarchical"](length, 8) for length in lengths], []
    plan = joint(plans, lengths)
    ends = np.cumsum(lengths)

    def clip_of(frame):
        return int((ends <= frame).sum())

    def make(number, segments, completed):
        held.append(len(completed))
        for segment in segments:
            of = {clip_of(frame) for frame in (*segment.frames, *segment.needed)}
            assert len(of) == 1 and segment.start == ends[clip_of(segment.frames[0])] - lengths[of.pop()]
            own = plans[clip_of(segment.frames[0])].levels[number]
            assert segment.times in [one.times for one in own]
        return {frame: frame for segment in segments for frame in segment.made}

    assert list(execute(plan, make, batch)) == [(frame, frame) for frame in range(sum(lengths))]
    assert max(held) <= 8 * (batch + 2)
    assert sum(map(len, plan.levels)) == sum(len(level) for one in plans for level in one.levels)


def test_few_rows_of_a_mesh_are_idle():
    """Of as many clips as DAVIS has or so, on eight slices of four rows each, by segments of 16 frames."""
    lengths, idle, work = np.random.default_rng(0).integers(25, 105, 38).tolist(), [0, 0], 0
    plans = [PLANS["hierarchical"](length, 16) for length in lengths]
    for plan in plans:  # one by one: key frames are a call of their own
        first, *levels = map(len, plan.levels)
        rows, work = rows_of_calls(levels, 8, 32), work + first + sum(levels)
        idle[0] += 8 - first + sum(-level % rows for level in levels)
    levels = [len(level) for level in joint(plans, lengths).levels]
    idle[1] = sum(-level % rows_of_calls(levels, 8, 32) for level in levels)
    one_by_one, together = (rows / (work + rows) for rows in idle)
    assert one_by_one > 0.45 and together < 0.1, (one_by_one, together)


def test_several_clips_are_read_as_one():
    clips = Together(list(map(ArrayClip, CLIPS)))
    assert (clips.starts, len(clips), lengths_of(clips)) == ((0, 9, 12, 26), 27, list(LENGTHS))
    assert lengths_of(ArrayClip(CLIPS[0])) == [9]
    wanted = [0, 8, 9, 25, 26]
    np.testing.assert_array_equal(list(clips.frames_at(wanted)), np.concatenate(CLIPS)[wanted])


def test_what_is_behind_the_last_frame_of_several_clips_is_done_too():
    """A job learns there how fast this device is."""
    ended = []

    def frames():
        yield from np.concatenate(CLIPS)
        ended.append(True)

    job = SimpleNamespace(frames=frames)
    contender = Contender(SimpleNamespace(prepare=lambda *asked: job), options=())
    for made, expected in zip(contender.outpaint(CLIPS, CANVAS), CLIPS, strict=True):
        np.testing.assert_array_equal(made, expected)
    assert ended


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_networks.write(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def meshed(folder):
    return OutpaintPipeline.from_pretrained(folder, mesh=make_mesh("data=2,fsdp=2,tensor=2", jax.devices()))


@pytest.fixture(scope="module")
def alone(folder):
    pipe = OutpaintPipeline.from_pretrained(folder)
    return [pipe(clip, CANVAS) for clip in CLIPS]


def test_each_is_what_it_is_alone_and_fewer_rows_are_idle(meshed, alone, tmp_path):
    """As a list, and as shots of a film, whose job goes on where it was closed."""
    for made, expected in zip(meshed(CLIPS, CANVAS), alone, strict=True):
        assert made.shape == expected.shape and np.abs(made.astype(int) - expected).max() <= 1
    film = ArrayClip(np.concatenate(CLIPS))
    shots = [range(start, start + length) for start, length in zip((0, 9, 12, 26), LENGTHS)]
    together = prepare(meshed, film, CANVAS, Options(), tmp_path / "work", shots)
    apart = [meshed.prepare(clip, CANVAS, Options()).estimate for clip in CLIPS]
    assert together.estimate.evaluations == sum(one.evaluations for one in apart)
    assert together.estimate.idle < 0.5 * sum(one.idle for one in apart)
    frames = together.frames()
    begun = [next(frames) for _ in range(4)]
    frames.close()
    again = prepare(meshed, film, CANVAS, Options(), tmp_path / "work", shots)
    assert again.estimate.evaluations < together.estimate.evaluations
    made = list(again.frames())
    np.testing.assert_array_equal(made[:4], begun)
    assert np.abs(np.stack(made).astype(int) - np.concatenate(alone)).max() <= 1


@pytest.mark.parametrize(
    "options", [{"plan": "sequential"}, {"detail": "source"}, {"adapt": Whole(3)}, {"overlap": Whole(2)}, {"mask": "x"}]
)
def test_what_is_more_than_frames_and_tokens_is_made_clip_by_clip(meshed, options):
    assert meshed.side_by_side(Options(steps=Count(3))) == 4 and meshed.side_by_side(Options(**options)) == 1
    assert OutpaintPipeline(meshed.checkpoint).side_by_side(Options()) == 1
