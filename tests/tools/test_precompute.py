"""Precomputed files equal what training computes from pixels, and nothing of an unknown pixel is in them."""

import dataclasses
import json
import re
import shutil
import sys
from contextlib import nullcontext

import jax
import numpy as np
import precompute
import pytest
from jobs import run

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.components import save_module
from gp_jax.checkpoint.folder import load_checkpoint
from gp_jax.cli import engine
from gp_jax.convert import convert, load
from gp_jax.data import DataConfig, make_loader
from gp_jax.data.clips import pack_clip
from gp_jax.data.precomputed import FOLDER, Recipe, model_hash, variant
from gp_jax.data.shards import begin, finish, read_manifest, shard_names, write_shard
from gp_jax.errors import UserError
from gp_jax.geometry import pixel_mask
from gp_jax.methods.latents import encode
from gp_jax.methods.placement import to_float
from gp_jax.models.clip import TextConfig, TextTower, preprocess
from tests import small_networks

SIZE = (16, 24)
OPTIONS = ("--variants", 2, "--frames", 3, "--batch", 8)


def video(number):
    return np.random.default_rng(number).integers(0, 256, (6 + number, *SIZE, 3)).astype(np.uint8)


def write_records(folder, change=lambda number, frames: frames):
    """Three clips of 6, 7 and 8 frames in two shards."""
    begin(folder, {})
    names = shard_names("train", 2)
    for name, numbers in zip(names, ((0, 1), (2,))):
        facts = [{"key": f"clip {n}", "caption": "ab"[: n + 1]} for n in numbers]
        write_shard(folder / name, [pack_clip(change(n, video(n)), f, "png") for n, f in zip(numbers, facts)], {})
    finish(folder, {"train": names}, {"size": SIZE})
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = small_networks.write(tmp_path_factory.mktemp("checkpoint"))
    config = TextConfig(6, 16, 16, 1, 2, 5, eos_token_id=5)
    tower = parameters.abstract(TextTower, config)
    parameters.load_into(tower, small_networks.random_weights(parameters.flatten(tower), seed=1))
    save_module(tower, folder / "text", config.to_json())
    (folder / "tokenizer").mkdir()
    words = ["a", "b", "a</w>", "b</w>", "<|startoftext|>", "<|endoftext|>"]
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    return folder


def call(*arguments):
    """The tool's exit status."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(sys, "argv", ["precompute.py", *map(str, arguments)])
        run(precompute.precompute, precompute.parse())
    return stopped.value.code


@pytest.fixture(scope="module")
def records(tmp_path_factory, checkpoint):
    folder = write_records(tmp_path_factory.mktemp("records"))
    assert not call(folder, "latents", "features", "text", "--checkpoint", checkpoint, *OPTIONS)
    return folder


@pytest.fixture(scope="module")
def config(records):
    return DataConfig(
        records=(str(records),), segment_frames=4, feature_frames=3, precomputed=True, text=True, known="ends"
    )


def contents(records):
    files = [file for part in ("latents", "features") for file in (records / FOLDER / part).glob("*.array_record")]
    return {str(file.relative_to(records)): file.read_bytes() for file in files}


def test_batches_hold_what_training_computes_from_the_pixels(config):
    loader = make_loader(config, batch_size=3)
    seen = set()
    vae, vision = small_networks.build("vae"), small_networks.build("clip")
    compute = jax.jit(encode)
    look = jax.jit(lambda vision, x: vision(preprocess(to_float(x), 16)))
    for _ in range(3):
        batch = next(loader)
        assert {k: (x.shape, x.dtype) for k, x in batch.items()} == {
            k: (x.shape, x.dtype) for k, x in loader.specs[0].items()
        }
        for row in range(3):
            views = [(n, v, variant(Recipe(2, 3), f"clip {n}", v, 6 + n, SIZE)) for n in range(3) for v in range(2)]
            [(number, which, view)] = [
                (n, v, view)
                for n, v, view in views
                if np.array_equal(pixel_mask(view.canvas), batch["pixel_mask"][row])
                and np.allclose(view.seen / (5 + n), batch["times"][row])
            ]
            seen.add((number, which))
            clip = video(number)[:, :, :: -1 if view.flip else 1]
            segment = clip[batch["frames"][row]]
            np.testing.assert_allclose(batch["latents"][row], compute(vae, to_float(segment)[None])[0], atol=5e-3)
            rows, columns = view.canvas.observed
            observed = np.zeros(segment.shape, np.float32)
            observed[:, rows, columns] = to_float(segment[:, rows, columns])
            np.testing.assert_allclose(batch["masked_latents"][row], compute(vae, observed[None])[0], atol=5e-3)
            pictures = precompute.observed_pictures(clip[view.seen], view.canvas, 16)
            np.testing.assert_allclose(batch["features"][row], look(vision, pictures), atol=5e-3)
    loader.close()
    assert {number for number, _ in seen} == {0, 1, 2} and {which for _, which in seen} == {0, 1}


def test_unknown_pixels_change_nothing_in_features_and_masked_latents(checkpoint, records, tmp_path):
    """One variant of each clip, so that what is unknown in it can be changed in the record."""

    def change(number, frames):
        view = variant(Recipe(1, 3), f"clip {number}", 0, len(frames), SIZE)
        mask = pixel_mask(view.canvas)[:, :: -1 if view.flip else 1]
        return np.where(mask[None, ..., None] == 1, 255 - frames, frames)

    batches = []
    for folder in (write_records(tmp_path / "one"), write_records(tmp_path / "other", change)):
        options = ("--variants", 1, "--frames", 3, "--batch", 8)
        assert not call(folder, "latents", "features", "--checkpoint", checkpoint, *options)
        config = DataConfig(records=(str(folder),), segment_frames=4, feature_frames=3, precomputed=True)
        loader = make_loader(config, batch_size=3)
        batches.append(next(loader))
        loader.close()
    one, other = batches
    assert not np.array_equal(one.pop("latents"), other.pop("latents"))
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_an_interrupted_run_goes_on_and_hosts_share_the_work(checkpoint, records, tmp_path, capsys):
    again = write_records(tmp_path / "again")
    arguments = (again, "latents", "features", "--checkpoint", checkpoint, *OPTIONS)
    assert not call(*arguments, "--host", "1/2")
    assert "finishes last" in capsys.readouterr().out
    assert not (again / FOLDER / "latents" / "manifest.json").exists()
    assert not call(*arguments)
    assert contents(again) == contents(records)
    assert call(again, "latents", "--checkpoint", checkpoint, *OPTIONS, "--seed", 1) == 2
    assert "was begun with plan" in capsys.readouterr().err


def test_verify_finds_a_flipped_byte(checkpoint, tmp_path, capsys):
    folder = write_records(tmp_path / "records")
    assert not call(folder, "features", "--checkpoint", checkpoint, *OPTIONS)
    assert call(folder, "features", "--verify") == 0
    shard = folder / FOLDER / "features" / "train-00000-of-00003.array_record"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    assert call(folder, "features", "--verify") == 1
    assert "train-00000-of-00003.array_record is not as it was written" in capsys.readouterr().out


def test_another_encoder_a_missing_file_and_other_records_are_told(config, records, checkpoint, tmp_path):
    def fails(match, **changes):
        with pytest.raises(UserError, match=match):
            make_loader(dataclasses.replace(config, **changes), batch_size=3)

    model = model_hash(small_networks.build("clip"))
    assert read_manifest(records / FOLDER / "features", "")["model"] == model
    make_loader(dataclasses.replace(config, models={"features": model}), batch_size=3)
    fails("features was made by another network", models={"features": "0" * 64})
    fails("features of 3 frames, not of feature_frames=5", feature_frames=5)

    folder = write_records(tmp_path / "copy")
    fails(r"latents has no manifest.json: make it with precompute.py .* \(see Training in", records=(str(folder),))
    assert not call(folder, "latents", "features", "text", "--checkpoint", checkpoint, *OPTIONS)
    missing = folder / FOLDER / "features" / "train-00001-of-00003.array_record"
    content = missing.read_bytes()
    missing.unlink()
    fails(r"features/train-00001-of-00003.array_record is missing", records=(str(folder),))
    missing.write_bytes(content)
    finish(folder, {"train": shard_names("train", 2)}, {"size": SIZE, "remade": True})
    fails("was not made from the records of .* as they are now", records=(str(folder),))


def test_a_broken_record_keeps_its_place_and_is_named(config, checkpoint, tmp_path, capsys):
    folder = write_records(tmp_path / "records")
    shard = folder / "train-00000-of-00002.array_record"
    content = bytearray(shard.read_bytes())
    content[content.index(b"IEND") - 100] ^= 1
    shard.write_bytes(content)
    assert not call(folder, "latents", "features", "--checkpoint", checkpoint, *OPTIONS)
    assert f"{folder} train record 0: " in capsys.readouterr().err
    loader = make_loader(dataclasses.replace(config, records=(str(folder),), text=False), batch_size=3)
    next(loader)
    loader.close()
    assert list(loader.skipped) == [f"{folder} train record 0"]


@pytest.mark.parametrize("last", ["text", "features", "tokenizer"])
def test_a_network_that_a_later_part_lacks_is_told_before_the_first_part(last, checkpoint, tmp_path, capsys):
    folder, lacking = write_records(tmp_path / "records"), tmp_path / "lacking"
    missing = {"features": "clip"}.get(last, last)
    shutil.copytree(checkpoint, lacking, ignore=shutil.ignore_patterns(missing))
    assert call(folder, "latents", "features", "text", "--checkpoint", lacking, *OPTIONS) == 2
    assert re.search(f"lacking.*{missing}", capsys.readouterr().err)
    assert not list(folder.rglob("precomputed/**/*.array_record"))


def test_frames_that_the_autoencoder_cannot_take_are_told_first(checkpoint, tmp_path, capsys):
    folder = tmp_path / "records"
    begin(folder, {})
    write_shard(folder / "train-00000-of-00001.array_record", [], {})
    finish(folder, {"train": shard_names("train", 1)}, {"size": (18, 24)})
    assert call(folder, "features", "latents", "--checkpoint", checkpoint, *OPTIONS) == 2
    assert "frames of 24x18 pixels cannot be encoded" in capsys.readouterr().err


@pytest.mark.parametrize("ratios", [(0.9, 0.1), (0.5, 1.5), (0, 0)])
def test_a_ratio_range_that_cannot_be_is_refused_before_anything_is_written(ratios, tmp_path, capsys):
    folder = write_records(tmp_path / "records")
    assert call(folder, "latents", "--ratio-range", *ratios) == 2
    assert "ratio_range lies within 0 and 1" in capsys.readouterr().err
    assert not (folder / FOLDER).exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_progress_is_told_within_a_record_and_by_every_process(processes, checkpoint, tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr(engine, "progress", lambda: nullcontext(lambda *told: steps.append(told)))
    folder = write_records(tmp_path)
    options = ("--variants", 2, "--batch", 1, "--processes", processes)
    assert not call(folder, "latents", "--checkpoint", checkpoint, *options)
    done = [done for done, total, _ in steps if total == 3]
    assert done == sorted(done) and done[-1] == 3 and len(set(done)) > 3


def test_the_text_is_that_of_the_caption(config, checkpoint):
    embed = load_checkpoint(checkpoint).embed
    captions = {f"clip {n}": embed("ab"[: n + 1])[0] for n in range(3)}
    loader = make_loader(dataclasses.replace(config, precomputed=False, view_size=8, view_patch=4), batch_size=3)
    batch = next(loader)
    loader.close()
    for pixels, text in zip(batch["pixels"], batch["text"]):
        first = pixels[0], pixels[0, :, ::-1]
        [number] = [n for n in range(3) if any(np.array_equal(x, frame) for x in first for frame in video(n))]
        np.testing.assert_allclose(text, captions[f"clip {number}"], atol=5e-3)


def test_latents_and_features_of_other_canvases_are_refused(config, checkpoint, tmp_path):
    folder = write_records(tmp_path / "records")
    assert not call(folder, "latents", "--checkpoint", checkpoint, *OPTIONS)
    assert not call(folder, "features", "--checkpoint", checkpoint, *OPTIONS, "--seed", 1)
    with pytest.raises(UserError, match="other canvases: make both in one call"):
        make_loader(dataclasses.replace(config, records=(str(folder),), text=False), batch_size=3)


def test_open_clip_and_our_tower_make_the_same_features(tmp_path):
    pytest.importorskip("open_clip")
    from tests.convert import references

    references.save_open_clip(references.whole_open_clip(), tmp_path / "theirs")
    convert(tmp_path / "theirs", tmp_path / "ours", only=["clip"])
    views = np.random.default_rng(0).integers(0, 256, (5, 21, 21, 3)).astype(np.uint8)
    theirs = precompute.open_clip_encoder(tmp_path / "theirs", batch=2)(views)
    tower = load(tmp_path / "ours" / "clip")[0]
    ours = jax.jit(precompute._encode_views)(tower, views)
    np.testing.assert_allclose(theirs, ours, atol=1e-4)
    # Either way the manifest names the same network.
    assert model_hash(load(tmp_path / "theirs")[0]["clip"]) == model_hash(tower)
