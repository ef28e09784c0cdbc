"""What a run lacks is told before it compiles anything, and before its folder is made."""

import re

import jax
import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.parallel import make_mesh
from gp_jax.training import loop
from gp_jax.training.budget import batch_shapes
from gp_jax.training.loop import train
from gp_jax.training.setup import prepare
from gp_jax.video import VideoWriter
from tests.training import small

SAMPLE = {"interval": 1, "clip": "sample:carphone", "aspect": 4.0, "frames": 3}


@pytest.fixture
def refused(records, checkpoint, tmp_path, monkeypatch):
    """The sentence with which a run of key frames is refused, of which some fields are replaced."""

    def compile_step(*_):
        raise AssertionError("it was about to be compiled")

    monkeypatch.setattr(loop, "compile_step", compile_step)

    def run(workdir=tmp_path / "w", **fields):
        config = small.config("keyframes", records, checkpoint)
        config.update(fields)
        with pytest.raises(UserError) as error:
            train(config, workdir, mesh=make_mesh("data=1", jax.devices()[:1]))
        return str(error.value)

    run.there = tmp_path / "w"
    return run


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"data": {"downsampling": 4}}, "data.downsampling is 4 and vae's pixels per latent is 8"),
        ({"data": {"view_patch": 4}}, "view_size / view_patch is 4 and clip.image_size / patch_size is 2"),
        ({"data": {"feature_frames": 0}}, "data.feature_frames is 0"),
        ({"data": {"records": ("nowhere",)}}, "no folder nowhere"),
        ({"data": {"precomputed": True}}, "precomputed"),
        ({"changes": {"unet": {"out_channels": 3}}}, "in_channels is 9 and 2 x out_channels \\+ 1 is 7"),
        ({"changes": {"global_tokens": {"output_width": 8}}}, "output_width is 8"),
        ({"changes": {"unet": {"widnow": None}}}, "changes is .*keys"),
        ({"settings": {"segment_frames": 2}}, "settings.segment_frames is 2"),
        ({"validation": {"batches": 0}}, "validation.batches is 0"),
        ({"validation": {"interval": 1, "batches": 10_000}, "batch_size": 2**20}, "needs at least .* GB"),
        ({"batch_size": 2**30}, "a step of 1073741824 segments needs at least"),
        ({"attention": "cudnn"}, "cudnn runs on a GPU, and this is a CPU: use auto"),
        ({"attention": "splash"}, "splash runs on a TPU"),
        ({"samples": SAMPLE | {"clip": "nowhere.mp4"}}, "no video or folder nowhere.mp4"),
        ({"samples": SAMPLE | {"clip": "sample:nothing"}}, "no sample 'nothing'"),
        ({"samples": SAMPLE | {"aspect": 176 / 144}}, "nothing to outpaint"),
        ({"samples": SAMPLE | {"aspect": 900.0}}, "too large|vanishes"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_does_not_fit_or_is_not_there_is_told_before_the_work(refused, fields, message):
    said = refused(**fields)
    assert re.search(message, said), said
    assert not refused.there.exists()


def test_a_split_that_is_asked_for_has_to_be_there(refused, tmp_path):
    only = small.write_records(tmp_path / "records", splits=("train",))
    asked = {"validation": {"interval": 1}}
    assert "has no split 'validation'" in refused(data={"records": (str(only),)}, **asked)
    films = tmp_path / "films"
    films.mkdir()
    with VideoWriter(films / "a.mp4", 25) as writer:
        for _ in range(8):
            writer.write(np.zeros((16, 24, 3), np.uint8))
    assert "--config.data.size=" in refused(data={"records": (str(films),)})
    assert "no folder validation/" in refused(data={"records": (str(films),), "size": (16, 24)}, **asked)


def test_a_log_that_is_none_is_not_written_over(refused, tmp_path):
    for content in (b"\xff\xfe\n{}", b'{"step": 1}\ntorn\n{"step": 2}\n', b"[1]\n[2]\n"):
        (tmp_path / "log.jsonl").write_bytes(content)
        assert "log.jsonl, line" in refused(tmp_path)
        assert (tmp_path / "log.jsonl").read_bytes() == content
    (tmp_path / "log.jsonl").unlink()
    (tmp_path / "tensorboard").touch()
    assert "tensorboard is no folder" in refused(tmp_path)


@pytest.mark.parametrize("area", [72 * 128, 100 * 100, 1000, 64, 12_345])
def test_any_native_area_is_benched_at_sides_of_whole_latents(records, checkpoint, area):
    config = small.config("keyframes", records, checkpoint, settings={"native_area": area})
    shapes = batch_shapes(prepare(config, make_mesh("data=1", jax.devices()[:1])))
    height, width = shapes["pixel_mask"].shape[1:]
    assert shapes["pixels"].shape[2:4] == (height, width)
    assert tuple(8 * x for x in shapes["latent_mask"].shape[1:]) == (height, width)
    assert 0.6 < height * width / area < 1.6


def test_frames_of_a_size_are_benched_at_it(records, checkpoint):
    config = small.config("keyframes", records, checkpoint)
    config.data.size = (16, 40)
    shapes = batch_shapes(prepare(config, make_mesh("data=1", jax.devices()[:1])))
    assert shapes["pixels"].shape[2:4] == (16, 40) and shapes["latent_mask"].shape[1:] == (2, 5)
    config.data.size = (16, 41)
    with pytest.raises(UserError, match="41x16 pixels are no whole latents"):
        batch_shapes(prepare(config, make_mesh("data=1", jax.devices()[:1])))
